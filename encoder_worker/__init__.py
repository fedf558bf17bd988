"""The process that turns page images into embeddings.

Start with ``service.py`` (the loop) and ``plugin.py`` (what an encoder has to offer). ``main.py`` is the process shell,
``image.py`` makes patches of pictures, ``plugins/`` holds the encoders.
"""
