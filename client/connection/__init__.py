"""The client's side of a runtime: starting and finding one, and the messages to and from it.

Start with ``session.py`` (one conversation) and ``wire.py`` (the thread that owns the socket). ``attach.py`` finds the
running runtime or starts a private one with ``launch.py``; ``window.py`` limits the pages in flight.
"""
