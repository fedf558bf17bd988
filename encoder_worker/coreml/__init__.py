"""Core ML packages of the vision tower: their description, their inputs, and ways to execute them.

Start with ``manifest.py`` (a build: the packages of one model with their options). ``tower_inputs.py`` makes the arrays
that a function takes, ``package.py`` reads a saved ``.mlpackage``, ``interpreter.py`` executes it with numpy on any
machine, ``operations.py`` is what it can compute. The packages are written by ``tools/coreml/build.py``.

``device_tower.py`` runs packages by Core ML itself: ``compiled_packages.py`` compiles them, ``prediction.py`` holds the
only call of ``predict``, ``compiler_messages.py`` finds failures that standard error alone reports. Before its first
use on a machine a build is tried in child processes (``probing.py`` judges, ``probe_process.py`` runs ``probe.py``) by
the page of ``golden_page.py``; ``residency.py`` queries where operations run, and ``admission.py`` decides.
"""
