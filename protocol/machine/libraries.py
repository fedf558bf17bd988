"""Names of distributions and of extras of dotsctl, some of which are those of plugins too. Imports none of them."""

MLX = "mlx"
MLX_LM = "mlx-lm"
COREMLTOOLS = "coremltools"
MLX_EXTRA = "mlx"
COREML_EXTRA = "coreml"
