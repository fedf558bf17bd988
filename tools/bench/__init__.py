"""``dotsctl bench``: speed, and the energy of a Mac. Read ``main.py`` first: a command for each other file.

``pipeline.py``, ``transport.py`` and ``control.py`` measure the runtime with fake plugins, ``simulation.py`` counts
schedules of the coordinator, ``energy.py`` reads the power meter.
"""
