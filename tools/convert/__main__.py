"""``python -P -m dotsctl.tools.convert`` is ``dotsctl convert``."""

from dotsctl.client import cli_tools
from dotsctl.tools.convert.main import run

cli_tools.main(cli_tools.convert, run)
