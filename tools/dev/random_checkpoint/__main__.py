"""``python -P -m dotsctl.tools.dev.random_checkpoint`` writes a checkpoint of random weights."""

from dotsctl.tools.dev.random_checkpoint.checkpoint import main

main()
