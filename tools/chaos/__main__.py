"""``python -P -m dotsctl.tools.chaos`` kills what runs, and counts."""

from dotsctl.client.cli_tools import main
from dotsctl.tools.chaos.main import command, run

main(command, run)
