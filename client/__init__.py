"""The library and the command line: submits pages to a runtime and writes results.

Start with ``api.py`` (``Client``) and ``cli/`` (the commands). Files become pages in ``inputs/``, go through a runtime
in ``jobs/`` over a ``connection/``, become records in ``results/``, text and pictures in ``formats/``, and reach the
disk in ``outputs/`` and ``files/``. ``settings/`` reads every choice of the user, ``models/`` installs and shows
models.

``runtime/`` is the process between client and workers, ``package/`` the package ``dotsctl`` itself, ``demo_model/`` the
model that ships. Sub-packages import each other in one direction only; ``tests/unit/test_imports.py`` checks it.
"""
