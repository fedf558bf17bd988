"""``python -P -m dotsctl.tools.noise`` measures how exact an encoder must be."""

from dotsctl.tools.noise.main import main

main()
