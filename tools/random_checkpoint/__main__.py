"""``python -P -m dotsctl.tools.random_checkpoint`` writes a checkpoint of random weights."""

from dotsctl.tools.random_checkpoint.checkpoint import main

main()
