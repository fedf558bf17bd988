"""``python -P -m dotsctl.tools.dev.mlx_vlm_builds`` compares our answers with mlx-vlm's on its own builds."""

from dotsctl.tools.dev.mlx_vlm_builds.main import main

main()
