"""``python -P -m dotsctl.tools.dev.chaos`` kills what runs, and counts."""

from dotsctl.client.cli.main import run_command
from dotsctl.tools.dev.chaos.main import command

run_command(command)
