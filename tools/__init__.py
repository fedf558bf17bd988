"""Programs around the runtime, started as ``python -P -m dotsctl.tools.NAME``; nothing imports them but tests.

A file here is a program, and so is a package with a ``__main__.py``, whose docstring says what to read first. The
other packages are what programs share: ``coreml``, ``demo``, ``measuring``, ``pages`` and ``reference``.
``derived.py`` puts into its place what is made from a model.
"""
