"""The ledger: one function from (state, batch) to (state, replies, events), and the owner of every rule.

`execute` first lets time pass (windows that are due end, epochs open), then applies each transaction: nonce, body,
handler. A handler checks first and changes second; a refused transaction changes nothing but its nonce. Conservation of
money is checked after each (protocol.md, "Money"). The same code runs in production, in the simulator and in the tests;
it knows no clock, socket or disk.

No transaction and no deadline stops it (protocol.md, "Faults"): whatever fails is taken back whole, and the batch goes
on. Only a state that is unsound does, and what depends on the host (`book.HALTS`).
"""

from __future__ import annotations

import functools
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pot_lab.agreement.quorum import quorum
from pot_lab.crypto.canonical import Record, decode, encode, tagged_hash
from pot_lab.crypto.identity import Address, Recover, recover
from pot_lab.errors import InvariantBroken, PotLabError
from pot_lab.protocol import (
    accusations,
    chain_events,
    denials,
    epochs,
    expiry,
    governance,
    journal,
    members,
    owner_acts,
    signers,
)
from pot_lab.protocol.book import HALTS, Book, Fault
from pot_lab.protocol.errors import StaleNonce, UnknownKind, UnknownVersion, UnprocessableTransaction, WrongNetwork
from pot_lab.protocol.orders import attesting, disputes, forgetting, opening, windows
from pot_lab.protocol.orders import transactions as orders
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import NO_ORDER
from pot_lab.protocol.state import Event, Genesis, GenesisAggregator, LedgerState
from pot_lab.protocol.transactions import Reply, Transaction, open_body

SNAPSHOT_LIMIT_BYTES = 1 << 32
FAULTS_KEPT = 64
_SHOWN_BYTES, _SHOWN_CHARACTERS = 96, 200

Handler = Callable[[Book, Address, Any], bytes]
Derived = TypeVar("Derived")

HANDLERS: dict[str, Handler] = {
    "register": members.on_register,
    "unregister": members.on_unregister,
    "put": orders.on_put,
    "withdraw": orders.on_withdraw,
    "claim": orders.on_claim,
    "reveal_model": orders.on_reveal_model,
    "release_share": orders.on_release_share,
    "release_key": orders.on_release_key,
    "commit_scores": orders.on_commit_scores,
    "open_scores": orders.on_open_scores,
    "challenge": disputes.on_challenge,
    "open_challenge": disputes.on_open_challenge,
    "attest_boxes": opening.on_attest_boxes,
    "release_model_shares": opening.on_release_model_shares,
    "verdict": disputes.on_verdict,
    "attest": chain_events.on_attest,
    "attest_blobs": attesting.on_attest_blobs,
    "sign_epoch": epochs.on_sign_epoch,
    "deny_escrow": denials.on_deny_escrow,
    "sign_rotation": signers.on_sign_rotation,
    "sign_owner_act": owner_acts.on_sign_owner_act,
    "accuse": accusations.on_accuse,
    "join": members.on_join,
    "vote_seat": members.on_vote_seat,
    "leave": members.on_leave,
    "rotate_keys": members.on_rotate_keys,
    "propose": governance.on_propose,
    "propose_version": governance.on_propose_version,
    "vote": governance.on_vote,
}
"""Which rule handles which kind of transaction."""

VERSIONS: dict[int, Mapping[str, Handler]] = {1: HANDLERS}
"""The protocol's rules by version. One that ever was in force stays here, so that old logs can be replayed."""


class LedgerSnapshot(Record, frozen=True, kw_only=True):
    """A ledger's whole state; the version of its rules, and the release that knows them, can be read without it."""

    version: int
    install: str
    state: bytes


class Ledger:
    """The global ledger L of one network.

    Args:
        genesis: what the network begins with.
        recover: gives the address that signed a digest, as `crypto.identity.recover` does.
        versions: the rules by version, a handler for each kind of transaction.
    Raises:
        BadParameter: such a network cannot work.
        UnknownVersion: it begins under rules that this release does not know.
    """

    def __init__(
        self,
        genesis: Genesis,
        *,
        recover: Recover = recover,
        versions: Mapping[int, Mapping[str, Handler]] = VERSIONS,
    ) -> None:
        genesis.check()
        self.versions = versions
        self.faults: deque[Fault] = deque(maxlen=FAULTS_KEPT)
        """What failed and was taken back lately, for the log; whoever reads it empties it."""
        self._require_version(genesis.version, "")
        state = LedgerState(
            genesis=genesis, parameters=genesis.parameters, digest=tagged_hash("pot-lab/ledger/1", genesis.network_id)
        )
        state.governance.version, state.governance.since = genesis.version, {genesis.version: 0}
        state.aggregators = [
            GenesisAggregator(account=each.address, key=each.address, sealing_public=each.sealing_public)
            for each in genesis.members
        ]
        state.sets = {0: list(genesis.members)}
        state.signers = sorted(member.address for member in genesis.members)
        state.signing_quorum = quorum(len(state.signers))
        state.keys = {member.address: member.address for member in genesis.members}
        self.book = Book(state, recover)
        for member in genesis.members:
            self.book.set_active(member.address, Role.AGGREGATOR, True)

    @property
    def state(self) -> LedgerState:
        """The state, for reading."""
        return self.book.state

    def execute(
        self, sequence: int, time_ms: int, transactions: Sequence[Transaction], era: int = 0
    ) -> tuple[list[Reply], list[Event]]:
        """Apply one ordered batch.

        Args:
            sequence: the batch's number; follows the last one without a gap.
            time_ms: the batch's agreed time, not before the last one's.
            transactions: authenticated by `open_transaction` before they were ordered.
            era: the checkpoint after which the aggregators that decided the batch took over.
        Returns: one reply for each transaction, and what happened.
        Raises:
            UnknownVersion: the batch is under rules that this release does not know; nothing has changed.
            UnsoundState: the state is wrong, and the process must end.
        """
        state = self.book.state
        if sequence != state.sequence + 1 or time_ms < state.time_ms:
            raise InvariantBroken(
                "batches are out of order",
                seen=f"batch {sequence} at {time_ms} ms",
                wanted=f"batch {state.sequence + 1} at {state.time_ms} ms or later",
            )
        now = state.governance
        in_force = self._derived("next version", lambda: governance.next_version(self.book, time_ms))
        self._require_version(*(in_force or (now.version, now.install)))
        with journal.recording():
            return self._execute(sequence, time_ms, transactions, era)

    def _execute(
        self, sequence: int, time_ms: int, transactions: Sequence[Transaction], era: int
    ) -> tuple[list[Reply], list[Event]]:
        book, state = self.book, self.book.state
        book.begin()
        before_ms = state.time_ms
        state.sequence, state.time_ms, state.era = sequence, time_ms, era
        book.settle_down()
        self._let_time_pass(before_ms)
        replies = [self._apply(transaction) for transaction in transactions]
        chain_events.advance(book)
        windows.start_waiting(book)
        epochs.advance(book)
        book.attempt("signers.advance", functools.partial(signers.advance, book))
        book.check_conservation()
        self.faults.extend(book.faults)
        replies, events, encoded = _in_bytes(replies, book.events)
        head = encode((sequence, time_ms, state.governance.version))
        state.digest = tagged_hash("pot-lab/ledger/1", state.digest, head, *encoded)
        for order_id in book.closing:
            if order_id in state.orders:
                state.orders[order_id].beacon = state.digest
        return replies, events

    def due_ms(self) -> int | None:
        """When the next window, epoch or set is due, so that a batch is due even if no transaction waits."""
        book = self.book
        times = (
            book.index.deadlines.next_ms(),
            self._derived("next epoch", lambda: epochs.due_ms(book)),
            self._derived("next change of members", lambda: members.due_ms(book)),
            self._derived("next vote", lambda: governance.due_ms(book)),
        )
        return min((time_ms for time_ms in times if time_ms is not None), default=None)

    def _derived(self, what: str, read: Callable[[], Derived]) -> Derived | None:
        """What follows from the state; None, and a line in the log, where a bug of ours keeps it from being told.

        It is asked for between batches, where nothing can be taken back or become an event.
        """
        try:
            return read()
        except HALTS:
            raise
        except Exception as error:
            self.faults.append(Fault(what, NO_ORDER, "".join(traceback.format_exception(error))))
            return None

    def snapshot(self) -> bytes:
        """The whole state in canonical bytes."""
        now = self.state.governance
        return encode(LedgerSnapshot(version=now.version, install=now.install, state=encode(self.state)))

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot's state after auditing its money.

        Raises:
            Malformed: the bytes are not a snapshot.
            WrongNetwork: it is another network's.
            UnknownVersion: it was made under rules that this release does not know.
        """
        found = decode(snapshot, LedgerSnapshot, limit_bytes=SNAPSHOT_LIMIT_BYTES)
        self._require_version(found.version, found.install)
        state = decode(found.state, LedgerState, limit_bytes=SNAPSHOT_LIMIT_BYTES)
        if state.genesis != self.state.genesis:
            raise WrongNetwork(
                "the snapshot is another network's", seen=state.genesis.network_id, wanted=self.book.network_id
            )
        book = Book(state, self.book.recover)
        book.audit()
        self.book = book

    def _require_version(self, version: int, install: str) -> None:
        if version not in self.versions:
            release = f"install {install}" if install else "install a newer release"
            raise UnknownVersion(
                f"version {version} of the protocol's rules is in force, which this release does not know",
                seen=f"this release knows {', '.join(map(str, sorted(self.versions)))}",
                wanted=f"{release} and start again",
            )

    def _let_time_pass(self, before_ms: int) -> None:
        book, now_ms = self.book, self.state.time_ms
        book.attempt("governance.advance", functools.partial(governance.advance, book))
        book.attempt("owner_acts.forget", functools.partial(owner_acts.forget, book))
        for order_id in book.index.deadlines.due(now_ms):
            windows.close(book, order_id, self.state.orders[order_id])
        for order_id in book.index.retention.due(now_ms):
            forgetting.forget(book, order_id, self.state.orders[order_id])
        book.attempt("expiry.advance", functools.partial(expiry.advance, book, before_ms))
        epochs.advance(book)
        for duty in (members.lapse, members.let_go, members.carry_out_votes):
            book.attempt(f"members.{duty.__name__}", functools.partial(duty, book))
        book.check_conservation()

    def _apply(self, transaction: Transaction) -> Reply:
        """The reply to one transaction, which is carried out whole or changes nothing but its account's nonce."""
        book, state = self.book, self.state
        known = state.accounts.get(transaction.account)
        last = known.nonce if known else 0
        if known and transaction.nonce > last:
            # a stranger that is refused leaves no entry, or anybody could fill the ledger with them
            known.nonce = transaction.nonce
        book.settle_down()
        before = book.savepoint()
        try:
            result = self._carry_out(transaction, last)
            book.stand(before)
            return Reply(accepted=True, sequence=state.sequence, time_ms=state.time_ms, result=result)
        except HALTS:
            raise
        except PotLabError as error:
            refusal = error
            book.roll_back(before)
        except Exception as error:
            # A bug of ours, equal on every replica. Halting would let one request stop the network for good, since the
            # batch is in the logs.
            refusal = UnprocessableTransaction(UnprocessableTransaction.MESSAGE)
            book.roll_back(before)
            book.report(f"{transaction.kind} transaction", error)
        return Reply(
            accepted=False,
            sequence=state.sequence,
            time_ms=state.time_ms,
            code=refusal.code,
            message=refusal.message,
            seen=_text(refusal.seen),
            wanted=_text(refusal.wanted),
        )

    def _carry_out(self, transaction: Transaction, last: int) -> bytes:
        if transaction.nonce <= last:
            raise StaleNonce(
                "the account has used this nonce or a later one already",
                seen=transaction.nonce,
                wanted=f"at least {last + 1}",
            )
        version = self.state.governance.version
        handler = self.versions[version].get(transaction.kind)
        if handler is None:
            raise UnknownKind(
                "no rule in force handles this kind of transaction",
                seen=transaction.kind,
                wanted=f"a kind of version {version} of the rules",
            )
        result = handler(self.book, transaction.account, open_body(transaction))
        self.book.account(transaction.account).nonce = transaction.nonce
        return result


def _in_bytes(replies: list[Reply], events: list[Event]) -> tuple[list[Reply], list[Event], tuple[bytes, bytes]]:
    """A batch's replies and events with their canonical bytes.

    Where a rule put something into one that has no such bytes, a reply keeps its outcome alone, and a fault stands in
    the event's place: what has been done stands already, and nothing may end the process here.
    """
    try:
        return replies, events, (encode(replies), encode(events))
    except HALTS:
        raise
    except Exception:
        replies = [each if _has_bytes(each) else _outcome(each) for each in replies]
        events = [each if _has_bytes(each) else _fault(each) for each in events]
        return replies, events, (encode(replies), encode(events))


def _has_bytes(value: Reply | Event) -> bool:
    try:
        encode(value)
    except HALTS:
        raise
    except Exception:
        return False
    return True


def _outcome(reply: Reply) -> Reply:
    code = "" if reply.accepted else UnprocessableTransaction.__name__
    return Reply(accepted=reply.accepted, sequence=reply.sequence, time_ms=reply.time_ms, code=code)


def _fault(event: Event) -> Event:
    return Event(kind="fault", detail={"where": f"{event.kind} event"})


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return "0x" + value[:_SHOWN_BYTES].hex() + ("…" if len(value) > _SHOWN_BYTES else "")
    if isinstance(value, str | int):
        return str(value)[:_SHOWN_CHARACTERS]
    if isinstance(value, tuple | list):
        return f"({', '.join(_text(each) for each in value)})"[:_SHOWN_CHARACTERS]
    return type(value).__name__  # not its repr, which is the library's and may change with it
