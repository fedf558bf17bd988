"""The parts that both worker processes share: process shell, BLAS, GPU errors, options of the fake plugins."""
