"""Keep the blobs that the ledger's orders name, and attest what is held (protocol.md, "Custody").

Custody waits for the disk and for downloads, so it works on a thread of its own (`CustodyKeeper`); the duty hands it
what the ledger wants, and submits attestations of what it holds. A turn that changed nothing costs nothing.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from pot_lab.network.duties.custody_keeper import CustodyKeeper, Wants
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.store.custody import ExpectedBlob

ATTESTED_AT_ONCE = 64
"""The most blobs that one attestation names."""
PASS_EVERY_S = 1.0
PASS_WHEN_BUSY_S = 0.05
"""How soon the next pass comes while fetches run."""


class Standing(enum.Enum):
    """What the ledger makes of this aggregator's attestation of a blob."""

    DUE = "due"
    """It is named, and this aggregator has yet to attest it."""
    LATER = "later"
    """It is named, and this aggregator cannot attest anything now, for it has no seat, or serves nothing."""
    OVER = "over"
    """It is attested, or no longer named."""


class CustodyLedger(Protocol):
    """What the duty asks of the ledger."""

    def wants(self) -> Wants:
        """What the ledger names now; the same object for as long as nothing of it changed."""

    def standing(self, blob: ExpectedBlob) -> Standing:
        """What becomes of an attestation of this blob."""


AttestHeld = Callable[[Sequence[ExpectedBlob]], bytes]
"""The signed request that attests that this aggregator holds these blobs."""


class CustodyDuty:
    """Hands what the ledger wants to a keeper on a thread of its own, and attests what it holds.

    Args:
        ledger: what is wanted, and what is attested already.
        attest: signs an attestation.
        open_keeper: opens custody and fetcher; called on the thread.
        wake: called when something new is held, on the thread.
    """

    def __init__(
        self,
        ledger: CustodyLedger,
        attest: AttestHeld,
        open_keeper: Callable[[], CustodyKeeper],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._attest, self._open_keeper, self._wake = ledger, attest, open_keeper, wake
        self._changed = threading.Condition()
        self._wants: Wants | None = None
        self._news: set[ExpectedBlob] = set()
        self._closed = False
        self._held_ms: dict[ExpectedBlob, int] = {}  # held and not attested: when it was submitted last
        self._thread = threading.Thread(target=self._work, name="custody", daemon=True)

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Attestations of what is held and not counted yet, unless submitted lately. Does not wait."""
        wants = self._ledger.wants()
        if self._thread.ident is None:
            self._thread.start()
        with self._changed:
            news, self._news = self._news, set()
            if wants is not self._wants:
                self._wants = wants
                self._changed.notify_all()
        for blob in news:
            self._held_ms.setdefault(blob, now_ms - REPEAT_AFTER_MS)
        due: list[ExpectedBlob] = []
        for blob, submitted_ms in list(self._held_ms.items()):
            standing = self._ledger.standing(blob)
            if standing is Standing.OVER:
                del self._held_ms[blob]
            elif standing is Standing.DUE and now_ms - submitted_ms >= REPEAT_AFTER_MS:
                due.append(blob)
        self._held_ms |= dict.fromkeys(due, now_ms)
        return [self._attest(due[i : i + ATTESTED_AT_ONCE]) for i in range(0, len(due), ATTESTED_AT_ONCE)]

    def close(self) -> None:
        """End downloads and the thread. Called when the aggregator stops."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        keeper: CustodyKeeper | None = None
        kept: Wants | None = None
        while True:
            wait_s = PASS_WHEN_BUSY_S if keeper is not None and keeper.busy else PASS_EVERY_S
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wants is not kept, timeout=wait_s)  # noqa: B023
                wants, closed = self._wants, self._closed
            if closed:
                break
            kept = wants
            if wants is None:
                continue
            try:
                keeper = keeper or self._open_keeper()
                held = keeper.keep(wants)
            except Exception:  # a full disk, a damaged folder: the ordering goes on, and the next pass tries again
                log.exception("event=custody_failed")
                continue
            if held:
                with self._changed:
                    self._news |= held
                self._wake()
        if keeper is not None:
            keeper.close()
