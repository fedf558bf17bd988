"""Errors of a model on pages whose content is known. Read ``main.py`` first, then ``evaluation.py``.

``evaluation.py`` reads the pages and sums up, ``report.py`` writes the worst of them as HTML.
"""
