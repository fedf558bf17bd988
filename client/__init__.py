"""The library and the command line: submits pages to a runtime and writes results.

Start with ``api.py`` (``Client``). ``cli.py`` holds the commands, ``inputs.py`` turns files into pages, ``outputs.py``
turns results into files, ``config.py`` reads every setting, ``runtime/`` is the process between client and workers.
"""
