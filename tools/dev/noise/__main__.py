"""``python -P -m dotsctl.tools.dev.noise`` measures how exact an encoder must be."""

from dotsctl.tools.dev.noise.main import main

main()
