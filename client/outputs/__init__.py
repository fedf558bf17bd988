"""The outputs of results: standard output, one file, or a folder with a journal.

Start with ``destination.py`` and ``folder_output.py``.
"""
