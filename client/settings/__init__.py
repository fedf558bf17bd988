"""The user's choices, read from options, environment and configuration file in one place.

Start with ``choices.py``. ``runtime_config.py`` is what a runtime is started with, ``memory_plan.py`` its memory limit
and ``auto_encoder.py`` the plan behind ``--encoder auto``.
"""
