"""Experiments with processes that die or last long. Read ``main.py`` first: four experiments with real processes.

``workers.py`` kills the workers, ``everything.py`` all processes, ``swaps.py`` swaps
encoders, ``soak.py`` reads very many pages. ``simulation.py``
takes no process at all: it runs the coordinator through schedules from a seed.
"""
