"""``python -P -m dotsctl.tools.compare`` is ``dotsctl compare``."""

from dotsctl.client import cli_tools
from dotsctl.tools.compare.main import run

cli_tools.main(cli_tools.compare, run)
