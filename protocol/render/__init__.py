"""Opening of untrusted documents, in a separate process.

``process.py`` starts and replaces that process and ``document.py`` requests pages from it; both are used by the client
and by the encoder worker. ``child.py`` is the process itself: it opens pictures through ``pictures.py`` and PDFs
through ``pdf.py``, within a bound of memory.
"""
