"""``python -P -m dotsctl.client`` is ``dotsctl``."""

from dotsctl.client.cli import main

main()
