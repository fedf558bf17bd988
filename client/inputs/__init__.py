"""The inputs: files, bytes, pictures and arrays become pages.

Start with ``pages.py``. ``sources.py`` expands the arguments of the command line, ``selection.py`` holds chosen pages,
resolution and password. Files are opened by the render process of ``protocol/render``.
"""
