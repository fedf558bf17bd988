"""dots.ocr computed from its formulas, to compare with. Read ``exact_tower.py`` first: the tower in float64.

``torch_model.py`` is tower and decoder in PyTorch, ``golden.py`` stores the result of one page with a build, and
``tower_tensors.py`` reads the weights without a library.
"""
