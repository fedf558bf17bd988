"""The shared parts of the measuring programs: plugins without a runtime, distances, plots. Read ``encoding.py`` first.

``encoding.py`` and ``decoding.py`` run one plugin each on pages, ``reading.py`` is the MLX decoder that can also be led
along a given answer. ``distance.py`` compares embeddings, ``scores.py`` texts and boxes. Reports take their origin from
``made_by.py`` and their form from ``report_page.py`` (HTML) and ``report_text.py`` (terminal).
"""
