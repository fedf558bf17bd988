"""``python -P -m dotsctl.tools.fuzz`` fuzzes the readers of bytes."""

from dotsctl.tools.fuzz.main import main

main()
