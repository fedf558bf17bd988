"""The process that turns embeddings and a prompt into text.

Start with ``service.py`` (the loop) and ``plugin.py`` (what a decoder has to offer). ``main.py`` is the process shell;
``plugins/`` holds the decoders.
"""
