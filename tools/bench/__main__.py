"""``python -P -m dotsctl.tools.bench`` is ``dotsctl bench``."""

from dotsctl.tools.bench.main import main

main()
