"""How a notebook reports its progress: one display slot with our MIME type, updated in place.

Works in any kernel and needs no connection: the papermill engine, the sidebar and a widget read the same output.
Outside of a kernel reports are dropped. They are rate-limited here and once more where they are logged.
"""

from __future__ import annotations

import math
import time
from typing import Any

MIME = "application/vnd.pot-lab.progress+json"
EVERY_S = 0.25


class Progress:
    """Report the steps of a job.

    Args:
        total: the number of steps, or None when it is not known.
        every_s: the least time between two reports; the last step is always reported.

    Call it with the step's number, from 1, and named values. Values are numbers, strings, booleans or None; what JSON
    cannot hold (NaN, infinity) becomes None.

    Example:
        >>> progress = Progress(100)
        >>> progress(1, loss=0.3, accuracy=0.91)
    """

    def __init__(self, total: int | None = None, *, every_s: float = EVERY_S) -> None:
        self.total = total
        self._every_s = every_s
        self._last_s = -math.inf
        self._handle: Any = None

    def __call__(self, step: int, **values: Any) -> None:
        now_s = time.monotonic()
        if step != self.total and now_s - self._last_s < self._every_s:
            return
        self._last_s = now_s
        own = {"step": step, "total": self.total}  # a value of the same name must not stand for them
        self._show({**own, **{name: _plain(value) for name, value in values.items()}, **own})

    def _show(self, data: dict[str, Any]) -> None:
        from IPython.core.getipython import get_ipython

        if get_ipython() is None:
            return
        from IPython.display import display

        bundle = {MIME: data, "text/plain": _line(data)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    try:
        number = float(value)  # numpy and torch scalars too
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None


def _line(data: dict[str, Any]) -> str:
    total = "" if data["total"] is None else f"/{data['total']}"
    rest = " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in data.items()
        if name not in ("step", "total")
    )
    return f"step {data['step']}{total} {rest}".rstrip()
