"""How a training survives its process: when a checkpoint is written, without keeping the training waiting."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pot_lab.training.background import Background
from pot_lab.training.checkpoint import load_checkpoint, save_checkpoint
from pot_lab.training.errors import BadCheckpoint
from pot_lab.training.memory import free_bytes

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""A checkpoint is due this long after the last one, and after a look, if writing takes few enough of the time."""
SNAPSHOT_BYTES = 1 << 30
"""A larger state is written where it is, by the training's own thread: a copy would take too much memory."""
_CLOSING_S = 0.2


class Keeper:
    """The checkpoints of one training.

    Args:
        directory: where they are; None keeps none.
        fingerprint: names the training: model, data, settings and function.
    """

    def __init__(self, directory: Path | None, fingerprint: str) -> None:
        self._directory, self._fingerprint = directory, fingerprint
        self._background = Background("pot-lab-checkpoint")
        self._abandoned = threading.Event()
        self._saved_at = time.monotonic()

    def is_due(self, looked: bool) -> bool:
        """Whether to save now. `looked`: whether the held-out part was just looked at."""
        late = looked or time.monotonic() - self._saved_at >= EVERY_S
        return self._directory is not None and late and self._background.is_due()

    def save(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, beside: bool) -> None:
        """Write a checkpoint; a disk that does not take it is logged, and the old checkpoint stays.

        Args:
            tensors: the state; it may change as soon as this returns.
            values: what JSON can hold.
            beside: whether the training may go on meanwhile.
        """
        if self._directory is None:
            return
        size_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
        if beside and size_bytes <= min(SNAPSHOT_BYTES, free_bytes("cpu") // 4):
            kept = {name: t.detach().clone() for name, t in tensors.items()}
            self._background.put(functools.partial(self._write, kept, dict(values)))
        else:
            self._background.finish(drop=True)
            self._background.run(functools.partial(self._write, tensors, values))
        self._saved_at = time.monotonic()

    def close(self) -> None:
        """Give up what is being written; the last whole checkpoint stays."""
        self._abandoned.set()
        if self._background.finish(_CLOSING_S, drop=True):
            self._abandoned.clear()

    def open(self) -> None:
        """Begin to keep a run, after `close` too."""
        self._background.finish(drop=True)
        self._abandoned.clear()

    def _write(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        if self._directory is None:
            return
        values = {**values, "fingerprint": self._fingerprint}
        try:
            save_checkpoint(self._directory, tensors, values, abandoned=self._abandoned.is_set)
        except OSError as error:
            log.warning("event=checkpoint_not_written reason=%r", str(error))

    def resume(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and values of the checkpoint; None where there is none.

        Raises: BadCheckpoint where it is damaged, or of another training.
        """
        found = load_checkpoint(self._directory) if self._directory is not None else None
        if found is not None and found[1].get("fingerprint") != self._fingerprint:
            raise BadCheckpoint(
                "a checkpoint belongs to another model, other data or other settings; remove it to start again"
            )
        return found
