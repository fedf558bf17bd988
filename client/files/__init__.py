"""Writing files: complete or not at all, whatever happens meanwhile."""
