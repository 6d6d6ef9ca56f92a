"""What an aggregator does besides ordering: release key shares, attest the chain, sign settlements and signer sets and
send them.

Each duty looks at its own replica's ledger after every batch and says, as signed transactions, what is still missing;
so a restarted aggregator picks up where it was, and saying a thing twice is harmless (the ledger refuses it). Slow work
(the chain) runs on the duty's own thread and only hands results over; nothing here blocks the aggregator's loop.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Sequence
from typing import Protocol

from pot_lab.agreement.evidence import Equivocation
from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.crypto.shamir import Share
from pot_lab.errors import PotLabError
from pot_lab.protocol import signers, views
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import ChainEvent, share_context
from pot_lab.protocol.settlement import Settlement, settlement_digest
from pot_lab.protocol.transactions import MAX_ITEMS, Accuse, Attest, ReleaseShare, SignEpoch, SignRotation, sign
from pot_lab.protocol.views import SlashView

log = logging.getLogger(__name__)

REPEAT_AFTER_MS = 3_000
"""A transaction that has not shown in the ledger after this long is said again."""
_SHARE_LIMIT_BYTES = 256
_EVENTS_PER_ATTESTATION = min(MAX_ITEMS, 64)


class Watcher(Protocol):
    """What the attesting duty needs of a chain watcher."""

    def poll(self) -> list[ChainEvent]:
        """New confirmed events in the chain's order; blocks for as long as the node takes."""
        ...


class Settler(Protocol):
    """What the settling duty needs of a chain wallet; every call blocks."""

    def settle(self, settlement: Settlement, order_ids: list[bytes], signatures: dict[bytes, bytes]) -> object: ...

    def claim(self, account: bytes, cumulative_grains: int, proof: list[bytes]) -> object: ...

    def apply_slash(self, node: bytes, role: int, cumulative_grains: int, to: bytes, proof: list[bytes]) -> object: ...


class Rotator(Protocol):
    """What the rotating duty needs of a chain wallet; every call blocks."""

    def set_signing_key(self, key: Identity) -> object: ...

    def rotate(self, set_id: int, threshold: int, stakers: list[bytes], signatures: dict[bytes, bytes]) -> object: ...


class Speaker:
    """Signs an aggregator's own transactions; nonces follow the host's clock, which may be wrong without harm.

    Args:
        identity, spare: the aggregator's keys; the one that the ledger listens to now signs.
    """

    def __init__(
        self,
        network_id: bytes,
        identity: Identity,
        spare: Sequence[Identity] = (),
        ledger: Callable[[], Ledger] | None = None,
    ) -> None:
        self.network_id, self._nonce = network_id, 0
        self._identities, self._ledger = (identity, *spare), ledger

    @property
    def identity(self) -> Identity:
        """The key in use now."""
        if self._ledger is None or len(self._identities) == 1:
            return self._identities[0]
        members = self._ledger().book.members
        return next((each for each in self._identities if each.address in members), self._identities[0])

    def signer_of(self, keys: Container[bytes]) -> Identity:
        """The key that is one of these, or else the one in use now."""
        return next((each for each in self._identities if each.address in keys), self.identity)

    def say(self, body: Record, identity: Identity | None = None) -> bytes:
        """A signed transaction with the next nonce, by another of its keys if one is given."""
        self._nonce = max(self._nonce + 1, time.time_ns() // 1000)
        return sign(self.network_id, body, identity or self.identity, self._nonce)


class ReleaseShares:
    """Publish this aggregator's key share of every order whose reveal window has closed (protocol.md, "Test data").

    Args:
        sealing_keys: its X25519 keys; an order's share opens with the one that was in use when the order was made.
    """

    def __init__(self, ledger: Callable[[], Ledger], speaker: Speaker, sealing_keys: Sequence[SealingKey]) -> None:
        self._ledger, self._speaker, self._keys = ledger, speaker, tuple(sealing_keys)
        self._said_ms: dict[bytes, int] = {}

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Shares that are due and not yet in the ledger."""
        state = self._ledger().state
        account = state.keys.get(self._speaker.identity.address, b"")
        due = [
            (order_id, order, holders.index(account))
            for order_id, order in state.orders.items()
            if order.window is Window.RELEASE
            and account in (holders := state.sets[order.sealed_to])
            and holders.index(account) not in order.shares
        ]
        self._said_ms = {order_id: self._said_ms[order_id] for order_id, *_ in due if order_id in self._said_ms}
        said = []
        for order_id, order, index in due:
            if now_ms - self._said_ms.get(order_id, -REPEAT_AFTER_MS) < REPEAT_AFTER_MS:
                continue
            self._said_ms[order_id] = now_ms
            test = order.order.test
            try:
                context = share_context(self._speaker.network_id, test.root, index)
                share = decode(self._open(test.sealed_shares[index], context), Share, limit_bytes=_SHARE_LIMIT_BYTES)
            except PotLabError as error:
                log.warning("event=share_unusable order=%s reason=%r", order_id.hex()[:16], str(error))
                continue
            said.append(self._speaker.say(ReleaseShare(order_id, share)))
        return said

    def _open(self, sealed: bytes, context: bytes) -> bytes:
        *others, last = self._keys
        for key in others:
            with contextlib.suppress(PotLabError):
                return key.open(sealed, context)
        return last.open(sealed, context)


class ShowEvidence:
    """Bring proofs that an aggregator lied to the ledger, until it is convicted (protocol/accusations.py)."""

    def __init__(self, ledger: Callable[[], Ledger], speaker: Speaker) -> None:
        self._ledger, self._speaker = ledger, speaker
        self._found: dict[bytes, Equivocation] = {}
        self._said_ms: dict[bytes, int] = {}

    def take(self, evidence: Equivocation) -> None:
        """Evidence that the replica found; one for each liar is enough."""
        self._found.setdefault(evidence.accused(self._speaker.network_id), evidence)

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Accusations that the ledger has not heard yet."""
        state = self._ledger().state
        for liar in [each for each in self._found if each in state.convicted]:
            del self._found[liar]
        said = []
        for liar, evidence in self._found.items():
            if liar in state.keys and now_ms - self._said_ms.get(liar, -REPEAT_AFTER_MS) >= REPEAT_AFTER_MS:
                self._said_ms[liar] = now_ms
                said.append(self._speaker.say(Accuse(encode(evidence))))
        return said


class AttestChain:
    """Report chain events as they are confirmed, numbered from the contracts' first (chain.md, "Ledger and chain").

    Args:
        make_watcher: opens a watcher at the contracts' first block; called on the duty's own thread.
        wake: makes the aggregator's loop call `poll` soon.
        interval_s: how often the chain is asked.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        speaker: Speaker,
        make_watcher: Callable[[], Watcher],
        wake: Callable[[], None],
        interval_s: float = 0.25,
    ) -> None:
        self._ledger, self._speaker = ledger, speaker
        self._make_watcher, self._wake, self._interval_s = make_watcher, wake, interval_s
        self._lock = threading.Lock()
        self._events: list[ChainEvent] = []
        self._first = 0
        self._said_through, self._said_ms = 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="chain-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watching thread."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Attestations of events that the ledger has not applied yet."""
        applied = self._ledger().state.next_chain_event
        with self._lock:
            done = min(max(0, applied - self._first), len(self._events))
            del self._events[:done]
            self._first += done
            if now_ms - self._said_ms >= REPEAT_AFTER_MS:
                self._said_through = self._first
            start = max(self._said_through, self._first)
            fresh = self._events[start - self._first :][:_EVENTS_PER_ATTESTATION]
        if not fresh:
            return []
        self._said_through, self._said_ms = start + len(fresh), now_ms
        return [self._speaker.say(Attest(start, tuple(fresh)))]

    def _watch(self) -> None:
        watcher: Watcher | None = None
        troubled = False
        while not self._ended.is_set():
            try:
                watcher = watcher or self._make_watcher()
                events = watcher.poll()
                if troubled:
                    log.info("event=chain_back")
                troubled = False
            except PotLabError as error:
                if not troubled:  # a chain that is down delays settlement and nothing else
                    log.warning("event=chain_unreachable reason=%r", str(error))
                troubled, events = True, []
            if events:
                with self._lock:
                    self._events += events
                self._wake()
            self._ended.wait(self._interval_s)


class Errands:
    """Slow work on the chain, one after the other: an account's transactions are numbered in a row."""

    def __init__(self) -> None:
        self._last: threading.Thread | None = None

    def add(self, work: Callable[[], None]) -> None:
        """Do this on a thread of its own, after what was added before."""
        before = self._last

        def after() -> None:
            if before is not None:
                before.join()
            work()

        self._last = threading.Thread(target=after, name="errand", daemon=True)
        self._last.start()


class RotateSigners:
    """Sign the signer set that the contract shall have; when a quorum has signed, send it, one aggregator after the
    other, and again while the chain does not confirm it. An aggregator that is new names its key on the chain first.

    Args:
        make_rotator: opens a chain wallet; called on a worker thread, once for each sending.
        errands: does the sending.
        patience_ms: how long the next aggregator in line waits for the one before it.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        speaker: Speaker,
        make_rotator: Callable[[], Rotator],
        errands: Errands,
        patience_ms: int = 8_000,
    ) -> None:
        self._ledger, self._speaker = ledger, speaker
        self._make_rotator, self._errands, self._patience_ms = make_rotator, errands, patience_ms
        self._digest = b""
        self._said_ms, self._send_at_ms = -REPEAT_AFTER_MS, -1
        self._name_at_ms = 0

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """This aggregator's signature, if the set that is named lacks it; starts the sending when it is this one's
        turn.
        """
        book = self._ledger().book
        state, rotation = book.state, book.state.rotation
        own = self._speaker.identity
        if now_ms >= self._name_at_ms and signers.has_to_name_its_key(book, own.address):
            self._name_at_ms = now_ms + self._patience_ms
            self._name_key(own)
        if rotation is None:
            return []
        digest = signers.digest_of(book, rotation)
        if digest != self._digest:
            self._digest, self._said_ms, self._send_at_ms = digest, -REPEAT_AFTER_MS, -1
        counted = book.counted(rotation.signatures)
        index = book.members.get(self._speaker.identity.address)
        if index is not None and len(counted) >= state.signing_quorum:
            if self._send_at_ms < 0:
                place = (index - rotation.set_id) % len(book.members)
                self._send_at_ms = now_ms + place * self._patience_ms
            if now_ms >= self._send_at_ms:
                self._send_at_ms = now_ms + len(book.members) * self._patience_ms
                self._send(rotation.set_id, rotation.threshold, list(rotation.stakers), counted)
        signer = self._speaker.signer_of(state.signers)
        late = now_ms - self._said_ms >= REPEAT_AFTER_MS
        if signer.address not in state.signers or signer.address in rotation.signatures or not late:
            return []
        self._said_ms = now_ms
        return [self._speaker.say(SignRotation(rotation.set_id, signer.sign(digest)), signer)]

    def _name_key(self, own: Identity) -> None:
        """An account that votes with its own key says so on the chain; another account's owner has to."""

        def work() -> None:
            try:
                self._make_rotator().set_signing_key(own)
                log.info("event=signing_key_named")
            except PotLabError as error:
                log.warning("event=signing_key_not_named reason=%r", str(error))

        self._errands.add(work)

    def _send(self, set_id: int, threshold: int, stakers: list[bytes], signatures: dict[bytes, bytes]) -> None:
        def work() -> None:
            try:
                self._make_rotator().rotate(set_id, threshold, stakers, signatures)
                log.info("event=rotation_sent set=%d n=%d", set_id, len(stakers))
            except PotLabError as error:  # another may have sent it already; if not, the next in line tries
                log.warning("event=rotation_not_sent set=%d reason=%r", set_id, str(error))

        self._errands.add(work)


class SettleEpochs:
    """Sign the pending settlement; when a quorum has signed, send it to the chain, one aggregator after the other.

    Args:
        make_settler: opens a chain wallet; called on a worker thread, once for each sending.
        errands: does the sending.
        patience_ms: how long the next aggregator in line waits for the one before it.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        speaker: Speaker,
        make_settler: Callable[[], Settler],
        errands: Errands,
        patience_ms: int = 8_000,
    ) -> None:
        self._ledger, self._speaker = ledger, speaker
        self._make_settler, self._errands, self._patience_ms = make_settler, errands, patience_ms
        self._signed: dict[tuple[int, int], int] = {}
        self._complete_since: dict[tuple[int, int], int] = {}
        self._sent: set[tuple[int, int]] = set()
        self._confirmed_epoch = 0

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """This aggregator's signature, if the pending settlement lacks it; starts the sending when it is this one's
        turn.
        """
        book = self._ledger().book
        state = book.state
        pending = state.pending
        if pending is None:
            self._after_confirmation(state.confirmed.epoch)
            return []
        index = book.members.get(self._speaker.identity.address)
        if index is None:
            return []
        settlement = pending.settlement
        name = (settlement.epoch, settlement.round)
        counted = book.counted(pending.signatures)
        if len(counted) >= state.signing_quorum and name not in self._sent:
            since = self._complete_since.setdefault(name, now_ms)
            self._complete_since = {name: since}
            place = (index - settlement.epoch - settlement.round) % len(book.members)
            if now_ms - since >= place * self._patience_ms:
                self._sent = {name}
                quorum = dict(list(counted.items())[: state.signing_quorum])
                self._send(settlement, list(pending.order_ids), quorum)
        signer = self._speaker.signer_of(state.signers)  # the contract knows keys that the ledger may not hear any more
        if signer.address in pending.signatures or now_ms - self._signed.get(name, -REPEAT_AFTER_MS) < REPEAT_AFTER_MS:
            return []
        self._signed = {name: now_ms}
        genesis = state.genesis
        digest = settlement_digest(genesis.chain_id, genesis.settlement_contract, settlement)
        return [self._speaker.say(SignEpoch(*name, signer.sign(digest)), signer)]

    def _send(self, settlement: Settlement, order_ids: list[bytes], signatures: dict[bytes, bytes]) -> None:
        def work() -> None:
            try:
                self._make_settler().settle(settlement, order_ids, signatures)
                log.info(
                    "event=epoch_sent epoch=%d round=%d orders=%d", settlement.epoch, settlement.round, len(order_ids)
                )
            except PotLabError as error:  # another may have sent it already; the ledger opens a new round if nobody did
                log.warning("event=epoch_not_sent epoch=%d reason=%r", settlement.epoch, str(error))

        self._errands.add(work)

    def _after_confirmation(self, epoch: int) -> None:
        """Once for each confirmed epoch: claim what this aggregator earned; f+1 of them carry out the slashes."""
        if epoch <= self._confirmed_epoch:
            return
        self._confirmed_epoch = epoch
        ledger = self._ledger()
        key = self._speaker.identity.address
        address = ledger.state.keys.get(key, key)
        index = ledger.book.members.get(key)
        own = decode(
            views.query(ledger, "account", encode(views.AccountQuery(address))), views.AccountView, limit_bytes=1 << 20
        )
        # f+1 of them in turn, since one may be down; whoever comes late finds nothing left to take
        mine = index is not None and (index - epoch) % len(ledger.book.members) <= ledger.book.faulty
        slashes = confirmed_slashes(ledger) if mine else ()
        if not own.claimable_cumulative_grains and not slashes:
            return

        def work() -> None:
            settler = self._make_settler()
            if own.claimable_cumulative_grains:
                try:
                    settler.claim(address, own.claimable_cumulative_grains, list(own.claim_proof))
                except PotLabError as error:  # paid already, e.g. before a restart
                    log.info("event=not_claimed reason=%r", str(error))
            for slash in slashes:
                try:
                    settler.apply_slash(slash.node, slash.role, slash.cumulative_grains, slash.to, list(slash.proof))
                except PotLabError as error:  # one that was applied in an earlier epoch has nothing left to take
                    log.info("event=slash_not_applied reason=%r", str(error))

        self._errands.add(work)


def confirmed_slashes(ledger: Ledger) -> tuple[SlashView, ...]:
    """Slashes of the last confirmed epoch, with the proofs that the chain asks for."""
    raw = views.query(ledger, "epoch", b"")
    return decode(raw, views.EpochView, limit_bytes=1 << 30).slashes
