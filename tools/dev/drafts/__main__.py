"""``python -P -m dotsctl.tools.dev.drafts`` plays drafts on a recorded answer."""

from dotsctl.tools.dev.drafts.main import main

main()
