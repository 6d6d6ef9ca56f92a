"""JSON from others, with a bound on its nesting that is checked before it is parsed.

Python's parser calls itself for each level and stops at the interpreter's recursion limit. Libraries raise that limit
when they are imported (py-evm, jedi in a notebook's kernel), and then a file of brackets ends the process.
"""

from __future__ import annotations

import json
import re
from typing import Any

NESTING_LIMIT = 200
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def load_json(data: bytes | str, *, nesting: int = NESTING_LIMIT, **options: Any) -> Any:
    """What `json.loads` gives.

    Args:
        data: the text, or its bytes in UTF-8, of a length that the caller has bounded.
        nesting: how many arrays and objects may stand in each other.
        options: as for `json.loads`.
    Raises:
        ValueError: the text is no JSON, or nested deeper than that.

    >>> load_json(b'{"a": ["[[["]}', nesting=2)
    {'a': ['[[[']}
    """
    text = data.decode() if isinstance(data, bytes) else data
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first != '"':
            depth += 1 if first in "[{" else -1
            if depth > nesting:
                raise ValueError(f"nested deeper than {nesting} levels")
    return json.loads(text, **options)
