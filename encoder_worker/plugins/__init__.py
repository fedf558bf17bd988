"""Encoders that come with dotsctl; each is registered as an entry point like a stranger's.

Their names, for tools that are about one of them.
"""

MLX = "mlx"
COREML = "coreml"
FAKE = "fake"
