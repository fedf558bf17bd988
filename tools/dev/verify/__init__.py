"""Our tower and decoder against references on the same weights. Read ``run.py`` first: one run from model to report.

``stages.py`` declares what is compared, ``own.py``, ``peer.py``, ``references.py`` and ``stored.py`` compute or load
it, ``compare.py`` judges. The packages of a Core ML build are compared in ``coreml``.
"""
