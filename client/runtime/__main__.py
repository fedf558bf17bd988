"""``python -P -m dotsctl.client.runtime``: the runtime process; started by ``dotsctl.client.connection.launch``."""

from dotsctl.client.runtime.main import main

main()
