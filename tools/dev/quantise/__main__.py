"""``python -P -m dotsctl.tools.dev.quantise`` measures what smaller weights cost."""

from dotsctl.tools.dev.quantise.main import main

main()
