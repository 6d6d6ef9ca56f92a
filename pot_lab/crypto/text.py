"""Which characters a record may hold: fixed code point ranges, the same on every host.

`str.isprintable`, `str.isalpha` and `repr` ask tables that grow with each release of Unicode, and so of Python. A rule
of the ledger that asked them would be decided differently by aggregators on different releases, whose ledgers would
then part for ever.
"""

from __future__ import annotations

_UNWANTED = (
    (0x0000, 0x001F),  # C0 controls
    (0x007F, 0x00A0),  # DEL, C1 controls, no-break space
    (0x00AD, 0x00AD),  # soft hyphen
    (0x061C, 0x061C),  # Arabic letter mark
    (0x180E, 0x180E),  # Mongolian vowel separator
    (0x200B, 0x200F),  # zero width, direction marks
    (0x2028, 0x202E),  # line and paragraph separators, direction overrides
    (0x2060, 0x206F),  # invisible operators, direction isolates
    (0xD800, 0xF8FF),  # surrogates, private use
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFF0, 0xFFFF),  # specials
    (0xE0000, 0x10FFFF),  # tags, private use
)
"""Code points that show nothing, or that change how their neighbours are shown."""


def unwanted_character(text: str) -> str | None:
    """The first character of `text` that a record may not hold, as `U+XXXX`; None where there is none.

    >>> unwanted_character("Ziffern, 数字") is None
    True
    >>> unwanted_character("two\\nlines")
    'U+000A'
    """
    for character in text:
        point = ord(character)
        if any(first <= point <= last for first, last in _UNWANTED) or point & 0xFFFE == 0xFFFE:
            return f"U+{point:04X}"
    return None


def is_printable_ascii(text: str) -> bool:
    """Whether every character is one of U+0020 to U+007E: what an address may consist of."""
    return all(" " <= character <= "~" for character in text)
