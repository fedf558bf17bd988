"""``python -P -m dotsctl.tools.quantise`` measures what smaller weights cost."""

from dotsctl.tools.quantise.main import main

main()
