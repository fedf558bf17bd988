"""The way from an answer of the model to the record of a page.

Start with ``page.py``. ``answers.py`` knows which tasks have cells, ``cells.py`` and ``scene.py`` parse them while they
are written, ``cell_repair.py`` parses damaged ones, ``markdown.py`` makes Markdown and plain text of them.
``lines.py`` lays cells on lines and words: ``ink.py`` sees the page, ``alignment.py`` matches ink and text.
"""
