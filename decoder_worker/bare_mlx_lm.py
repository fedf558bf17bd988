"""Makes ``mlx_lm`` importable without its ``__init__``; import this before any module of mlx-lm.

The decoder needs two modules of the package. ``mlx_lm/__init__.py`` imports its command line and with it transformers,
which takes more than a second of CPU time and 34 MB in every decoder worker. ``mlx_lm.utils`` and others still import.
"""

import importlib.util
import sys

if "mlx_lm" not in sys.modules and (spec := importlib.util.find_spec("mlx_lm")) is not None:
    sys.modules["mlx_lm"] = importlib.util.module_from_spec(spec)
