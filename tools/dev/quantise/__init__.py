"""The cost of smaller weights of a Core ML build. Read ``main.py`` first, the sweep.

``layers.py`` compares each layer with the tower in float64, ``report.py`` writes the table and the plot.
"""
