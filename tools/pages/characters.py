"""The characters that are printed on pages and that the demo model can write."""

ASCII = "".join(chr(code) for code in range(33, 127))
ACCENTED = "".join(chr(code) for code in range(0xC0, 0x100) if chr(code).isalpha()) + "ŒœŠšŽž"
"""The letters of Western European languages beyond ASCII: those of Latin-1, and six that French and Finnish need."""
MARKS = "¡¿«»§°£€–—‘’“”„…"
"""Punctuation and signs beyond ASCII."""
CHARACTERS = ASCII + ACCENTED + MARKS
"""Every printed character, without the blank."""
