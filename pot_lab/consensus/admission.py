"""Requests on their way into a batch: admitted once, forwarded to the primary, and watched, so that it leaves none out.

A request is checked when it comes and never again. The pool decides what is proposed next (`batching`); what follows
from a primary that does not propose it is decided here.
"""

from __future__ import annotations

from pot_lab.consensus.batching import Pending
from pot_lab.consensus.messages import FetchBodies, Forward, Requests, request_digest
from pot_lab.consensus.replica_state import ReplicaState
from pot_lab.consensus.steps import Broadcast, SendRefusal, SendReply
from pot_lab.errors import Oversize, PotLabError

_FORWARD_BYTES = 256 * 1024
_REMIND_MS = 1_000
_OVERTAKEN_SPARE = 16


class Admission(ReplicaState):
    """The part that takes requests."""

    def _submit(self, request: bytes, spread: bool, digest: bytes) -> None:
        cached = self.replies.get(digest)
        if cached is not None:
            self.counters["retries_answered"] += 1
            self._effects.append(
                SendReply(digest=digest, sequence=cached.sequence, time_ms=cached.time_ms, reply=cached.reply)
            )
            return
        try:
            entry = self._admit(digest, request, spread)
        except PotLabError as error:
            self.counters["requests_refused"] += 1
            self._effects.append(SendRefusal(digest, error))
            return
        if entry is not None and not spread:
            entry.forward_ms = self.now_ms + _REMIND_MS
            self._effects.append(Broadcast(Forward((request,))))

    def _admit(self, digest: bytes, request: bytes, spread: bool) -> Pending | None:
        """Put a request into the pool; None when it was there already."""
        known = self.pool.get(digest)
        if known is not None:
            known.spread = known.spread or spread
            return None
        if len(request) > self.parameters.request_bytes:
            raise Oversize(
                "a request is too large",
                seen=f"{len(request)} bytes",
                wanted=f"at most {self.parameters.request_bytes} bytes",
            )
        entry = Pending(digest, request, self._application.validate(request), self.now_ms, spread)
        entry.forward_ms = self.now_ms + self.parameters.forward_delay_ms
        self.pool.add(entry)
        self.counters["requests_admitted"] += 1
        if digest in self._wanted:
            self._supply(digest, request)
        return entry

    def _on_forward(self, message: Forward) -> None:
        for request in message.requests:
            digest = request_digest(request)
            if self.replies.get(digest) is not None:
                continue
            try:
                self._admit(digest, request, spread=False)
            except PotLabError:
                self.counters["forwards_refused"] += 1

    def _supply(self, digest: bytes, body: bytes) -> None:
        """Give a body to the proposals that only named it."""
        for sequence in self._wanted.pop(digest, ()):
            slot = self._slots.get(sequence)
            if slot is not None and digest in slot.missing:
                slot.missing.discard(digest)
                slot.bodies[digest] = body
        self.pool.propose((digest,))

    def _on_fetch_bodies(self, sender: int, message: FetchBodies) -> None:
        found: list[bytes] = []
        room = self.parameters.batch_bytes
        wanted = set(message.digests)  # what is named twice is sent once
        bodies = {digest: entry.body for digest in wanted if (entry := self.pool.get(digest)) is not None}
        for slot in self._slots.values():  # each once, whatever the number of digests
            bodies |= {digest: slot.bodies[digest] for digest in wanted & slot.bodies.keys()}
        for digest in dict.fromkeys(message.digests):
            body = bodies.get(digest)
            if body is not None and len(body) <= room:
                room -= len(body)
                found.append(body)
        if found:
            self._send(sender, Requests(tuple(found)))

    def _on_requests(self, message: Requests) -> None:
        for body in message.bodies:
            self._on_requested(request_digest(body), body)

    def _on_requested(self, digest: bytes, body: bytes) -> None:
        """Take a body that a proposal lacks, once it is validated."""
        if digest not in self._wanted:
            self.counters["dropped_unasked"] += 1
            return
        try:
            self._application.validate(body)
        except PotLabError:
            self.counters["dropped_invalid_request"] += 1
            return
        self._supply(digest, body)

    def _remind(self) -> int | None:
        """As a backup, hand the primary what still waits, and all others what it seems to leave out; as anyone, forget
        what nobody orders.
        """
        if not len(self.pool) or not self.has_seat:
            return None
        if self.now_ms < self._scan_at_ms:
            return self._scan_at_ms
        self._scan_at_ms = self.now_ms + self.parameters.forward_delay_ms
        self.counters["requests_expired"] += self.pool.expire(self.now_ms - self.parameters.pending_ttl_ms)
        if self.is_primary:
            return self._scan_at_ms
        if not self.changing and any(map(self._censored, self.pool)):
            self._suspect("censored")
            return self.now_ms + 1
        room = _FORWARD_BYTES
        stalled = self._patience.half_spent(self.now_ms)
        to_primary: list[bytes] = []
        to_all: list[bytes] = []
        for entry in self.pool:
            if not entry.proposed and entry.forward_ms <= self.now_ms and len(entry.body) <= room:
                room -= len(entry.body)
                (to_all if stalled or entry.overtaken_at else to_primary).append(entry.body)
                entry.forward_ms = self.now_ms + _REMIND_MS
        if to_primary:
            self._send(self.primary, Forward(tuple(to_primary)))
        if to_all:  # the others must know of it too: one replica alone removes no primary
            self._effects.append(Broadcast(Forward(tuple(to_all))))
        return self._scan_at_ms

    def _censored(self, entry: Pending) -> bool:
        """Whether the primary leaves out a request that has been its account's next for long.

        Accounts take turns, so no more requests come before it than wait now, and as many again that arrive; and if
        all that waits fits one batch, it belongs into the next.
        """
        age_ms = self.now_ms - max(entry.seen_ms, self._watching_since_ms)
        timeout_ms = self._patience.timeout_ms
        if entry.proposed or age_ms < timeout_ms or not self.pool.head(entry):
            return False
        executed = self.counters["requests_executed"]
        if not entry.overtaken_at:
            entry.overtaken_at = executed + 2 * len(self.pool) + _OVERTAKEN_SPARE
        fits = len(self.pool) <= self.parameters.batch_requests and self.pool.size_bytes <= self.parameters.batch_bytes
        return executed > entry.overtaken_at or (fits and age_ms >= 2 * timeout_ms)
