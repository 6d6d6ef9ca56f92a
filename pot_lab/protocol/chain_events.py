"""How the ledger learns what happened on the chain: f+1 aggregators attest the same event, in the chain's order.

No replica trusts another's word for a chain event (chain.md, "Ledger and chain"). Events are numbered from the
contracts' first, so each is applied exactly once and in order, whoever reports it and however often.
"""

from __future__ import annotations

import functools

from pot_lab.crypto.canonical import HASH_BYTES, decode, encode
from pot_lab.crypto.identity import ADDRESS_BYTES, Address
from pot_lab.protocol import epochs, signers
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import TooEarly
from pot_lab.protocol.orders import windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent, OrderId
from pot_lab.protocol.state import Escrow, LedgerState
from pot_lab.protocol.transactions import Attest

MAX_AHEAD = 4_096
"""How far ahead of the last applied event an attestation may reach, so that memory is bounded."""
MAX_LARGE_AHEAD = 64
"""The same for events that hold many keys."""
_EVENT_LIMIT_BYTES = 4_096


def on_attest(book: Book, aggregator: Address, body: Attest) -> bytes:
    """Count an aggregator's attestations and apply, in order, every event that f+1 of them agree on."""
    state = book.state
    account = _voter(state, book.require_member(aggregator))
    if not body.first >= 0 or body.first + len(body.events) > state.next_chain_event + MAX_AHEAD:
        raise TooEarly(
            "attested events reach too far ahead",
            seen=body.first,
            wanted=f"at most {state.next_chain_event + MAX_AHEAD}",
        )
    for number, event in enumerate(body.events, body.first):
        event.check()
        if len(event.subject) > HASH_BYTES and number >= state.next_chain_event + MAX_LARGE_AHEAD:
            raise TooEarly(
                "a large attested event is too far ahead",
                seen=number,
                wanted=f"below {state.next_chain_event + MAX_LARGE_AHEAD}",
            )
    for number, event in enumerate(body.events, body.first):
        if number >= state.next_chain_event:
            votes = state.attestations.setdefault(number, {})
            if not any(account in voters for voters in votes.values()):
                votes.setdefault(encode(event), []).append(account)
    advance(book)
    return b""


def advance(book: Book) -> None:
    """Apply, in order, every event that f+1 of the members in force agree on.

    Votes are kept by account and counted by `Book.count_members` at this moment: neither a change of keys nor a former
    member adds one. Called again after each batch, since a change of the members changes the count.

    An event counts as applied though that failed: else no later one would ever be.
    """
    state = book.state
    while votes := state.attestations.get(state.next_chain_event, {}):
        agreed = next((raw for raw, voters in votes.items() if book.count_members(voters) > book.faulty), None)
        if agreed is None:
            break
        del state.attestations[state.next_chain_event]
        state.next_chain_event += 1
        event = decode(agreed, ChainEvent, limit_bytes=_EVENT_LIMIT_BYTES)
        book.attempt(f"chain event {event.kind}", functools.partial(_apply, book, event), OrderId(event.subject))


def _voter(state: LedgerState, index: int) -> Address:
    """In whose name a member votes: its account, which no change of keys changes."""
    return state.aggregators[index].account


def _apply(book: Book, event: ChainEvent) -> None:
    state = book.state
    amount = event.amount_grains
    match event.kind:
        case "staked" if not book.can_deposit(event.detail[0]):
            pass
        case "order_placed" if not book.can_deposit(amount + event.detail[0] + event.detail[1]):
            pass
        case "staked":
            added = event.detail[0]
            book.account(event.account).stakes[event.role].bonded += added
            state.staked_grains += added
            state.deposited_grains += added
            if event.role == Role.AGGREGATOR and book.is_convicted(event.account):
                book.slash(event.account, Role.AGGREGATOR, added, "equivocation")  # its news came after the conviction
        case "unstake_requested":
            stake = book.account(event.account).stakes[event.role]
            moved = min(amount, stake.bonded)
            stake.bonded -= moved
            stake.unbonding += moved
            book.drop_if_below_minimum(event.account, Role(event.role))
        case "withdrawn":
            stake = book.account(event.account).stakes[event.role]
            moved = min(amount, stake.unbonding)
            stake.unbonding -= moved
            state.staked_grains -= moved
            state.withdrawn_grains += moved
        case "order_placed":
            fee, bond, seal_by_s, _nonce = event.detail
            escrow = Escrow(
                client=event.account, reward_grains=amount, fee_grains=fee, bond_grains=bond, seal_by_s=seal_by_s
            )
            book.add_escrow(OrderId(event.subject), escrow)
            windows.start_if_funded(book, OrderId(event.subject))
        case "order_refunded":
            windows.refund(book, OrderId(event.subject))
            epochs.cancel_if_names(book, OrderId(event.subject))
        case "settled":
            epochs.confirm(book, event.subject, event.detail[0])
        case "signing_key_set":
            if book.stake(event.account, Role.AGGREGATOR).bonded:
                state.chain_keys[event.account] = Address(event.subject)
            else:  # strangers are not remembered, and what was known of this one is true no more
                state.chain_keys.pop(event.account, None)
        case "signers_rotated":
            set_id, threshold = event.detail
            starts = range(0, len(event.subject), ADDRESS_BYTES)
            keys = [Address(event.subject[start : start + ADDRESS_BYTES]) for start in starts]
            signers.confirm(book, set_id, threshold, keys)
        case "funded":
            missing = state.slashed_grains - int(state.passed_on_grains) - state.recovered_grains
            book.recover_slashed(min(int(amount), missing))
        case _:  # `slashed` only carries out what the ledger decided
            pass
    book.emit("chain_event", OrderId(event.subject), event.account, what=event.kind, role=event.role, grains=amount)
