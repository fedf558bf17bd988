"""Everything that two processes of dotsctl must agree on; imports nothing else of the project.

Start with ``messages.py`` (who says what to whom; ``parts.py`` is what they are made of) and ``SPEC.md`` (how it looks
on the wire). ``codec.py`` turns a message into frames and checks every received byte, ``tensor.py`` does the same for
arrays, ``link.py`` is the only file that knows ZeroMQ, ``endpoints.py`` makes the runtime directory, ``errors.py``
draws the error tree. ``geometry.py`` maps boxes, ``pixels.py`` reads pictures, ``tasks.py`` names what can be asked.

``model_directory.py`` finds models, ``checkpoint_validation.py`` refuses broken ones before anything is loaded, by
the other ``checkpoint`` files and ``safetensors_header.py``; ``memory.py`` refuses those that are too large.
``verdicts.py`` remembers how Core ML packages did on this ``machine.py``, for encoder and client.
``worker_shell.py`` and ``blas.py`` are for both workers, ``fakes.py`` for both fake plugins.
"""

PROTOCOL_VERSION = (2, 0)
"""Major and minor version of the wire, apart from the version of the package."""
