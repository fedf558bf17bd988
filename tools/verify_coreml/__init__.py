"""``verify --encoder coreml``: a build against the MLX tower and float64. Read ``comparison.py`` first.

``streams.py`` converts the results of three towers to one form, ``device.py`` measures what only a Mac can.
"""
