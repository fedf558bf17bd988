"""Plays drafts on recorded answers: tokens a pass and speed, without a model.

``main.py`` is the command, ``playing.py`` the scheduler with a model that knows the answer, ``hints.py`` reads answers
and hints, ``splitting.py`` tokenizers.
"""
