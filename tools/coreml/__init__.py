"""Core ML packages of a model's vision tower, written on macOS or Linux. Read ``build.py`` first, then ``tower.py``.

``command.py`` is the way from ``dotsctl convert``, ``options.py`` what a user may choose. The packages are read and
run by ``dotsctl.encoder_worker.coreml``.
"""
