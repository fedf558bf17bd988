"""Measures the magnitudes inside a model and plans its scaling for float16: ``dotsctl convert MODEL --float16``.

``pages.py`` draws what is measured, ``encoder.py`` and ``decoder.py`` measure the halves layer by layer, ``trial.py``
computes the planned model in float16 and compares it, ``command.py`` keeps the plans. The planning itself is in
``dotsctl.protocol.model.half_precision``.
"""
