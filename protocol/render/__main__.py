"""``python -P -m dotsctl.protocol.render``: the render process; :mod:`dotsctl.protocol.render.process` starts it."""

from dotsctl.protocol.render.child import main

main()
