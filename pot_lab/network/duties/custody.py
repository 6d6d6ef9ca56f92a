"""Keep the blobs that the ledger's references name, and attest what is held (protocol.md, "Custody").

Custody waits for the disk and for downloads, so it works on a thread of its own (`CustodyKeeper`); the duty hands it
what the ledger wants, and submits attestations of what it holds. A reference that the ledger no longer has is dead only
after a while: a replica that lost its data and replays the ledger must not throw away what it will want again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.store.custody import Custody, ExpectedBlob
from pot_lab.store.link_fetcher import LinkFetcher

ATTESTED_AT_ONCE = 64
"""The most blobs that one attestation names."""
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
DEAD_AFTER_S = 3_600.0
PASS_EVERY_S = 1.0


class WantedBlob(NamedTuple):
    """A blob that a living reference names: hash (32 bytes), length, who pays, what keeps it, and where it may be had.

    `attested`: whether the ledger counts this aggregator's attestation already.
    """

    digest: bytes
    size_bytes: int
    payer: bytes
    reference: bytes
    uris: tuple[str, ...]
    attested: bool = False

    @property
    def blob(self) -> ExpectedBlob:
        """What custody calls it."""
        return ExpectedBlob(self.digest, self.size_bytes)


class CustodyKeeper:
    """Brings a custody to what is wanted, one pass after the other. For one thread.

    Args:
        custody: the blobs.
        fetcher: follows links into it.
        clock_s: seconds that only grow.
    """

    def __init__(self, custody: Custody, fetcher: LinkFetcher, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._custody, self._fetcher, self._clock_s = custody, fetcher, clock_s
        self._expected: set[tuple[ExpectedBlob, bytes]] = set()
        self._refused: set[tuple[ExpectedBlob, bytes]] = set()
        self._failures: dict[Link, int] = {}
        self._retry_at_s: dict[Link, float] = {}
        self._dead_since_s: dict[bytes, float] = {}
        self._last: tuple[Collection[WantedBlob], set[ExpectedBlob]] = ((), set())
        self._at_rest = False

    def keep(self, wanted: Collection[WantedBlob]) -> set[ExpectedBlob]:
        """One pass: expect what is new, fetch what is missing, remove what is dead; returns which of these are held.

        Costs nothing while `wanted` is the object of the last pass, and nothing is missing, dead or refused.
        """
        if self._at_rest and wanted is self._last[0]:
            return self._last[1]
        self._expect(wanted)
        self._note_fetches()
        held = self._custody.held() & {each.blob for each in wanted}
        missing = [each for each in wanted if each.blob not in held]
        self._fetch(missing)
        self._prune({each.reference for each in wanted})
        self._at_rest = not (missing or self._dead_since_s or self._refused)
        self._last = (wanted, held if held != self._last[1] else self._last[1])
        return self._last[1]

    def close(self) -> None:
        """End downloads, and close the index."""
        self._fetcher.close()
        self._custody.close()

    def _expect(self, wanted: Collection[WantedBlob]) -> None:
        named = {(each.blob, each.reference) for each in wanted}
        self._expected &= named
        self._refused &= named
        for each in wanted:
            name = (each.blob, each.reference)
            if name in self._expected:
                continue
            try:
                self._custody.expect(*each.blob, payer=each.payer, reference=each.reference)
                self._expected.add(name)
                self._refused.discard(name)
            except PotLabError as error:
                if name not in self._refused:  # tried again in each pass, since quotas become free; told once
                    log.warning("event=custody_refused blob=%s reason=%r", each.digest.hex()[:16], str(error))
                self._refused.add(name)

    def _fetch(self, missing: Sequence[WantedBlob]) -> None:
        now_s = self._clock_s()
        links = {Link(*each.blob, uri): each for each in missing for uri in each.uris}
        self._failures = {link: count for link, count in self._failures.items() if link in links}
        self._retry_at_s = {link: at for link, at in self._retry_at_s.items() if link in links}
        # Small blobs first, so that a few large ones keep nobody waiting; of one blob the link that failed least.
        for link in sorted(links, key=lambda each: (each.size_bytes, self._failures.get(each, 0))):
            if self._fetcher.free < 1:
                return
            known = (links[link].blob, links[link].reference) in self._expected
            if known and now_s >= self._retry_at_s.get(link, now_s):
                self._fetcher.begin(link)

    def _note_fetches(self) -> None:
        for link, outcome in self._fetcher.poll():
            if not outcome.code:
                self._failures.pop(link, None)
                continue
            failures = self._failures.get(link, 0)
            self._failures[link] = failures + 1
            self._retry_at_s[link] = self._clock_s() + min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 16))
            log.info(
                "event=blob_not_fetched blob=%s code=%s reason=%r", link.digest.hex()[:16], outcome.code, outcome.reason
            )

    def _prune(self, live: set[bytes]) -> None:
        now_s = self._clock_s()
        dead = self._custody.references() - live
        self._dead_since_s = {each: self._dead_since_s.get(each, now_s) for each in dead}
        ended = {each for each, since_s in self._dead_since_s.items() if now_s - since_s >= DEAD_AFTER_S}
        if ended:
            freed_bytes = self._custody.prune(live | (dead - ended))
            log.info("event=custody_pruned references=%d bytes=%d", len(ended), freed_bytes)


Wanted = Callable[[], Sequence[WantedBlob]]
"""What the ledger's living references name now; the same object for as long as nothing of it changed."""
AttestBlobs = Callable[[Sequence[ExpectedBlob]], bytes]
"""The signed request that attests that this aggregator holds these blobs."""


class CustodyDuty:
    """Hands what the ledger wants to a keeper on a thread of its own, and attests what it holds.

    Args:
        wanted: reads the ledger.
        attest: signs an attestation.
        open_keeper: opens custody and fetcher; called on the thread.
        wake: called when something new is held, on the thread.
    """

    def __init__(
        self,
        wanted: Wanted,
        attest: AttestBlobs,
        open_keeper: Callable[[], CustodyKeeper],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._wanted, self._attest, self._open_keeper, self._wake = wanted, attest, open_keeper, wake
        self._changed = threading.Condition()
        self._now_wanted: Sequence[WantedBlob] | None = None
        self._held: set[ExpectedBlob] = set()
        self._closed = False
        self._submitted_at_ms: dict[ExpectedBlob, int] = {}
        self._unattested: tuple[object, object, list[ExpectedBlob]] = (None, None, [])
        self._thread = threading.Thread(target=self._work, name="custody", daemon=True)

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Attestations of what is held and not counted yet, unless submitted lately. Does not wait."""
        wanted = self._wanted()
        if self._thread.ident is None:
            self._thread.start()
        with self._changed:
            self._now_wanted = wanted
            held = self._held
        if wanted is not self._unattested[0] or held is not self._unattested[1]:
            blobs = list(dict.fromkeys(each.blob for each in wanted if not each.attested and each.blob in held))
            self._unattested = (wanted, held, blobs)
            kept = set(blobs)
            self._submitted_at_ms = {blob: at for blob, at in self._submitted_at_ms.items() if blob in kept}
        due = [
            blob
            for blob in self._unattested[2]
            if now_ms - self._submitted_at_ms.get(blob, now_ms - REPEAT_AFTER_MS) >= REPEAT_AFTER_MS
        ]
        self._submitted_at_ms |= dict.fromkeys(due, now_ms)
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
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed, timeout=PASS_EVERY_S)
                wanted, closed = self._now_wanted, self._closed
            if closed:
                break
            if wanted is None:
                continue
            try:
                keeper = keeper or self._open_keeper()
                held = keeper.keep(wanted)
            except Exception:  # a full disk, a damaged folder: the ordering goes on, and the next pass tries again
                log.exception("event=custody_failed")
                continue
            with self._changed:
                news = held - self._held
                if held != self._held:
                    self._held = held
            if news:
                self._wake()
        if keeper is not None:
            keeper.close()
