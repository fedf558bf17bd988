"""Core ML packages of a model's vision tower, written on macOS or Linux. Read ``build.py`` first, then ``tower.py``.

``command.py`` is the way from ``dotsctl convert``, ``options.py`` what a user may choose. ``lint.py`` and
``lint_values.py`` hold the rules that packages keep, ``lab.py`` writes one-layer packages for measurements on a Mac.
The packages are read and run by ``dotsctl.encoder_worker.coreml``.
"""
