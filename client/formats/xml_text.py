"""Text as XML takes it. Pure."""

import re
from xml.sax.saxutils import escape, quoteattr

FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold in any form."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def content(text: str) -> str:
    """Return a text as the content of an element."""
    return escape(FORBIDDEN.sub(REPLACEMENT, text))


def attribute(text: str) -> str:
    """Return a text as the value of an attribute, with its quotes."""
    return quoteattr(FORBIDDEN.sub(REPLACEMENT, text), {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})
