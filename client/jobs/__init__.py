"""The pages of one call on their way through a runtime.

Start with ``calls.py``, which is what ``Client`` and ``AsyncClient`` share, and ``job.py``, which keeps the window
full.
"""
