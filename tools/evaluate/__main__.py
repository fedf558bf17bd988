"""``python -P -m dotsctl.tools.evaluate`` measures how well a model reads."""

from dotsctl.tools.evaluate.main import main

main()
