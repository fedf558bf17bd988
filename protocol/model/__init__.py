"""A model on the disk: finding it, validating it before anything is loaded, and its tasks.

Start with ``directory.py`` (name, path, fingerprint) and ``validation.py``, which refuses broken checkpoints by the
rules in ``config.py``, ``layout.py``, ``tokenizer.py`` and ``safetensors_header.py``.
"""
