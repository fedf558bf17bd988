"""The formats of results, a file each; ``registry.py`` lists them, ``format.py`` declares what a format is.

A new format is a module here with an object ``FORMAT``, and its name in ``registry.FORMATS``: the command line, the
endings of files and :meth:`Document.save` find it there. ``stream.py`` orders pages, ``style.py`` holds what the user
chose, ``pictures.py`` and ``html_view.py`` draw. ``page_lines.py`` and ``xml_text.py`` are shared by hOCR and ALTO, and
the files whose names begin with ``pdf_`` belong to ``pdf.py``.
"""
