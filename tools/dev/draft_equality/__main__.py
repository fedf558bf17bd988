"""``python -P -m dotsctl.tools.dev.draft_equality`` compares answers with and without drafts."""

from dotsctl.tools.dev.draft_equality.main import main

main()
