"""``python -P -m dotsctl.tools.verify`` compares with references."""

from dotsctl.tools.verify.main import main

main()
