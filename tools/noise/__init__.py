"""How exact an encoder must be, by noise of known size on its embeddings. Read ``main.py`` first.

``text_change.py`` measures what other embeddings do to the text; ``dotsctl.tools.quantise`` uses it too.
"""
