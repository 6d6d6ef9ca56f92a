"""Bring a folder of blobs to what the ledger names: expect, fetch, hold, and remove what is dead.

Waits for the disk, so it works on a thread of `CustodyDuty`. It follows changes: a pass costs what changed, not what is
there, for a ledger may name tens of thousands of blobs. A reference that the ledger no longer has is dead only after a
while: a replica that lost its data and replays the ledger must not throw away what it will want again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.network.duties.duty import log
from pot_lab.store.custody import Custody, ExpectedBlob
from pot_lab.store.link_fetcher import MAX_LINKS, LinkFetcher

FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
DEAD_AFTER_S = 3_600.0
REFUSED_AGAIN_S = 60.0
"""How often it is tried again to expect what custody refused; quotas also become free when something is removed."""
TOGETHER_S = 1.0
"""How long small blobs of a reference wait after its last process began, so that the next one takes them together."""
LOOK_EVERY_S = 1.0
"""How often it is looked for what owners put, while fetches run."""
SMALL_BYTES = 4 << 20
"""Blobs up to this length share a process with others of their reference."""


class WantedBlob(NamedTuple):
    """A blob that a living reference names: hash (32 bytes), length, who pays, what keeps it, and where it may be."""

    digest: bytes
    size_bytes: int
    payer: bytes
    reference: bytes
    uris: tuple[str, ...]

    @property
    def blob(self) -> ExpectedBlob:
        """What custody calls it."""
        return ExpectedBlob(self.digest, self.size_bytes)


Wants = Mapping[bytes, tuple[WantedBlob, ...]]
"""What the living references name, by reference. A mapping does not change, and of a reference that did not change it
has the same tuple as the one before.
"""


class _LinkTries(NamedTuple):
    """How often a link failed, and when it may be followed again."""

    failures: int = 0
    again_s: float = 0.0


class CustodyKeeper:
    """Brings a custody to what is wanted, one pass after the other. For one thread.

    Args:
        custody: the blobs.
        fetcher: follows links into it.
        clock_s: seconds that only grow.
    """

    def __init__(self, custody: Custody, fetcher: LinkFetcher, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._custody, self._fetcher, self._clock_s = custody, fetcher, clock_s
        self._wants: Wants = {}
        self._missing: dict[ExpectedBlob, dict[bytes, WantedBlob]] = {}
        self._refused: dict[tuple[ExpectedBlob, bytes], WantedBlob] = {}
        self._refused_again_s = self._looked_s = 0.0
        self._tries: dict[Link, _LinkTries] = {}
        self._began_s: dict[bytes, float] = {}  # when a reference's last process for small blobs began
        self._dead_since_s: dict[bytes, float] | None = None

    @property
    def busy(self) -> bool:
        """Whether fetches run, so that the next pass should come soon."""
        return self._fetcher.running > 0

    def keep(self, wants: Wants) -> set[ExpectedBlob]:
        """One pass: expect what is new, fetch what is missing, remove what is dead.

        Returns: the blobs that were found to be held in this pass, of those that are wanted. One that another
            reference names later is found again.
        """
        if self._dead_since_s is None:  # what an earlier process of this aggregator kept
            self._dead_since_s = dict.fromkeys(self._custody.references(), self._clock_s())
        news = wants is not self._wants
        if news:
            self._follow(wants)
        if self._refused and self._clock_s() >= self._refused_again_s:
            self._try_refused()
        news = self._note_fetches() or news
        held = set[ExpectedBlob]()
        if self._missing and (news or not self.busy or self._clock_s() - self._looked_s >= LOOK_EVERY_S):
            self._looked_s = self._clock_s()
            held = self._now_held()
            self._fetch()
        if self._dead_since_s:
            self._prune(self._dead_since_s)
        return held

    def close(self) -> None:
        """End downloads, and close the index."""
        self._fetcher.close()
        self._custody.close()

    # --- what is wanted ---------------------------------------------------------------------------------------
    def _follow(self, wants: Wants) -> None:
        before, now_s = self._wants, self._clock_s()
        dead = self._dead_since_s if self._dead_since_s is not None else {}
        for reference, blobs in wants.items():
            last = before.get(reference, ())
            if blobs is not last:
                dead.pop(reference, None)
                self._leave(set(last).difference(blobs))
                self._expect(set(blobs).difference(last))
        for reference in before.keys() - wants.keys():
            self._began_s.pop(reference, None)
            self._leave(before[reference])
            dead[reference] = now_s
        self._wants = wants

    def _leave(self, blobs: Iterable[WantedBlob]) -> None:
        """The ledger no longer names these; what their reference keeps is removed when the reference is dead."""
        for each in blobs:
            self._refused.pop((each.blob, each.reference), None)
            naming = self._missing.get(each.blob, {})
            if naming.pop(each.reference, None) is not None and not naming:
                del self._missing[each.blob]
            for uri in each.uris:
                self._tries.pop(Link(*each.blob, uri), None)

    def _expect(self, blobs: Iterable[WantedBlob]) -> None:
        for each in blobs:
            name = each.blob, each.reference
            try:
                self._custody.expect(*each.blob, payer=each.payer, reference=each.reference)
            except PotLabError as error:
                if name not in self._refused:  # told once
                    log.warning("event=custody_refused blob=%s reason=%r", each.digest.hex()[:16], str(error))
                self._refused[name] = each
            else:
                self._refused.pop(name, None)
                self._missing.setdefault(each.blob, {})[each.reference] = each

    def _try_refused(self) -> None:
        self._refused_again_s = self._clock_s() + REFUSED_AGAIN_S
        self._expect(list(self._refused.values()))

    # --- what is here -----------------------------------------------------------------------------------------
    def _now_held(self) -> set[ExpectedBlob]:
        """Take what is held by now, fetched or put by its owner, out of what is missing."""
        held = self._missing.keys() - set(self._custody.missing())
        for blob in held:
            for each in self._missing.pop(blob).values():
                for uri in each.uris:
                    self._tries.pop(Link(*blob, uri), None)
        return held

    def _fetch(self) -> None:
        """Begin what may begin: small blobs first, so that a few large ones keep nobody waiting."""
        now_s = self._clock_s()
        if self._fetcher.free < 1:
            return
        for blob in sorted(self._missing, key=lambda each: each.size_bytes):
            if self._fetcher.free < 1:
                return
            for each in self._missing[blob].values():
                link = self._best_link(each, now_s)
                if link is None or self._waits(each, link, now_s):
                    continue
                if self._fetcher.begin(link, *self._beside(each, link, now_s)):
                    if link.size_bytes <= SMALL_BYTES:
                        self._began_s[each.reference] = now_s
                    break

    def _waits(self, wanted: WantedBlob, link: Link, now_s: float) -> bool:
        """Whether a small blob is to wait for others of its reference; not where it failed before."""
        if link.size_bytes > SMALL_BYTES or self._tries_of(link).failures:
            return False
        return now_s - self._began_s.get(wanted.reference, now_s - TOGETHER_S) < TOGETHER_S

    def _best_link(self, wanted: WantedBlob, now_s: float) -> Link | None:
        """Of a blob's links that may be followed now the one that failed least; None where there is none."""
        links = [Link(*wanted.blob, uri) for uri in wanted.uris]
        due = [link for link in links if self._tries_of(link).again_s <= now_s]
        return min(due, key=lambda link: self._tries_of(link).failures, default=None)

    def _beside(self, wanted: WantedBlob, first: Link, now_s: float) -> list[Link]:
        """Small links of the same reference, for the same process; none where a link has failed before, since its
        process might have died of it.
        """
        if first.size_bytes > SMALL_BYTES or self._tries_of(first).failures:
            return []
        found: dict[ExpectedBlob, Link] = {}
        for each in self._wants.get(wanted.reference, ()):
            link = None
            if each.size_bytes <= SMALL_BYTES and each.blob in self._missing and each.blob != wanted.blob:
                link = self._best_link(each, now_s)
            if link is not None and not self._tries_of(link).failures and not self._fetcher.follows(link):
                found[each.blob] = link
        return list(found.values())[: MAX_LINKS - 1]

    def _tries_of(self, link: Link) -> _LinkTries:
        return self._tries.get(link, _LinkTries())

    def _note_fetches(self) -> bool:
        """Take note of fetches that ended; returns whether any did."""
        ended = self._fetcher.poll()
        for link, outcome in ended:
            if not outcome.code or ExpectedBlob(link.digest, link.size_bytes) not in self._missing:
                self._tries.pop(link, None)
                continue
            failures = self._tries_of(link).failures
            pause_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 16))
            self._tries[link] = _LinkTries(failures + 1, self._clock_s() + pause_s)
            log.info(
                "event=blob_not_fetched blob=%s code=%s reason=%r", link.digest.hex()[:16], outcome.code, outcome.reason
            )
        return bool(ended)

    # --- what is dead -----------------------------------------------------------------------------------------
    def _prune(self, dead_since_s: dict[bytes, float]) -> None:
        now_s = self._clock_s()
        ended = {each for each, since_s in dead_since_s.items() if now_s - since_s >= DEAD_AFTER_S}
        if not ended:
            return
        freed_bytes = self._custody.prune(self._custody.references() - ended)
        for reference in ended:
            del dead_since_s[reference]
        self._refused_again_s = now_s
        log.info("event=custody_pruned references=%d bytes=%d", len(ended), freed_bytes)
