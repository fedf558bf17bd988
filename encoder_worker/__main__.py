"""``python -P -m dotsctl.encoder_worker``: the encoder worker process; started by the runtime."""

from dotsctl.encoder_worker.main import main

main()
