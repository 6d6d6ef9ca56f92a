"""Synchronising the log: decided batches with their proof, or a snapshot where the others' logs end (`snapshot_fetch`).

Everything is accepted by its proof alone, so a peer can at worst be slow.
"""

from __future__ import annotations

from collections.abc import Sequence

from pot_lab.agreement.quorum import weak_quorum
from pot_lab.agreement.votes import COMMIT
from pot_lab.consensus.checkpoint import decode_snapshot
from pot_lab.consensus.membership import OUTSIDERS
from pot_lab.consensus.messages import (
    MAX_DECISIONS,
    MAX_HANDOVERS,
    CheckpointProof,
    Chunk,
    DecidedBatch,
    Decisions,
    FetchChunk,
    FetchDecisions,
    Offer,
    Stable,
    Status,
    batch_digest,
    request_digest,
)
from pot_lab.consensus.records import Fetched, Succeeded
from pot_lab.consensus.replica_state import RESEND_SLOTS, ReplicaState
from pot_lab.consensus.snapshot_fetch import SnapshotFetch, is_sound
from pot_lab.consensus.steps import Compact, KeepSnapshot, MembersChanged, SendReply, ServeChunk, ServeDecisions
from pot_lab.errors import InvariantBroken, PotLabError


class LogSync(ReplicaState):
    """The part that synchronises this replica with the others, and the others with it."""

    def _on_status(self, sender: int, message: Status) -> None:
        self._vouch(sender, message.executed, message.state)
        if self.halted:
            return
        if message.ask:
            self._send(sender, self._own_status(ask=False))
        if message.era != self.era:
            following = self.succession.since(message.era)
            if following:
                self._send(sender, Stable(following[0].proof))
            return
        far = message.stable + self.parameters.checkpoint_batches < self.low
        if far and self.checkpoints.stable is not None:
            self._send(sender, Stable(self.checkpoints.stable))
        if self._entered is not None and (message.view, message.active) < (self._entered.new_view.view, True):
            self._send(sender, self._entered.new_view)
        for sequence in range(message.executed + 1, min(message.executed + RESEND_SLOTS, self.executed) + 1):
            commit = self._commits.get(sequence)
            if commit is not None:
                self._send(sender, commit)

    def _own_status(self, *, ask: bool) -> Status:
        return Status(self.view, not self.changing, self.executed, self.state, self.low, ask, self.era)

    def _decided_elsewhere(self) -> int:
        """The highest sequence that others executed: what f+1 of them report, or after a longer wait what any one
        reports.

        A false report costs one request: the answer counts by its proof.
        """
        claims = self._members_claims()
        if len(claims) > self.f and claims[self.f] > self.executed:
            return claims[self.f]
        quiet_ms = self.now_ms - (self.now_ms if self._behind_since_ms is None else self._behind_since_ms)
        return max(self._claims.values(), default=0) if quiet_ms >= self.parameters.resend_ms else 0

    def _sync_log(self) -> int | None:
        """Ask for decisions if the others have been ahead for a while; returns when to look again."""
        if max(self._claims.values(), default=0) <= self.executed:
            return None
        if self._behind_since_ms is None:
            self._behind_since_ms = self.now_ms
        target = self._decided_elsewhere()
        if target <= self.executed:
            return self._behind_since_ms + self.parameters.resend_ms
        if self._asked is None:
            ask_ms = self._behind_since_ms + self.parameters.sync_delay_ms
            if self.now_ms < ask_ms and target - self.executed <= self.parameters.window // 2:
                return ask_ms
        elif self.now_ms < self._ask_again_ms:
            return self._ask_again_ms
        self._ask(target)
        return self._ask_again_ms

    def _ask(self, target: int) -> None:
        ahead = [peer for peer, claim in self._claims.items() if claim > self.executed]
        self._asked = min(ahead, key=lambda peer: (peer - self._next_peer - 1) % self.n)
        self._next_peer = self._asked
        self._ask_again_ms = self.now_ms + self.parameters.fetch_timeout_ms
        self.counters["decisions_asked"] += 1
        if self._fetch is not None:
            self._fetch.ask_anew()
        last = min(target, self.executed + MAX_DECISIONS)
        self._send(self._asked, FetchDecisions(self.executed + 1, last, self.succession.latest.membership.since))

    def _on_fetch_decisions(self, sender: int, message: FetchDecisions) -> None:
        last = min(message.last, self.executed, message.first + MAX_DECISIONS - 1)
        if self._snapshots.offered is not None and message.first <= self._snapshots.offered[0].sequence:
            self._offer(sender, message.era)
        elif 1 <= message.first <= last:
            self.counters["decisions_served"] += 1
            self._effects.append(ServeDecisions(sender, message.first, last))
        else:
            self._send(sender, Decisions(()))

    def _on_decisions(self, sender: int, message: Decisions) -> None:
        for batch in message.batches:
            self._fill(batch.sequence, batch.time_ms, batch.requests)
        if sender != self._asked:
            self.counters["dropped_unasked"] += 1
            return
        before, era = self.executed, self.era
        for batch in message.batches:
            if batch.sequence <= self.executed:
                continue
            digests = tuple(request_digest(body) for body in batch.requests)
            if batch.sequence != self.executed + 1 or self._at_end or not self._decided(sender, batch, digests):
                self.counters["dropped_unproved"] += 1
                break
            self._persist(Fetched(batch), urgent=False)
            self._execute(batch.sequence, batch.time_ms, digests, batch.requests)
            self.counters["batches_fetched"] += 1
        if self.era != era:
            return
        if self.executed == before:
            self._ask_again_ms = self.now_ms + self.parameters.sync_delay_ms
            return
        self._asked = None
        target = self._decided_elsewhere()
        if target > self.executed:
            self._next_peer = (sender - 1) % self.n
            self._ask(target)

    def _decided(self, sender: int, batch: DecidedBatch, digests: Sequence[bytes]) -> bool:
        """Whether a batch is shown to be committed: by q signed commits, or by f+1 replicas that each state so."""
        digest = batch_digest(batch.sequence, batch.time_ms, digests)
        signers: set[int] = set()
        for commit in batch.commits:
            if (
                commit.replica not in signers
                and (commit.view, commit.sequence, commit.digest) == (batch.view, batch.sequence, digest)
                and self._signed_by(commit.replica, COMMIT, commit, digest)
            ):
                signers.add(commit.replica)
                if len(signers) == self.q:
                    return True
        vouchers = self._vouchers.setdefault((batch.sequence, digest), set())
        if sender < OUTSIDERS:
            vouchers.add(sender)
        return len(vouchers) >= weak_quorum(self.n)

    def _offer(self, to: int, era: int) -> None:
        if self._snapshots.offered is not None:
            proof, taken = self._snapshots.offered
            handovers = self.succession.since(era)[:MAX_HANDOVERS]
            self.counters["snapshots_offered"] += 1
            self._send(to, Offer(proof, taken.size_bytes, taken.manifest, taken.members, handovers))

    def _on_fetch_chunk(self, sender: int, message: FetchChunk) -> None:
        if self._snapshots.offered is None:
            return
        proof, taken = self._snapshots.offered
        if proof.sequence != message.sequence:
            self._offer(sender, proof.sequence)
        elif message.index < len(taken.manifest):
            self._effects.append(ServeChunk(sender, message.sequence, message.index))

    def _on_offer(self, sender: int, message: Offer) -> None:
        if sender != self._asked or message.proof.sequence <= self.executed:
            self.counters["dropped_unasked"] += 1
            return
        known = len(self.succession.handovers)
        followed = all(self.succession.follow(each) for each in message.handovers)
        if not followed or not is_sound(message, self.succession, self.parameters.chunk_bytes):
            self.counters["dropped_unproved"] += 1
            if len(self.succession.handovers) > known:  # a long way from here: ask for the rest of it
                self._ask_again_ms = self.now_ms
            return
        if self._fetch is not None and self._fetch.proof.snapshot == message.proof.snapshot:
            self._fetch.turn_to(sender)  # asks for nothing twice: each chunk of a snapshot that is gone brings an offer
        else:
            self._fetch = SnapshotFetch(message, sender)
        self._ask_for_chunks()

    def _ask_for_chunks(self) -> None:
        fetch = self._fetch
        if fetch is None:
            raise InvariantBroken("chunks are requested of no snapshot")
        for index in fetch.next_indices():
            self._ask_again_ms = self.now_ms + self.parameters.fetch_timeout_ms
            self._send(fetch.peer, FetchChunk(fetch.proof.sequence, index))

    def _on_chunk(self, sender: int, message: Chunk) -> None:
        fetch = self._fetch
        if fetch is None or sender != fetch.peer or message.sequence != fetch.proof.sequence:
            self.counters["dropped_unasked"] += 1
        elif not fetch.take(message.index, message.data):
            self.counters["dropped_unproved"] += 1
            self._ask_again_ms = self.now_ms
        elif not fetch.complete:
            self._ask_again_ms = self.now_ms + self.parameters.fetch_timeout_ms
            self._ask_for_chunks()
        else:
            self._fetch = None
            if fetch.proof.sequence > self.executed:
                self._jump(fetch.proof, fetch.data)

    def _jump(self, proof: CheckpointProof, data: bytes) -> None:
        """Go on from a fetched snapshot."""
        era = self.era
        try:
            self._restore(decode_snapshot(data, proof, self.parameters.chunk_bytes), proof, data)
        except PotLabError as error:  # q replicas signed it, so this program differs from theirs
            self._halt(error)
            return
        for handover in self.succession.since(era):
            self._persist(Succeeded(handover))
        if self.era != era:
            self._effects.append(MembersChanged(self.membership))
        self.counters["snapshots_fetched"] += 1
        self._effects += [KeepSnapshot(self.executed, data), Compact(proof)]
        for entry in list(self.pool):
            cached = self.replies.get(entry.digest)
            if cached is not None:
                self.pool.remove(entry.digest)
                self._effects.append(
                    SendReply(digest=entry.digest, sequence=cached.sequence, time_ms=cached.time_ms, reply=cached.reply)
                )
        self._commits = {sequence: commit for sequence, commit in self._commits.items() if sequence > self.executed}
        self._vouchers = {key: peers for key, peers in self._vouchers.items() if key[0] > self.executed}
        self._diverging.clear()
        self._patience.executed()
        self._asked = self._behind_since_ms = None
        if self._ahead is not None and self._ahead.sequence <= self.executed:
            self._ahead = None
