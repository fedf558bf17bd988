"""The runtime process: coordinator and supervisor. Pure I/O; imports neither numpy nor a model library.

Start with ``core.py``: the state machine that decides everything and knows no sockets. ``loop.py`` connects it to
sockets and child processes, ``supervisor.py`` starts, watches and ends the workers, ``ledger.py`` holds the requests,
``patience.py`` judges silence. ``encoder_choice.py`` says which encoder a page goes to; ``auto.py`` chooses between
two, with ``page_size.py``, ``pace.py`` (measures) and ``throughput.py`` (judges).
"""
