"""Checkpoints that mlx-vlm has converted, and its answers, to compare ours with. Read ``builds.py`` first.

``peer.py`` is the part that runs in an environment of its own, ``environment.py`` makes that, ``stored.py`` keeps small
builds for CI.
"""
