"""Speeds of Apple's chips, for a first estimate before anything is measured on the machine itself.

None of these figures were measured with dotsctl.

- GPU and memory: prompt and generation speeds of LLaMA 7B (Q4_0) with llama.cpp, contributed by users to
  https://github.com/ggml-org/llama.cpp/discussions/4167. A prompt token takes two operations for each of 6.74e9
  weights, and each generated token reads 3.83e9 bytes. M5: the figures of M4 times 3.5 (prompt) and 1.2 (generation),
  from https://machinelearning.apple.com/research/exploring-llms-mlx-m5.
- Neural Engine: M1 and M2 derived from Apple's table of Stable Diffusion 2.1 steps
  (https://github.com/apple/ml-stable-diffusion), M4 and M5 from half precision products measured by ANEForge. M3 counts
  as M2, for which there is a source. Pro, Max and Ultra have the Neural Engine of their generation; a program uses one.
"""

from dataclasses import dataclass

LLAMA_WEIGHTS = 6.74e9
LLAMA_BYTES = 3.83e9
PROMPT_AND_GENERATION: dict[str, tuple[float, float]] = {
    "M1": (118, 14.2),
    "M1 Pro": (266, 36.4),
    "M1 Max": (530, 61.2),
    "M1 Ultra": (1030, 83.7),
    "M2": (180, 21.9),
    "M2 Pro": (294, 37.9),
    "M2 Max": (671, 66.0),
    "M2 Ultra": (1238, 94.3),
    "M3": (187, 21.3),
    "M3 Pro": (341, 30.7),
    "M3 Max": (759, 66.3),
    "M3 Ultra": (1471, 92.1),
    "M4": (221, 24.1),
    "M4 Pro": (440, 50.7),
    "M4 Max": (886, 83.1),
    "M5": (774, 28.9),
    "M5 Max": (3347, 119.1),
}
"""Tokens a second of a prompt of 512 tokens, and of generation."""
NE_TFLOPS = {"M1": 3.5, "M2": 4.9, "M3": 4.9, "M4": 7.0, "M5": 9.0}
"""Effective 1e12 operations a second of the vision tower on the Neural Engine, by generation."""


@dataclass(frozen=True)
class ChipSpeed:
    """Effective speeds of one chip."""

    gpu_flops: float
    """Operations a second of large matrix products on the GPU."""
    ne_flops: float
    """Operations a second of the vision tower on the Neural Engine."""
    bytes_per_s: float
    """Bytes of weights that the GPU reads a second while it generates tokens."""


def chip_speed(chip: str) -> ChipSpeed | None:
    """The speeds of a chip, named as in ``Apple M2 Pro``; none: there is no source for it, as for a chip of a PC."""
    name = chip.removeprefix("Apple ")
    if name == chip or name not in PROMPT_AND_GENERATION:
        return None
    prompt, generation = PROMPT_AND_GENERATION[name]
    return ChipSpeed(
        gpu_flops=prompt * 2 * LLAMA_WEIGHTS,
        ne_flops=NE_TFLOPS[name.split()[0]] * 1e12,
        bytes_per_s=generation * LLAMA_BYTES,
    )
