"""dotsctl: dots.ocr in two long-lived worker processes.

The public names are imported when they are first asked for, so that ``import dotsctl`` costs nothing in workers
and on the command line.
"""

__version__ = "0.1.0"
