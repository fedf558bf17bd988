"""The plugins that are used where the user has chosen none; no other module outside of the plugins names them."""

AUTO = "auto"
"""The encoder by default: a choice between two encoders, which are the following."""
AUTO_FIRST = "mlx"
"""Takes pages of any size on every machine."""
AUTO_SECOND = "coreml"
"""The encoder that is used for the pages that it reads sooner."""
DECODER = "mlx"
MAX_TIMEOUT_S = 31_536_000
"""Upper limit of all timeouts, a year: the system refuses to wait until times that are much later."""
