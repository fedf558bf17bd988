"""``dotsctl doctor``: what users stumble over. Read ``main.py`` first, the list of checks, then ``report.py``.

Each other file holds the checks of one thing; ``child.py`` runs in a process of its own what may crash or hang.
"""
