"""One replica of PBFT as a function: inputs in, effects out (Castro and Liskov, OSDI 1999, section 4; the paper's
Algorithm 1).

`Replica.step(input)` hands an input to the part that it is for, then does whatever has become possible. A replica may
not touch a clock, socket, disk, thread or randomness: time arrives as `Tick`, and everything it wants done leaves as an
effect (`steps.py`).

Rules that keep it safe:
- a vote leaves only after the `Persist` before it, and after a restart the log decides which votes exist;
- prepares are verified up to the quorum, since a prepared certificate is shown to others; commits count by the channel
  that brought them, and their signatures are kept for proofs of replies;
- a view that was left is on disk before a message about it is sent, and a replica never votes in it again;
- a sequence is executed on q commits of one view over one digest, or on proof of them, and on nothing less.
"""

from __future__ import annotations

from pot_lab.consensus.admission import Admission
from pot_lab.consensus.checkpointing import Checkpointing
from pot_lab.consensus.eras import Eras
from pot_lab.consensus.log_sync import LogSync
from pot_lab.consensus.membership import OUTSIDERS
from pot_lab.consensus.messages import (
    Attestation,
    BatchContent,
    Checkpoint,
    Chunk,
    Commit,
    Decisions,
    FetchBatches,
    FetchBodies,
    FetchChunk,
    FetchDecisions,
    FetchViewChanges,
    Forward,
    Message,
    NewView,
    Offer,
    Prepare,
    PrePrepare,
    Requests,
    Stable,
    Status,
    ViewChange,
    request_digest,
)
from pot_lab.consensus.normal_case import NormalCase
from pot_lab.consensus.proof import NoProof, ReplyProof, reply_leaf
from pot_lab.consensus.recovery import Recovery
from pot_lab.consensus.steps import Broadcast, Effect, Input, Received, Restored, SetTimer, Submitted, Tick
from pot_lab.consensus.view_transition import ViewTransition
from pot_lab.crypto.merkle import merkle_proof, merkle_root

_STOOD_STILL_MS = 250
_FOR_ALL = (Status, FetchDecisions, Decisions, Stable, Offer, FetchChunk, Chunk)
"""The messages of a peer without a seat: it fetches, or shows what is proved."""


class Replica(Admission, NormalCase, ViewTransition, Checkpointing, Eras, LogSync, Recovery):
    """A replica of one network.

    Args:
        membership: the network's first set and this replica's place in it, if any.
        identity: the key of `membership.addresses[membership.index]`; without a place, the one that is to get one.
        application: what the batches act on, in its initial state.
        parameters: limits and times.
        spare: keys that may take this replica's place later, after a rotation.
        recover: gives the address that signed a digest, as `crypto.identity.recover` does.

    Attributes:
        membership: the set in force here.
        succession: all sets so far.
        view: the current view; its primary is replica `view mod n`. While `changing`, the view that it waits for.
        executed, time_ms, state: the last executed batch's sequence, time and the state digest after it.
        counters: how often what was seen, dropped or done, by reason.
    """

    def prove(self, request: bytes) -> ReplyProof:
        """This replica's part of the proof of a recent reply (proof.py), signed now; `request` is the request's digest.

        Raises:
            NoProof: the request did not run, or too long ago.
        """
        if not self.has_seat:
            raise NoProof("this replica has no seat, so nothing that it signs counts", seen=request)
        cached = self.replies.get(request)
        header = None if cached is None else self._headers.get(cached.sequence)
        if cached is None or header is None:
            raise NoProof("this replica has no reply to this request to prove", seen=request)
        ran = self.replies.of(cached.sequence)
        leaves = [reply_leaf(each.digest, each.reply) for each in ran]
        if merkle_root(leaves) != header.replies:
            raise NoProof("the replies beside this one are forgotten already", seen=request)
        index = next(index for index, each in enumerate(ran) if each.digest == request)
        signature = self._identity.sign(header.signed(self.membership.network_id, self.era))
        attestation = Attestation(self.index, signature)
        return ReplyProof(
            header=header,
            era=self.era,
            request=request,
            reply=cached.reply,
            path=merkle_proof(leaves, index),
            attestations=(attestation,),
        )

    def step(self, *inputs: Input) -> list[Effect]:
        """Take a turn's inputs, then do what they made possible; returns what must be done, in order.

        However much came in a turn, each batch, vote and timer is looked at once: so a busy replica proposes what came
        together in one batch, and its work for a message stays small.

        Raises:
            BadLog: only for `Recovered`: the log contradicts itself.
        """
        self._effects, era = [], self.era
        for input_ in inputs:
            if self.halted:
                break
            if self.era == era or not isinstance(input_, Received):  # else its sender is another set's index
                self._dispatch(input_)
        if self.recovered and not self.halted:
            if self._suspicion is not None:
                self.counters["suspected_" + self._suspicion] += 1
                self._change_view(self.view + 1)
            self._advance()
            view = self.view, self.changing
            self._keep_time()
            if view != (self.view, self.changing):
                self._advance()
        effects, self._effects = self._effects, []
        return effects

    def _dispatch(self, input_: Input) -> None:
        if isinstance(input_, Received):
            self._receive(input_.sender, input_.message)
        elif isinstance(input_, Submitted):
            self._submit(input_.request, input_.spread, input_.digest or request_digest(input_.request))
        elif isinstance(input_, Tick):
            self._tick(input_.now_ms)
        elif isinstance(input_, Restored):
            self._restore_own(input_)
        else:
            self._recover(input_)

    def _tick(self, clock_ms: int) -> None:
        """Take the time. A replica that should have had a turn long ago stood still, and suspects nobody for it. One
        whose clock was set back waits as long as it would have, and not until the clock is where it was before.
        """
        self._set_back_ms += max(0, self.clock_ms - clock_ms)
        self.now_ms = self._by_own_time(clock_ms)
        if self._timer_ms is not None and 0 <= self._timer_ms < clock_ms - _STOOD_STILL_MS:
            self._patience.extend(clock_ms - self._timer_ms, self.now_ms)
            self._watching_since_ms = self.now_ms
            self.counters["stood_still"] += 1

    def _receive(self, sender: int, message: Message) -> None:
        if not self.recovered or sender == self.index or not (0 <= sender < self.n or sender >= OUTSIDERS):
            self.counters["dropped_bad_sender"] += 1
        elif sender >= OUTSIDERS and not isinstance(message, _FOR_ALL):
            self.counters["dropped_outsider"] += 1
        elif isinstance(message, (Prepare, Commit)):  # by far the most; a union is slower
            self._on_vote(sender, message)
        elif isinstance(message, PrePrepare):
            self._on_pre_prepare(sender, message)
        elif isinstance(message, Status):
            self._on_status(sender, message)
        elif isinstance(message, Forward):
            self._on_forward(message)
        elif isinstance(message, FetchBodies):
            self._on_fetch_bodies(sender, message)
        elif isinstance(message, Requests):
            self._on_requests(message)
        elif isinstance(message, FetchDecisions):
            self._on_fetch_decisions(sender, message)
        elif isinstance(message, Decisions):
            self._on_decisions(sender, message)
        elif isinstance(message, Checkpoint):
            self._on_checkpoint(sender, message)
        elif isinstance(message, Stable):
            self._on_stable(message.proof)
        elif isinstance(message, ViewChange):
            self._on_view_change(sender, message)
        elif isinstance(message, NewView):
            self._on_new_view(sender, message)
        elif isinstance(message, FetchViewChanges):
            self._on_fetch_view_changes(sender, message)
        elif isinstance(message, FetchBatches):
            self._on_fetch_batches(sender, message)
        elif isinstance(message, BatchContent):
            self._fill(message.sequence, message.time_ms, message.requests)
        elif isinstance(message, Offer):
            self._on_offer(sender, message)
        elif isinstance(message, FetchChunk):
            self._on_fetch_chunk(sender, message)
        else:
            self._on_chunk(sender, message)

    def _advance(self) -> None:
        """Do whatever has become possible: accept, commit and execute in order, then propose."""
        while not self.halted:
            self._vote()
            if not self._execute_next() and not self._propose():
                break

    def _keep_time(self) -> None:
        """Repeat, remind and report when it is time to; set the timer for the next time."""
        now_ms = self.now_ms
        wake = [self._sync_log(), self._resend(), self._fetch_bodies(), self._remind(), self._watch()]
        if now_ms >= self._status_at_ms:
            self._effects.append(Broadcast(self._own_status(ask=not self.has_seat)))
            self._status_at_ms = now_ms + self.parameters.status_ms * self._pace
            self._repeat_checkpoints()
        wake.append(self._status_at_ms)
        tolerance_ms = self.parameters.time_tolerance_ms
        for sequence in range(self.executed + 1, self._highest_slot + 1):
            slot = self._slots.get(sequence)
            if slot is not None and slot.proposal is not None:
                at_ms = self._by_own_time(slot.proposal.time_ms - tolerance_ms)
                if at_ms > now_ms:
                    wake.append(at_ms)
        at_ms = min(at_ms for at_ms in wake if at_ms is not None)
        timer_ms = at_ms - self._set_back_ms
        if timer_ms != self._timer_ms:
            self._timer_ms = timer_ms
            self._effects.append(SetTimer(timer_ms))
