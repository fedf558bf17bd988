"""Fuzzing of everything that reads bytes. Read ``targets.py`` first: a function for each reader.

``main.py`` is the command, ``mutation.py`` the fuzzer that needs no further library.
"""
