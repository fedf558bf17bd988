"""The accuracy that an encoder must have, measured by noise of known size on its embeddings. Read ``main.py`` first.

``text_change.py`` measures what other embeddings do to the text; ``dotsctl.tools.dev.quantise`` uses it too.
"""
