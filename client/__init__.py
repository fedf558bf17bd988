"""The library and the command line: submits pages to a runtime and writes results.

Start with ``api.py`` (``Client``) and ``cli.py`` (the commands). ``settings.py`` reads every choice of the user,
``launch.py`` starts and stops runtimes, ``session.py`` talks to one, ``job.py`` brings pages through it. ``calls.py``
is what ``Client`` and ``AsyncClient`` have in common, ``waiting.py`` what they have not.
``sources.py`` and ``inputs.py`` turn files into pages.

``records.py`` is what comes back: ``answers.py`` knows which tasks have cells, ``cells.py`` and ``scene.py`` read them
while they are written, ``cell_repair.py`` reads the damaged ones. ``outputs.py`` brings it to its place: ``render.py``,
``markdown.py``, ``latex.py``, ``tables.py``, ``html_view.py``, ``overlay.py`` and ``pictures.py`` make the formats,
``writers.py``, ``naming.py``, ``journal.py``, ``page_store.py`` and ``part_file.py`` the files.

``runtime/`` is the process between client and workers, ``demo_model/`` the model that ships.
"""
