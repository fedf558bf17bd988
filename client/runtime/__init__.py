"""The runtime process: coordinator and supervisor. Pure I/O; imports neither numpy nor a model library.

Start with ``core.py``: the state machine that decides everything and knows no sockets. ``loop.py`` connects it to
sockets and child processes, ``supervisor.py`` starts, watches and ends the workers, ``ledger.py`` holds the requests,
``patience.py`` judges silence.
"""
