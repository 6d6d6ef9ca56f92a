"""The ledger's book: its state at one moment of one batch, and the few primitive moves that every rule is made of.

Money moves only here, always from one pot to another, so conservation (protocol.md, "Money") holds by construction;
`check_conservation` checks it from running totals after every transaction, and `audit` from the entries themselves.

What fails half-way is taken back (protocol.md, "Faults"): `attempt` carries something out whole or not at all.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pot_lab.agreement.quorum import faulty, quorum
from pot_lab.crypto.identity import Address, Recover, recover
from pot_lab.errors import InvariantBroken
from pot_lab.protocol import dues, journal
from pot_lab.protocol.custody_index import CHANGES_KEPT, CustodyIndex
from pot_lab.protocol.cycle import VoidReason
from pot_lab.protocol.errors import InsufficientStake, NotAllowed, UnknownOrder
from pot_lab.protocol.order_index import OrderIndex, is_waiting
from pot_lab.protocol.parameters import BASIS_POINTS, Role
from pot_lab.protocol.records import NO_ORDER, NOBODY, OrderId
from pot_lab.protocol.settlement import PayoutTree
from pot_lab.protocol.state import Account, Escrow, Event, LedgerState, OrderNote, OrderState, Payout, Stake

MAX_INSIDE_GRAINS = 1 << 63
"""How much money the ledger can hold at a time: stakes and escrows are canonical integers, which end at 2^64."""


class UnsoundState(InvariantBroken):
    """What stands is wrong, or a change could not be taken back: no replica may go on from here.

    What to do: report it with the message: this is a bug of ours, and going on could lose money.
    """


HALTS = (UnsoundState, MemoryError, RecursionError, OSError, ImportError, SystemError)
"""What ends the process: a state that is unsound, and what depends on the host rather than on the history alone, so
that other replicas may not meet it. Every other exception is a fault, and alike on all replicas."""


Savepoint = tuple[int, int, int, int]
"""How many changes, events, closing and touched orders were noted at a moment, for `Book.roll_back`."""


class Fault(NamedTuple):
    """Something that failed and was taken back: where, in which order if in one, and the traceback for the log.

    The traceback differs between releases, so it enters neither events nor replies.
    """

    where: str
    order_id: OrderId
    traceback: str


class _Batch:
    """What a batch has done so far: what failed, the orders that the indices followed, and whether they are at it."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.touched: list[tuple[OrderId, OrderState]] = []
        self.is_indexing = False


class Book:
    """State, the batch's time, the events that the batch has caused so far, and what can be derived from the state."""

    def __init__(self, state: LedgerState, recover: Recover = recover) -> None:
        self.state, self.recover = state, recover
        self.events: list[Event] = []
        self.members: dict[Address, int] = {}
        self.name_members()
        self.network_id: bytes = state.genesis.network_id
        self.index = OrderIndex(state.orders)
        self.custody = CustodyIndex(state)
        self.active: dict[Role, set[Address]] = {
            role: {address for address, account in state.accounts.items() if account.active[role]} for role in Role
        }
        self.payout_trees: dict[bytes, PayoutTree] = {}
        self.closing: list[OrderId] = []
        self.waiting = {order_id for order_id in state.orders if self._waits(order_id)}
        self._batch = _Batch()

    # --- whole or not at all ---------------------------------------------------------------------------------
    def begin(self) -> None:
        """A batch begins: nothing has happened in it yet."""
        self.events, self.closing, self._batch = [], [], _Batch()

    @property
    def faults(self) -> list[Fault]:
        """What failed in this batch, and was taken back."""
        return self._batch.faults

    def attempt(self, where: str, act: Callable[[], object], order_id: OrderId = NO_ORDER) -> bool:
        """Carry something out whole; or, if it fails, not at all, and report where.

        Returns: whether it was carried out.
        Raises:
            UnsoundState: it could not be taken back, or money was not conserved before.
        """
        before = self.savepoint()
        try:
            act()
            self.stand(before)
        except HALTS:
            raise
        except Exception as error:
            self.roll_back(before)
            self.report(where, error, order_id)
            return False
        return True

    def savepoint(self) -> Savepoint:
        """This moment, to come back to."""
        return journal.position(), len(self.events), len(self.closing), len(self._batch.touched)

    def stand(self, since: Savepoint) -> None:
        """Let stand what was done since, if it moved money right; raises InvariantBroken."""
        if journal.position() > since[0]:
            self.check_conservation()
        if not since[0]:
            self.settle_down()

    def settle_down(self) -> None:
        """Let stand everything so far: nothing is taken back to an earlier moment."""
        journal.forget()
        self._batch.touched.clear()

    def roll_back(self, to: Savepoint) -> None:
        """Take back everything since then.

        Raises:
            UnsoundState: what stands now is not what stood then.
        """
        changes, events, closing, touched = to
        if (journal.position(), len(self.events), len(self._batch.touched)) == (changes, events, touched):
            return
        try:
            journal.undo(changes)
            del self.events[events:], self.closing[closing:]
            self._follow_again(touched)
            self.check_conservation()
        except Exception as error:
            raise UnsoundState(f"a change could not be taken back: {error}") from error

    def report(self, where: str, error: Exception, order_id: OrderId = NO_ORDER) -> None:
        """Let all know of a fault: by an event, which says the same on all replicas, and the traceback for the log."""
        self.faults.append(Fault(where, order_id, "".join(traceback.format_exception(error))))
        self.emit("fault", order_id, where=where)

    def _follow_again(self, since: int) -> None:
        """Bring back in line what is derived from the state, after a change of it was taken back."""
        touched = self._batch.touched[since:]
        del self._batch.touched[since:]
        self.name_members()
        if self._batch.is_indexing:  # it failed in there, so nothing of it is certain
            version = self.custody.version + CHANGES_KEPT + 1  # readers have to look at everything
            self.index, self.custody = OrderIndex(self.state.orders), CustodyIndex(self.state)
            self.custody.version += version
            self._batch.is_indexing = False
            self.waiting = {order_id for order_id in self.state.orders if self._waits(order_id)}
            return
        for order_id, last in dict(touched).items():
            order = self.state.orders.get(order_id)
            if order is None:
                self.index.remove(order_id, last)
            else:
                self.index.touch(order_id, order)
            self.custody.touch(order_id, order)
            (self.waiting.add if self._waits(order_id) else self.waiting.discard)(order_id)

    def _waits(self, order_id: OrderId) -> bool:
        order = self.state.orders.get(order_id)
        return order is not None and is_waiting(order) and order_id in self.state.escrows

    # --- who -------------------------------------------------------------------------------------------------
    @property
    def now_ms(self) -> int:
        """The batch's agreed time."""
        return self.state.time_ms

    @property
    def faulty(self) -> int:
        """f: how many aggregators may be faulty (`agreement.quorum`)."""
        return faulty(len(self.members))

    @property
    def quorum(self) -> int:
        """q: how many aggregators decide (`agreement.quorum`)."""
        return quorum(len(self.members))

    def counted(self, signatures: dict[Address, bytes]) -> dict[bytes, bytes]:
        """Of a settlement's or a signer set's signatures those that the contract counts, by address."""
        return {key: signatures[key] for key in sorted(self.state.signers) if key in signatures}

    def add_signature(self, signatures: dict[Address, bytes], key: Address, signature: bytes) -> bool:
        """Keep a checked signature; true if it is the one that reaches the contract's quorum."""
        before = len(self.counted(signatures))
        signatures[key] = signature
        return before < self.state.signing_quorum <= len(self.counted(signatures))

    def account(self, address: Address) -> Account:
        """The account's entry, made when it is first needed."""
        known = self.state.accounts.get(address)
        if known is None:
            known = self.state.accounts[address] = Account()
        return known

    def stake(self, address: Address, role: Role) -> Stake:
        """The account's stake in a role; all zero for a stranger, whose entry is not made."""
        known = self.state.accounts.get(address)
        return known.stakes[role] if known else Stake()

    def require_active(self, address: Address, role: Role) -> None:
        """Raise NotAllowed unless the account is registered in this role."""
        known = self.state.accounts.get(address)
        if not known or not known.active[role]:
            raise NotAllowed(
                f"the account is not registered as a {role.name.lower()}",
                wanted=f"stake on the chain, then register as a {role.name.lower()}",
            )

    def require_member(self, address: Address) -> int:
        """The aggregator's index, by its key; raises NotAllowed for anybody else, and for one that was convicted."""
        if address not in self.members or address in self.state.convicted:
            raise NotAllowed("only an aggregator of this network may submit this")
        return self.members[address]

    def count_members(self, accounts: Iterable[Address]) -> int:
        """How many members in force there are among these accounts; one that was convicted does not count."""
        return len(set(self.paid_aggregators).intersection(accounts))

    def is_convicted(self, account: Address) -> bool:
        """Whether a key of this account equivocated as an aggregator's."""
        return any(self.state.keys[key] == account for key in self.state.convicted)

    @property
    def paid_aggregators(self) -> list[Address]:
        """Accounts of the aggregators that were not convicted."""
        return [seat.account for seat in self.state.aggregators if seat.key not in self.state.convicted]

    def name_members(self) -> None:
        """Note who the aggregators are now."""
        self.members = {seat.key: index for index, seat in enumerate(self.state.aggregators)}

    def require_order(self, order_id: OrderId) -> OrderState:
        """The order in full; raises UnknownOrder."""
        order = self.state.orders.get(order_id)
        if order is None:
            raise UnknownOrder("the ledger has no such order", seen=order_id)
        return order

    def touch(self, order_id: OrderId, order: OrderState) -> None:
        """Take note of an order that is new or has changed its window, its money, its epoch or its blobs."""
        self._batch.touched.append((order_id, order))
        self._batch.is_indexing = True
        self.index.touch(order_id, order)
        self.custody.touch(order_id, order)
        self._batch.is_indexing = False

    def touch_custody(self, order_id: OrderId, order: OrderState) -> None:
        """Take note of an order that names other blobs now."""
        self._batch.touched.append((order_id, order))
        self._batch.is_indexing = True
        self.custody.touch(order_id, order)
        self._batch.is_indexing = False

    def untouch(self, order_id: OrderId, order: OrderState) -> None:
        """Take note that an order is forgotten."""
        self._batch.touched.append((order_id, order))
        self._batch.is_indexing = True
        self.index.remove(order_id, order)
        self.custody.touch(order_id, None)
        self._batch.is_indexing = False

    def set_active(self, address: Address, role: Role, active: bool) -> None:
        """Register an account in a role, or end its registration."""
        accounts = self.active[role]
        journal.note(accounts.add if address in accounts else accounts.discard, address)
        self.account(address).active[role] = active
        (accounts.add if active else accounts.discard)(address)

    def forget_stranger(self, address: Address) -> None:
        """Drop the entry of an account that has nothing but a nonce, so that strangers cannot fill the ledger.

        What it signed may then be submitted again, but nothing that a stranger can submit moves money.
        """
        known = self.state.accounts.get(address)
        if known == Account(nonce=known.nonce if known else 0) and not self.index.held_by(address):
            del self.state.accounts[address]

    def emit(self, kind: str, order: OrderId = NO_ORDER, account: Address = NOBODY, **detail: Any) -> None:
        """Record an event for subscribers, duties and histories."""
        self.events.append(Event(kind=kind, order=order, account=account, detail=detail))

    # --- stakes ----------------------------------------------------------------------------------------------
    def validator_set(self) -> int:
        """The number of the validators as they are now, with their stake, in `LedgerState.validator_sets`."""
        sets = self.state.validator_sets
        now = {address: self.stake(address, Role.VALIDATOR).bonded for address in sorted(self.active[Role.VALIDATOR])}
        last = max(sets, default=0)
        if not sets or sets[last] != now:
            last += 1
            sets[last] = now
        return last

    def drop_unused_sets(self) -> None:
        """Forget the sets of validators from which no order can still draw."""
        for number in [number for number in self.state.validator_sets if not self.index.draws_from(number)]:
            del self.state.validator_sets[number]

    def free(self, address: Address, role: Role) -> int:
        """Stake in grains that is not promised to a live order."""
        stake = self.stake(address, role)
        return max(0, stake.bonded - stake.locked)

    def require_free(self, address: Address, role: Role, grains: int) -> None:
        """Raise InsufficientStake unless that much is free."""
        free = self.free(address, role)
        if free < grains:
            raise InsufficientStake(
                f"the account's free stake as a {role.name.lower()} is too small",
                seen=f"{free} grains",
                wanted=f"at least {grains} grains",
            )

    def lock(self, address: Address, role: Role, grains: int) -> None:
        """Promise stake to a live order; the caller has checked that it is free."""
        self.account(address).stakes[role].locked += grains

    def unlock(self, address: Address, role: Role, grains: int) -> None:
        """Free stake that was locked; raises InvariantBroken for more than is locked."""
        stake = self.account(address).stakes[role]
        if stake.locked < grains:
            raise InvariantBroken(
                "more stake was unlocked than was locked", seen=f"{grains} grains", wanted=f"at most {stake.locked}"
            )
        stake.locked -= grains

    def slash(
        self,
        address: Address,
        role: Role,
        grains: int,
        why: str,
        order: OrderState | None = None,
        to: Mapping[Address, int] | None = None,
        to_bp: int = BASIS_POINTS,
    ) -> None:
        """Take up to `grains` of an account's stake, noted with the order if it is for one.

        Who gets it gets it when the settlement's slash leaf is applied on the chain: accounts by their weights in `to`,
        together `to_bp` of it, the treasury the rest.
        """
        stake = self.account(address).stakes[role]
        bonded = min(grains, stake.bonded)
        unbonding = min(grains - bonded, stake.unbonding)
        taken = bonded + unbonding
        if taken:
            stake.bonded -= bonded
            stake.unbonding -= unbonding
            stake.slashed += taken
            self.state.staked_grains -= taken
            self.state.slashed_grains += taken
            if order is not None:
                order.notes.append(OrderNote(address, why, taken))
            self.emit("slashed", account=address, role=int(role), grains=taken, why=why)
            parts = dues.owe(self.state, taken, taken * to_bp // BASIS_POINTS, to or {})
            if order is not None:
                order.dues += [Payout(each, part, why) for each, part in parts.items()]
        self.drop_if_below_minimum(address, role)

    def recover_slashed(self, grains: int) -> None:
        """The settlement contract got slashed stake: pay it on to those to whom it is due, in proportion."""
        for account, paid in dues.recover(self.state, grains).items():
            self._pass_on(account, paid)
            self.emit("due_paid", account=account, grains=paid)

    def pay_treasury(self) -> None:
        """What is left of slashed stakes, after all that is due to others, is the treasury's."""
        if grains := dues.treasury_part(self.state):
            self.state.treasury_due_grains -= grains
            self._pass_on(self.state.parameters.treasury, grains)

    def _pass_on(self, account: Address, grains: int) -> None:
        self.account(account).earned_grains += grains
        self.state.recovered_grains -= grains
        self.state.passed_on_grains += grains
        self.state.earned_grains += grains

    def drop_if_below_minimum(self, address: Address, role: Role) -> None:
        """An account whose stake fell too far under the minimum is no longer registered in that role.

        A quarter may be missing, so that a small slash ends nobody's work who staked the minimum; an aggregator's seat
        needs all of it.
        """
        account, least = self.account(address), self.state.parameters.min_stake_grains[role]
        if role is not Role.AGGREGATOR:
            least = least * 3 // 4
        if account.active[role] and account.stakes[role].bonded < least:
            self.set_active(address, role, False)
            self.emit("unregistered", account=address, role=int(role))

    # --- escrows and earnings --------------------------------------------------------------------------------
    def can_deposit(self, grains: int) -> bool:
        """Whether the ledger can hold this much more; otherwise it stays between its owner and the contracts."""
        return self.inside_grains + grains <= MAX_INSIDE_GRAINS

    @property
    def inside_grains(self) -> int:
        """The money that the ledger holds: what came, without what went home or was settled on the chain.

        The same money may come and go for ever, so what ever came is no measure of it.
        """
        state = self.state
        return state.deposited_grains - state.withdrawn_grains - state.confirmed.total_grains

    def add_escrow(self, order_id: OrderId, escrow: Escrow) -> None:
        """The chain holds money for an order."""
        self.state.escrows[order_id] = escrow
        self.state.escrowed_grains += escrow.total_grains
        self.state.deposited_grains += escrow.total_grains

    def remove_escrow(self, order_id: OrderId) -> Escrow | None:
        """The chain gave an order's money back to its client."""
        escrow = self.state.escrows.pop(order_id, None)
        if escrow:
            self.state.escrowed_grains -= escrow.total_grains
            self.state.withdrawn_grains += escrow.total_grains
        return escrow

    def pay_out(self, order_id: OrderId, payouts: list[Payout]) -> None:
        """Turn an order's escrow into earnings; raises InvariantBroken unless the payouts add up to it."""
        escrow = self.state.escrows[order_id]
        _require_equal("an order's payouts", sum(payout.grains for payout in payouts), escrow.total_grains)
        del self.state.escrows[order_id]
        self.state.escrowed_grains -= escrow.total_grains
        self.state.earned_grains += escrow.total_grains
        for payout in payouts:
            self.account(payout.account).earned_grains += payout.grains
        self.state.unsettled.append(order_id)
        # its client may ask for a refund at a time that counts on the parameters of its own start
        own_ms = self.state.orders[order_id].parameters.update_ms
        self.state.next_update_ms = min(self.state.next_update_ms, self.now_ms + own_ms)

    def take_back(self, order_id: OrderId, order: OrderState) -> None:
        """Undo `pay_out` of an order that is not settled, because the chain gave its escrow back."""
        total = sum(payout.grains for payout in order.payouts)
        for payout in order.payouts:
            self.account(payout.account).earned_grains -= payout.grains
        self.state.earned_grains -= total
        self.state.withdrawn_grains += total
        self.state.unsettled.remove(order_id)
        order.payouts = []
        order.void_reason = VoidReason.REFUNDED

    # --- conservation ----------------------------------------------------------------------------------------
    def check_conservation(self) -> None:
        """Raise InvariantBroken unless deposited = withdrawn + stakes + escrows + earned + slashed, none negative; what
        was slashed and passed on is earned.
        """
        state = self.state
        pots = (
            int(state.withdrawn_grains),  # sums of plain integers are the faster ones
            state.staked_grains,
            state.escrowed_grains,
            int(state.earned_grains),
            state.slashed_grains - int(state.passed_on_grains),
        )
        if min(pots) < 0 or state.deposited_grains != sum(pots):
            raise InvariantBroken(
                "money is not conserved", seen=f"pots {pots}", wanted=f"{state.deposited_grains} grains, as deposited"
            )

    def audit(self) -> None:
        """Raise InvariantBroken unless the running totals are what the entries add up to; reads the whole state."""
        state = self.state
        stakes = [stake for account in state.accounts.values() for stake in account.stakes]
        escrows, accounts = state.escrows.values(), state.accounts.values()
        _require_equal("all stakes", sum(stake.bonded + stake.unbonding for stake in stakes), state.staked_grains)
        _require_equal("all slashes", sum(stake.slashed for stake in stakes), state.slashed_grains)
        _require_equal("all escrows", sum(escrow.total_grains for escrow in escrows), state.escrowed_grains)
        _require_equal("all earnings", sum(account.earned_grains for account in accounts), state.earned_grains)
        if any(stake.locked < 0 for stake in stakes):
            raise InvariantBroken("more stake is free than there is", seen=min(stake.locked for stake in stakes))
        self.check_conservation()


def _require_equal(what: str, grains: int, wanted: int) -> None:
    if grains != wanted:
        raise InvariantBroken(f"{what} differ from their total", seen=f"{grains} grains", wanted=f"{wanted} grains")
