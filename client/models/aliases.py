"""Short names of the models on the Hub, and the owners under which the Hub has had them."""

from dotsctl.protocol.errors import UsageError

PUBLISHERS = ("rednote-hilab", "dots-studio")
"""The owner of the original models under its older and its present name."""
CONVERTER = "mlx-community"
"""The owner of the builds that mlx-vlm has converted."""
MODELS = ("dots.ocr", "dots.mocr")
BUILDS = ("bf16", "4bit", "5bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4")
"""The builds of each model, by the end of the name of a repository: ``dots.mocr-4bit``."""


def repositories(name: str) -> tuple[str, ...]:
    """Return the repositories that a name may stand for, in the order in which they are tried.

    Args:
        name: ``OWNER/NAME``, or the short name of a model or build.

    Raises:
        UsageError: it is no short name that is known.
    """
    owner, slash, model = name.rpartition("/")
    if slash:
        others = [each for each in PUBLISHERS if each != owner] if owner in PUBLISHERS else []
        return (name, *(f"{other}/{model}" for other in others))
    short = name.lower()
    if short in MODELS:
        return tuple(f"{publisher}/{short}" for publisher in PUBLISHERS)
    if short in {f"{each}-{build}" for each in MODELS for build in BUILDS}:
        return (f"{CONVERTER}/{short}",)
    raise UsageError(
        f"{name!r} is neither a repository nor a short name",
        f"write OWNER/NAME, or {' or '.join(MODELS)}, with -{' or -'.join(BUILDS)} behind it for a converted build",
    )
