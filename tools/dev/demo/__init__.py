"""The demo model in PyTorch, as ``dotsctl.tools.dev.train`` trains it. Read ``network.py`` first, then ``batches.py``.

``tower.py`` is its vision half, ``checkpoint.py`` writes it as the files of a dots.ocr snapshot,
``together.py`` is for several processes that train one network.
"""
