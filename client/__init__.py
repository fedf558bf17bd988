"""The library and the command line: submits pages to a runtime and writes results.

Start with ``api.py`` (``Client``) and ``cli.py`` (the commands). ``settings.py`` reads every choice of the user,
``launch.py`` starts and stops runtimes, ``session.py`` talks to one, ``job.py`` brings
pages through it. ``sources.py`` and ``inputs.py`` turn files into
pages; ``records.py`` and ``cells.py`` are what comes back; ``outputs.py``, ``render.py``, ``naming.py`` and
``journal.py`` write it. ``runtime/`` is the process between client and workers, ``demo_model/`` the model that ships.
"""
