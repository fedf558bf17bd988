"""Measures lines and words by ink projection on generated pages with true boxes.

``pages.py`` generates the pages, ``score.py`` compares boxes, ``__main__.py`` is the command.
"""
