"""How a set of replicas leaves a primary that does not do its work (Castro and Liskov 1999, section 4.4).

A replica that leaves a view sends a signed `ViewChange` with all that it prepared above its last stable
checkpoint. The next primary takes q of them and begins its view with a `NewView`: it names them by digest, so that it
stays small, and proposes again what follows from them (`plan`). Every backup computes the same plan from the same view
changes, and takes nothing else. A batch that was committed anywhere was prepared by q replicas, so one of any q view
changes shows it: it keeps its place. A place that nobody shows prepared, below one that is, gets a null batch.

Pure rules and bounded collections; `Patience` decides when to change, the replica what to send.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from pot_lab.agreement.votes import PRE_PREPARE, SignedVote
from pot_lab.consensus.membership import Succession, Verifier
from pot_lab.consensus.messages import (
    CheckpointProof,
    NewView,
    ViewChange,
    ViewVote,
    batch_digest,
    content_digest,
    signed_vote,
)
from pot_lab.errors import PotLabError

_LONGEST_BACK_OFF = 5


class BadViewChange(PotLabError):
    """A view change or new view is not what its rules ask for.

    What to do: nothing: the message is dropped and its sender ignored.
    """


def null_digest(sequence: int) -> bytes:
    """The digest of the batch that fills a gap: no requests, and no time of its own."""
    return batch_digest(sequence, 0, ())


def check_view_change(message: ViewChange, verifier: Verifier, succession: Succession, window: int) -> None:
    """Raise BadViewChange unless its sender, of the verifier's set, signed it and all that it shows is proved."""
    era = verifier.membership.since
    if message.era != era or (era and (message.stable is None or message.stable.sequence < era)):
        raise BadViewChange("a view change is another era's", seen=message.era, wanted=era)
    if message.view < 1 or not verifier.vote(message.replica, signed_vote(message)):
        raise BadViewChange("a view change is not signed by its sender", seen=message.replica)
    if message.stable is not None and not succession.at(message.stable.sequence).stable(message.stable):
        raise BadViewChange("a view change shows a checkpoint without its proof", seen=message.stable.sequence)
    low = 0 if message.stable is None else message.stable.sequence
    last = low
    for proof in message.prepared:
        proposal = proof.proposal
        if not last < proposal.sequence <= low + 2 * window:
            raise BadViewChange("a view change shows a batch out of its window", seen=proposal.sequence, wanted=low)
        if proposal.view >= message.view or not verifier.prepared(proof):
            raise BadViewChange("a view change shows a batch without its proof", seen=proposal.sequence)
        last = proposal.sequence


class Plan(msgspec.Struct, frozen=True):
    """What a new view begins with: the highest stable checkpoint shown, and the batch digest of each place above it."""

    stable: CheckpointProof | None
    batches: dict[int, bytes]

    @property
    def low(self) -> int:
        """The sequence of the checkpoint."""
        return 0 if self.stable is None else self.stable.sequence


def plan(changes: Iterable[ViewChange]) -> Plan:
    """What must be proposed again, given q checked view changes; the same for everyone who has the same ones."""
    changes = tuple(changes)
    stable = max(
        (change.stable for change in changes if change.stable is not None), key=lambda s: s.sequence, default=None
    )
    low = 0 if stable is None else stable.sequence
    best: dict[int, SignedVote] = {}
    for change in changes:
        for proof in change.prepared:
            proposal = proof.proposal
            known = best.get(proposal.sequence)
            if proposal.sequence > low and (known is None or known.view < proposal.view):
                best[proposal.sequence] = proposal
    batches = {
        sequence: best[sequence].digest if sequence in best else null_digest(sequence)
        for sequence in range(low + 1, max(best, default=low) + 1)
    }
    return Plan(stable, batches)


def check_new_view(message: NewView, changes: Collection[ViewChange], verifier: Verifier) -> Plan:
    """The plan of a new view whose view changes are all here and checked; raises BadViewChange."""
    primary = message.view % verifier.n
    if len({change.replica for change in changes}) < verifier.q:
        raise BadViewChange("a new view stands on too few view changes", seen=len(changes), wanted=verifier.q)
    if any((change.era, change.view) != (message.era, message.view) for change in changes):
        raise BadViewChange("a new view stands on view changes to another view", wanted=message.view)
    planned = plan(changes)
    if {vote.sequence: vote.digest for vote in message.proposals} != planned.batches or len(message.proposals) != len(
        planned.batches
    ):
        raise BadViewChange("a new view proposes something else than its view changes ask for", seen=message.view)
    for vote in message.proposals:
        if (vote.phase, vote.view) != (PRE_PREPARE, message.view) or not verifier.vote(primary, vote):
            raise BadViewChange("a new view's proposal is not signed by its primary", seen=vote.sequence)
    return planned


class ViewChanges:
    """The view changes that were received and checked: each replica's highest, and those that a new view names."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._highest: dict[int, ViewChange] = {}
        self._digests: dict[int, bytes] = {}
        self._pending: dict[int, tuple[NewView, int]] = {}
        self._named: dict[bytes, ViewChange] = {}

    def is_news(self, message: ViewChange) -> bool:
        """Whether this one is new, so that its signatures are worth a check."""
        known = self._highest.get(message.replica)
        return known is None or known.view < message.view or self._is_named(content_digest(message))

    def conflicting(self, message: ViewChange) -> ViewChange | None:
        """Another one of the same replica for the same view."""
        known = self._highest.get(message.replica)
        if known is None or known.view != message.view or self._digests[message.replica] == content_digest(message):
            return None
        return known

    def add(self, message: ViewChange) -> None:
        """Keep a checked one."""
        digest = content_digest(message)
        known = self._highest.get(message.replica)
        if known is None or known.view < message.view:
            self._highest[message.replica], self._digests[message.replica] = message, digest
        if self._is_named(digest):
            self._named[digest] = message

    def of(self, view: int) -> list[ViewChange]:
        """Those to exactly this view."""
        return [change for _, change in sorted(self._highest.items()) if change.view == view]

    def at_least(self, view: int) -> int:
        """How many replicas ask for this view or a later one."""
        return sum(change.view >= view for change in self._highest.values())

    def joinable(self, view: int, f: int) -> int | None:
        """A view after this one that f+1 replicas want to reach at least, so that a correct one does."""
        wanted = sorted((change.view for change in self._highest.values()), reverse=True)
        return wanted[f] if len(wanted) > f and wanted[f] > view else None

    def expect(self, message: NewView, sender: int) -> None:
        """Remember a signed new view whose view changes are not all here yet: one for each primary."""
        self._pending[message.view % self._n] = message, sender

    def forget(self, view: int) -> None:
        """Drop what waits for views up to this one."""
        self._pending = {key: pending for key, pending in self._pending.items() if pending[0].view > view}
        named = {vote.digest for message, _ in self._pending.values() for vote in message.votes}
        self._named = {digest: change for digest, change in self._named.items() if digest in named}

    @property
    def expected(self) -> list[tuple[NewView, int]]:
        """New views that wait for their view changes, with who showed them."""
        return list(self._pending.values())

    def resolve(self, votes: Iterable[ViewVote]) -> tuple[list[ViewChange], list[int]]:
        """The view changes that are named, as far as they are here, and the replicas whose are not."""
        found: list[ViewChange] = []
        missing: list[int] = []
        for vote in votes:
            change = self._named.get(vote.digest)
            if change is None and self._digests.get(vote.replica) == vote.digest:
                change = self._highest[vote.replica]
            if change is not None and change.replica == vote.replica:
                found.append(change)
            else:
                missing.append(vote.replica)
        return found, missing

    def _is_named(self, digest: bytes) -> bool:
        return any(vote.digest == digest for message, _ in self._pending.values() for vote in message.votes)


class Patience:
    """The timeout of a primary: doubling from view to view, until something is executed again."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._changes = 0
        self._since_ms: int | None = None

    @property
    def timeout_ms(self) -> int:
        """The time that the primary of this view has."""
        return self._timeout_ms << min(max(0, self._changes - 1), _LONGEST_BACK_OFF)

    def left_view(self) -> None:
        """A view was left: the timeout of the next one is longer."""
        self._changes += 1
        self._since_ms = None

    def executed(self) -> None:
        """Something was executed: the timeout is back at its first value."""
        self._changes = 0
        self._since_ms = None

    def progressed(self) -> None:
        """The next batch came a step nearer."""
        self._since_ms = None

    def extend(self, by_ms: int, now_ms: int) -> None:
        """Leave out a time in which this replica itself stood still."""
        if self._since_ms is not None:
            self._since_ms = min(self._since_ms + by_ms, now_ms)

    def half_spent(self, now_ms: int) -> bool:
        """Whether half of the timeout has passed."""
        return self._since_ms is not None and now_ms >= self._since_ms + self.timeout_ms // 2

    def until(self, now_ms: int, waiting: bool) -> int | None:
        """When the timeout ends; None while there is nothing to wait for."""
        if not waiting:
            self._since_ms = None
            return None
        if self._since_ms is None:
            self._since_ms = now_ms
        return self._since_ms + self.timeout_ms
