"""Programs around the runtime, started as ``python -P -m dotsctl.tools.NAME``; nothing imports them but tests.

A file here is a program, and so is a package with a ``__main__.py``, whose docstring names the file to read first. The
other packages are shared by programs: ``coreml``, ``demo``, ``measuring``, ``pages`` and ``reference``. ``derived.py``
installs what is derived from a model.
"""
