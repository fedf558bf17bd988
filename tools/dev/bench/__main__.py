"""``python -P -m dotsctl.tools.dev.bench``."""

from dotsctl.tools.dev.bench.main import main

main()
