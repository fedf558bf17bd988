"""``python -m dotsctl`` and ``dotsctl``: signals are taken before the rest is imported."""

from dotsctl.client.cli.signals import leave_at_signals


def main() -> None:
    """Entry point of the command ``dotsctl``."""
    leave_at_signals()
    from dotsctl.client.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
