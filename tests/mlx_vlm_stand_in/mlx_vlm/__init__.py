"""A stand-in for mlx-vlm that answers every page with as many tokens as are requested, for tests of the comparison."""

from types import SimpleNamespace


def load(model):
    """Return a model and its processor."""
    return SimpleNamespace(config={}), None


def batch_generate(model, processor, *, images, prompts, max_tokens):
    """Answer all pages together."""
    assert len(images) == len(prompts)
    return SimpleNamespace(stats=SimpleNamespace(generation_tokens=len(images) * max_tokens))


def stream_generate(model, processor, prompt, *, image, max_tokens, temperature):
    """Answer one page token by token."""
    for count in range(1, max_tokens + 1):
        yield SimpleNamespace(generation_tokens=count)
