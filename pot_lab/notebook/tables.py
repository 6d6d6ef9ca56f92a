"""Facts as lines of text and as a small table; everything that others wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

Facts = Sequence[tuple[str, str]]


def facts_text(title: str, facts: Facts) -> str:
    """A title and facts in lines of text."""
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in facts)])


def facts_html(title: str, facts: Facts) -> str:
    """The same as a table with row headers."""
    rows = "".join(
        f"<tr><th scope='row' style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in facts
    )
    return f"<table><caption style='text-align:left'>{html.escape(title)}</caption>{rows}</table>"
