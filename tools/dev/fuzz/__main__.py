"""``python -P -m dotsctl.tools.dev.fuzz`` fuzzes the readers of bytes."""

from dotsctl.tools.dev.fuzz.main import main

main()
