"""Refusals of values while a message is built; the codec turns the ValueError into a ProtocolError with the path."""


def require(condition: bool, problem: str) -> None:
    """Refuse a value. Raises ValueError."""
    if not condition:
        raise ValueError(problem)


def require_text(name: str, text: str, max_bytes: int) -> None:
    """Refuse a text that is too long, or has no form in UTF-8, as the bytes of a name that is none."""
    require(utf8_bytes(name, text) <= max_bytes, f"{name} is longer than {max_bytes} bytes")


def utf8_bytes(name: str, text: str) -> int:
    """Return the length of a text in UTF-8. Raises ValueError for one that has no form in it."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name} is not UTF-8 text") from None
