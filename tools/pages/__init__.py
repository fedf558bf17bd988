"""Pages to train and to measure on, with their truth. Read ``generator.py`` first: a page from a seed.

It prints ``blocks.py`` on a ``sheet.py`` and adds the ``noise.py`` of a scanner; ``lines.py`` prints plain lines.
``truths.py`` and ``source.py`` give pages to the measuring programs, drawn ones or the user's.
"""
