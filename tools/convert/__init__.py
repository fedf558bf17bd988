"""``dotsctl convert``: smaller or faster forms of a model. Read ``main.py`` first.

``decoder.py`` quantises the text half here; Core ML packages of the tower are made by ``dotsctl.tools.coreml``.
"""
