"""Programs for this repository alone, not part of the wheel; ``tools/README.md`` is their manual."""
