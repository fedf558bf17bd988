"""``dotsctl doctor --coreml``: everything that only a Mac can show of the Core ML encoder, in one report to send back.

``main.py`` is the command and runs the sections in order, each in a child process with a deadline
(``section_process.py``); ``sections.py`` holds what they do, ``laboratory.py`` the trials of one-layer packages,
``report.py`` the file that is written after each.
"""
