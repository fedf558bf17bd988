"""``verify --encoder coreml``: a build against the MLX tower and float64. Read ``comparison.py`` first.

``streams.py`` brings the results of three towers into one form, ``device.py`` measures what only a Mac can.
"""
