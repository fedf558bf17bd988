"""Everything that two processes of dotsctl must agree on; imports nothing else of the project.

Start with ``messages.py`` (the messages of each process; ``parts.py`` holds what they are made of) and ``SPEC.md``
(their form on the wire). ``codec.py`` converts a message to frames and checks every received byte, ``tensor.py`` does
the same for arrays, ``typed_values.py`` checks the types of plain values. ``link.py`` is the only file that imports
ZeroMQ, ``endpoints.py`` is the runtime directory, ``errors.py`` the tree of errors, ``geometry.py`` maps boxes.

``model/`` is about checkpoints and their limits, ``worker/`` what both workers share, ``machine/`` about the machine.
"""

import re

PROTOCOL_VERSION = (2, 0)
"""Major and minor version of the wire, apart from the version of the package."""


RELEASE = re.compile(r"[0-9]+\.[0-9]+\S* with protocol [0-9]+\.[0-9]+")


def is_release(text: str) -> bool:
    """Check whether a client is a release of dotsctl by its ``version``; other programs send any other text."""
    return RELEASE.fullmatch(text) is not None


def release(version: str) -> str:
    """Return what two processes must have in common: the ``version`` of the package with that of the wire."""
    return f"{version} with protocol {PROTOCOL_VERSION[0]}.{PROTOCOL_VERSION[1]}"
