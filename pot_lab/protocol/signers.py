"""Who signs for the ledger on the chain: the contract's signer set follows the aggregators.

The contract takes another set when a quorum of the one before signs it (`RewardSettlement.rotate`). So once a change of
the aggregators is in force, the ledger names the set that it wants, the current signers sign its EIP-712 digest as
ledger transactions, any aggregator sends it, and the chain's own event, attested, makes it current. While the chain is
away nothing is lost: the old signers go on, and no more of them may leave than the contract can do without.
"""

from __future__ import annotations

from collections.abc import Container

from pot_lab.agreement.quorum import quorum
from pot_lab.crypto.identity import Address, BadSignature
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import BadRotation, ChangePending, NotAllowed
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.settlement import rotation_digest
from pot_lab.protocol.state import PendingRotation
from pot_lab.protocol.transactions import SignRotation


def advance(book: Book) -> None:
    """Name the set that the contract should have, if it has another."""
    state = book.state
    if state.changed > state.era:
        return
    pairs = _wanted(book)
    keys = [key for key, _ in pairs]
    if not keys or keys == state.signers:
        state.rotation = None
        return
    stakers = [account for _, account in pairs]
    set_id = state.signer_set_id + 1
    if state.rotation is not None and (state.rotation.set_id, state.rotation.stakers) == (set_id, stakers):
        return
    state.rotation = PendingRotation(set_id=set_id, threshold=quorum(len(stakers)), stakers=stakers)
    book.emit("rotation_opened", set_id=set_id, n=len(stakers))


def on_sign_rotation(book: Book, aggregator: Address, body: SignRotation) -> bytes:
    """Keep a current signer's signature of the named set; an event reports the one that completes it."""
    state, rotation = book.state, book.state.rotation
    if aggregator not in state.signers or aggregator in state.convicted:
        raise NotAllowed("only a signer that the chain's contract counts may sign the next set")
    if rotation is None or body.set_id != rotation.set_id:
        wanted = rotation.set_id if rotation else None
        raise BadRotation("no such signer set waits for signatures", seen=body.set_id, wanted=wanted)
    try:
        signer = book.recover(digest_of(book, rotation), body.signature)
    except BadSignature as error:
        raise BadRotation("the signer set's signature cannot be read", seen=body.signature) from error
    if signer != aggregator:
        raise BadRotation("the signer set was not signed by this aggregator's key", seen=signer, wanted=aggregator)
    if book.add_signature(rotation.signatures, aggregator, body.signature):
        book.emit("rotation_signed", set_id=rotation.set_id)
    return b""


def digest_of(book: Book, rotation: PendingRotation) -> bytes:
    """What the current signers sign (32 bytes)."""
    genesis = book.state.genesis
    return rotation_digest(
        genesis.chain_id, genesis.settlement_contract, rotation.set_id, rotation.threshold, rotation.stakers
    )


def confirm(book: Book, set_id: int, threshold: int, keys: list[Address]) -> None:
    """The contract has another signer set: the one that was named, one that was named before it, or its owner's.

    A pending settlement is signed again by the new ones, under a new round.
    """
    state = book.state
    state.signers, state.signer_set_id, state.signing_quorum = keys, set_id, threshold
    state.rotation = None
    if state.pending is not None and state.pending.settlement.signer_set_id != set_id:
        state.pending.opened_ms = book.now_ms - state.parameters.settlement_timeout_ms
    book.emit("signers_rotated", set_id=set_id, n=len(state.signers))


def require_enough(book: Book, accounts: Container[Address]) -> None:
    """Raise ChangePending if, with only these accounts left, the contract would lack signers to hand over to others."""
    state = book.state
    left = sum(key not in state.convicted and state.keys.get(key) in accounts for key in state.signers)
    if left < state.signing_quorum:
        raise ChangePending(
            "the chain's signers have to follow the change before this one",
            seen=f"{left} of them would be left",
            wanted=f"at least {state.signing_quorum}",
        )


def _wanted(book: Book) -> list[tuple[Address, Address]]:
    """Signing key and account of each aggregator that can sign on the chain, by key.

    The contract orders the keys, so they must be known for certain: a signer's does not change while it is one, and
    another account has named it there, since it staked, as a key that it votes with, or voted with.
    """
    state = book.state
    signing = {state.keys[key]: key for key in state.signers if key in state.keys}
    pairs = []
    for seat in state.aggregators:
        key = signing.get(seat.account) or state.chain_keys.get(seat.account)
        if key and seat.account in book.active[Role.AGGREGATOR] and state.keys.get(key) == seat.account:
            pairs.append((key, seat.account))
    return sorted(pairs)


def has_to_name_its_key(book: Book, account: Address) -> bool:
    """Whether an aggregator cannot sign on the chain before its account names its key there (`setSigningKey`)."""
    state = book.state
    seated = any(seat.account == account for seat in state.aggregators)
    known = {account for _, account in _wanted(book)}
    return seated and account in book.active[Role.AGGREGATOR] and account not in known
