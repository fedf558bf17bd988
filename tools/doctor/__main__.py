"""``python -P -m dotsctl.tools.doctor`` is ``dotsctl doctor``."""

from dotsctl.client import cli_tools
from dotsctl.tools.doctor.main import run

cli_tools.main(cli_tools.doctor, run)
