"""Registering for a role and leaving it (section 3.1.3 and 2.5): stake comes first, on the chain; the ledger only
checks it.

A seat among the aggregators needs more than stake: q of them vote for it, or whoever has the money for a third of the
seats could buy the order of transactions. A member's own account leaves and changes keys; q of the others, a
conviction or too little stake take its seat away. One change takes force (consensus.md, "Membership and keys") before
the next is made, so consecutive sets differ by one seat.
"""

from __future__ import annotations

from pot_lab.agreement.quorum import LARGEST_SET, SMALLEST_SET
from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import ADDRESS_BYTES, Address
from pot_lab.errors import Malformed, PotLabError
from pot_lab.protocol import signers
from pot_lab.protocol.book import Book
from pot_lab.protocol.contact import Contact, possession_digest
from pot_lab.protocol.errors import AlreadyDone, BadSeat, ChangePending, InsufficientStake, NotAllowed
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.state import Candidate, GenesisAggregator, Member
from pot_lab.protocol.transactions import Join, Leave, Register, RotateKeys, Unregister, VoteSeat

MAX_CANDIDATES = 64
NOTICE_MS = 1_000
"""How long an idle ledger may not know that a change of the aggregators is in force."""


def on_register(book: Book, address: Address, body: Register) -> bytes:
    """Take up a role with enough stake; registering again is harmless and refused as done."""
    role = _role(body.role)
    wanted = book.state.parameters.min_stake_grains[role]
    bonded = book.stake(address, role).bonded
    if bonded < wanted:
        raise InsufficientStake(
            f"the account's stake as a {role.name.lower()} is too small",
            seen=f"{bonded} grains",
            wanted=f"at least {wanted} grains",
        )
    if book.account(address).active[role]:
        raise AlreadyDone(f"the account is registered as a {role.name.lower()} already")
    book.set_active(address, role, True)
    book.emit("registered", account=address, role=int(role))
    return b""


def on_unregister(book: Book, address: Address, body: Unregister) -> bytes:
    """Give up a role; work already promised stays due."""
    role = _role(body.role)
    book.require_active(address, role)
    book.set_active(address, role, False)
    book.emit("unregistered", account=address, role=int(role))
    return b""


# --- seats among the aggregators ---------------------------------------------------------------------------------
def on_join(book: Book, account: Address, body: Join) -> bytes:
    """Apply for a seat; a second application replaces the first, and its votes."""
    state = book.state
    if account in _seated(book):
        raise AlreadyDone("the account has a seat already")
    if book.is_convicted(account):
        raise NotAllowed("the account was convicted of double signing as an aggregator")
    wanted = state.parameters.min_stake_grains[Role.AGGREGATOR]
    bonded = book.stake(account, Role.AGGREGATOR).bonded
    if bonded < wanted:
        raise InsufficientStake(
            "the account's stake as an aggregator is too small", seen=f"{bonded} grains", wanted=f"{wanted} grains"
        )
    seat = _new_seat(book, account, body)
    if account not in state.candidates and len(state.candidates) >= MAX_CANDIDATES:
        raise BadSeat("too many accounts apply for seats", wanted=f"at most {MAX_CANDIDATES}")
    state.candidates[account] = Candidate(seat, book.now_ms)
    book.emit("seat_asked", account=account)
    return b""


def on_vote_seat(book: Book, aggregator: Address, body: VoteSeat) -> bytes:
    """Count an aggregator's vote; the q-th gives the candidate its seat, or takes a member's away.

    While another change is not in force the q-th vote is kept, and carried out by `carry_out_votes` before anything
    else can be changed: a member that names new keys again and again could put its removal off for ever.
    """
    state = book.state
    voter = state.aggregators[book.require_member(aggregator)].account
    if body.seated:
        candidate = state.candidates.get(body.account)
        if candidate is None:
            raise BadSeat("the account has not applied for a seat", seen=body.account)
        votes = candidate.votes
    else:
        if body.account not in _seated(book):
            raise BadSeat("the account has no seat", seen=body.account)
        votes = state.removals.get(body.account, [])
    if voter in votes:
        raise AlreadyDone("this aggregator has voted so already")
    complete = book.count_members((*votes, voter)) >= book.quorum
    is_late = state.changed > state.era
    if complete and not is_late:
        if body.seated:
            _require_backed(book, body.account)
        else:
            _require_spare(book, body.account)
    if not body.seated:
        votes = state.removals.setdefault(body.account, votes)
    votes.append(voter)
    if complete and not is_late:
        _carry_out(book, body.account, body.seated)
    return b""


def carry_out_votes(book: Book) -> None:
    """Make one change that was decided while another was not in force; removals go first."""
    state = book.state
    if state.changed > state.era:
        return
    decided = [(account, False, votes) for account, votes in sorted(state.removals.items())]
    decided += [(account, True, candidate.votes) for account, candidate in sorted(state.candidates.items())]
    for account, seated, votes in decided:
        if book.count_members(votes) < book.quorum:
            continue
        try:
            _require_backed(book, account) if seated else _require_spare(book, account)
        except PotLabError:  # not yet: a seat or stake is lacking
            continue
        _carry_out(book, account, seated)
        return


def _carry_out(book: Book, account: Address, seated: bool) -> None:
    state = book.state
    if seated:
        _change(book, [*state.aggregators, state.candidates.pop(account).seat])
    else:
        _change(book, [seat for seat in state.aggregators if seat.account != account])


def on_leave(book: Book, account: Address, body: Leave) -> bytes:
    """Give up the seat; the stake may then be unbonded, and stays slashable meanwhile."""
    if account not in _seated(book):
        raise BadSeat("the account has no seat", seen=account)
    _require_settled(book)
    _require_spare(book, account)
    _change(book, [seat for seat in book.state.aggregators if seat.account != account])
    return b""


def on_rotate_keys(book: Book, account: Address, body: RotateKeys) -> bytes:
    """Name other keys for the own seat."""
    if account not in _seated(book):
        raise BadSeat("the account has no seat", seen=account)
    if book.is_convicted(account):
        raise NotAllowed("an aggregator that was convicted keeps the key that it was convicted with")
    _require_settled(book)
    fresh = _new_seat(book, account, body)
    _change(book, [fresh if seat.account == account else seat for seat in book.state.aggregators])
    return b""


def lapse(book: Book) -> None:
    """Forget candidates whose stake fell below the minimum, and those that were not seated in `candidate_ms`: places
    among them are few.
    """
    state = book.state
    least = state.parameters.min_stake_grains[Role.AGGREGATOR]
    oldest_ms = book.now_ms - state.parameters.candidate_ms
    for account, candidate in list(state.candidates.items()):
        if candidate.asked_ms <= oldest_ms or book.stake(account, Role.AGGREGATOR).bonded < least:
            del state.candidates[account]
            book.emit("seat_lapsed", account=account)


def due_ms(book: Book) -> int | None:
    """Batches are due as long as a change is not in force; the first one after it shows that it is."""
    return book.state.time_ms + NOTICE_MS if book.state.changed > book.state.era else None


def let_go(book: Book) -> None:
    """Take the seat of one who was convicted or whose stake fell below the minimum, once nothing else changes and four
    others are left; until then only its votes do not count.
    """
    state = book.state
    if state.changed > state.era or len(state.aggregators) <= SMALLEST_SET:
        return
    for seat in state.aggregators:
        if not book.account(seat.account).active[Role.AGGREGATOR]:
            _change(book, [other for other in state.aggregators if other is not seat])
            return


def _change(book: Book, aggregators: list[GenesisAggregator]) -> None:
    """Name another set; consensus takes it from a later checkpoint on."""
    state = book.state
    before, after = _seated(book), {seat.account for seat in aggregators}
    state.aggregators = aggregators
    state.changed = state.sequence
    sealed_to = {order.sealed_to for order in state.orders.values()}
    state.sets = {at: members for at, members in state.sets.items() if at in sealed_to}
    state.sets[state.sequence] = [Member(seat.account, seat.sealing_public) for seat in aggregators]
    for seat in aggregators:
        state.keys[seat.key] = seat.account
    for account in sorted(before ^ after):
        book.set_active(account, Role.AGGREGATOR, account in after)
    state.removals = {account: votes for account, votes in state.removals.items() if account in after}
    book.name_members()
    book.emit("aggregators_changed", joined=sorted(after - before), left=sorted(before - after), n=len(aggregators))


def _new_seat(book: Book, account: Address, body: Join | RotateKeys) -> GenesisAggregator:
    state = book.state
    body.contact.check()
    if len(body.voting_key) != ADDRESS_BYTES or len(body.sealing_public) != 32:
        raise BadSeat("an aggregator's key has the wrong length", seen=len(body.voting_key), wanted=ADDRESS_BYTES)
    asked = {each.seat.key for other, each in state.candidates.items() if other != account}
    if body.voting_key in state.keys or body.voting_key in asked:  # a key that voted once must never mean another seat
        raise BadSeat("the key was an aggregator's already", seen=body.voting_key)
    if body.voting_key != account and body.voting_key in {*state.keys.values(), *state.candidates}:
        raise BadSeat("the key is another aggregator's account", seen=body.voting_key)
    contact = encode(body.contact)
    taken = [seat.contact for seat in state.aggregators if seat.contact and seat.account != account]
    if any(decode(raw, Contact, limit_bytes=1 << 10).curve_public == body.contact.curve_public for raw in taken):
        raise BadSeat("the CURVE key is another aggregator's", seen=body.contact.curve_public)
    digest = possession_digest(book.network_id, account, body.contact, body.sealing_public)
    try:
        signer = book.recover(digest, body.possession)
    except PotLabError as error:
        raise BadSeat("the proof that the key is the account's cannot be read", seen=body.possession) from error
    if signer != body.voting_key:
        raise BadSeat("the key did not sign for the account", seen=signer, wanted=body.voting_key)
    return GenesisAggregator(account=account, key=body.voting_key, sealing_public=body.sealing_public, contact=contact)


def _seated(book: Book) -> set[Address]:
    return {seat.account for seat in book.state.aggregators}


def _require_settled(book: Book) -> None:
    state = book.state
    if state.changed > state.era:
        raise ChangePending(
            "another change of the aggregators is not in force yet", seen=f"named in batch {state.changed}"
        )


def _require_spare(book: Book, without: Address) -> None:
    if len(book.state.aggregators) <= SMALLEST_SET:
        raise BadSeat("the others would be too few", seen=len(book.state.aggregators) - 1, wanted=SMALLEST_SET)
    signers.require_enough(book, _seated(book) - {without})


def _require_backed(book: Book, account: Address) -> None:
    state = book.state
    if len(state.aggregators) >= LARGEST_SET:
        raise BadSeat("all seats are taken", seen=len(state.aggregators), wanted=f"at most {LARGEST_SET}")
    wanted = state.parameters.min_stake_grains[Role.AGGREGATOR]
    if book.stake(account, Role.AGGREGATOR).bonded < wanted:
        raise InsufficientStake("the candidate has taken its stake back", wanted=f"{wanted} grains")


def _role(number: int) -> Role:
    if number not in (Role.PROVIDER, Role.VALIDATOR, Role.VERIFIER):
        if number == Role.AGGREGATOR:
            raise NotAllowed("aggregators join by a change of membership, not by registering")
        raise Malformed(
            "there is no such role", seen=number, wanted=", ".join(f"{role.value} {role.name.lower()}" for role in Role)
        )
    return Role(number)
