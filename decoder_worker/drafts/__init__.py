"""Guesses of the next tokens of a page: from its hint, from the form of a layout answer, and from the answer itself.

The decoder scores guesses in one pass and keeps those that it would have chosen itself, so a guess never changes the
text. Everything here is pure; ``page_drafter.py`` puts the sources together.
"""
