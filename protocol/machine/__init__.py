"""This machine: its chip and versions, its memory, and what was measured of a model on it."""
