"""``python -P -m dotsctl.decoder_worker``: the decoder worker process; started by the runtime."""

from dotsctl.decoder_worker.main import main

main()
