"""``dotsctl compare``: several encoders over the same pages. Read ``main.py`` first: it runs the steps.

``encoding.py`` and ``reading.py`` produce, ``comparison.py`` holds what was found, ``html.py`` shows it.
"""
