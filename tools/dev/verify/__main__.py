"""``python -P -m dotsctl.tools.dev.verify`` compares with references."""

from dotsctl.tools.dev.verify.main import main

main()
