"""The formats of results, a file each; ``registry.py`` lists them, ``format.py`` declares what a format is.

A new format is a module here with an object ``FORMAT``, and its name in ``registry.FORMATS``: the command line, the
endings of files and :meth:`Document.save` find it there. ``stream.py`` orders pages, ``style.py`` holds what the user
chose, ``pictures.py`` and ``html_view.py`` draw.
"""
