"""``python -P -m dotsctl.tools.dev.evaluate`` measures how well a model reads."""

from dotsctl.tools.dev.evaluate.main import main

main()
