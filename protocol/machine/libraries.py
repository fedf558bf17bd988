"""Names of distributions, some of which are those of plugins too, and how they are installed. Imports none of them."""

MLX = "mlx"
MLX_LM = "mlx-lm"
COREMLTOOLS = "coremltools"

INSTALL_COREML = "pip install 'dotsctl[coreml]' (coremltools has no wheel for Python 3.14, nor for Linux on arm64)"
"""Remedy where coremltools is missing."""
