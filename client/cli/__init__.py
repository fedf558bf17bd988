"""The command line, a file for each command; everything may be imported here, and nothing imports it.

Start with ``main.py``, the group of all commands. ``reading.py``, ``runtime.py``, ``model_commands.py`` and
``tools.py`` declare commands with their options; ``ocr.py``, ``ask.py``, ``status.py``, ``models.py`` and ``pull.py``
do the work, and are imported when a command runs. ``report.py`` shows progress on standard error.
"""
