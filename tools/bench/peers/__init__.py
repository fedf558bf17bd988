"""``dotsctl bench peers``: dotsctl beside mlx-vlm, on the same checkpoint, pages, tokens and BLAS. Read ``command.py``
first.

``workload.py`` makes the pages, ``own.py`` reads them with dotsctl, ``mlx_vlm.py`` with mlx-vlm: one of its two ways is
a server, the others are ``program.py``, which runs in an environment of its own that ``environment.py`` makes.
``counted.py`` counts what a page costs at sizes that a CPU is too slow for. ``report.py`` prints the comparison.
"""
