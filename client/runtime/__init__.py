"""The runtime process: coordinator and supervisor. Pure I/O; imports neither numpy nor a model library.

Start with ``machine.py``: the state machine that decides everything and has no sockets, processes or clock; those are
in ``loop.py`` and ``processes.py``. Its parts are ``core.py`` (the coordinator, with ``outcomes.py``),
``supervisor.py`` (starts, restarts and ends of processes), ``swap.py`` and ``ending.py``. They share
``worker_table.py``, the one table of workers. ``ledger.py`` holds the requests, ``fair_queue.py`` their order,
``timeouts.py`` has the timeouts. ``encoder_choice.py`` selects the encoder of a page; ``auto.py`` chooses between
two, with ``page_size.py``, ``pace.py`` (measures) and ``throughput.py`` (judges).
"""
