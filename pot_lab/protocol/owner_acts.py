"""What the chain's contracts must follow of a vote (protocol.md, "What the contracts follow").

Some parameters are rules of the contracts too. When a vote that changes one of them has passed, the ledger names an act
of the contracts' owner; each signer that the contract counts signs it, as its own process drafts it for its chain, and
submits the signature here, where everybody finds it. The ledger knows no contract but the settlement's, so it does not
say which bytes are signed: it keeps what each signer signed, and signatures of the same bytes count together.

An act is kept for `LIFE_MS`, since the chain may be away, and what was proposed there has to wait in the timelock.
"""

from __future__ import annotations

from pot_lab.crypto.identity import Address, BadSignature
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import BadProposal, NotAllowed
from pot_lab.protocol.proposals import OwnerActDue, OwnerActSignature, Proposal
from pot_lab.protocol.transactions import SignOwnerAct

FOLLOWED = ("min_stake_grains", "min_reward_grains", "treasury", "update_ms", "timelock_ms")
"""Parameters that the contracts have too. `unbonding_ms` is one that no vote changes."""
LIFE_MS = 30 * 86_400_000
MAX_ACTS = 16
"""How many acts are kept; the oldest goes first."""


def least_cycle_s(update_ms: int) -> int:
    """The contract's least time between two settlements, for the ledger's time between two epochs."""
    return max(1, update_ms // 2_000)


def name(book: Book, number: int, proposal: Proposal) -> None:
    """A vote has passed: name the act that it asks of the contracts' owner, if any."""
    changes = tuple(one for one in proposal.changes if one.name in FOLLOWED)
    if not changes:
        return
    acts = book.state.governance.acts
    acts[number] = OwnerActDue(changes=changes, until_ms=book.now_ms + LIFE_MS)
    for old in sorted(acts)[:-MAX_ACTS]:
        del acts[old]
    book.emit("owner_act_named", account=proposal.proposer, proposal=number)


def forget(book: Book) -> None:
    """Drop acts whose time is over."""
    acts = book.state.governance.acts
    for number in [number for number, act in acts.items() if act.until_ms <= book.now_ms]:
        del acts[number]


def on_sign_owner_act(book: Book, aggregator: Address, body: SignOwnerAct) -> bytes:
    """Keep what a signer signed for an act, in place of what it signed before; an event reports the quorum's last."""
    state = book.state
    if aggregator not in state.signers or aggregator in state.convicted:
        raise NotAllowed("only a signer that the chain's contract counts may sign for the contracts' owner")
    act = state.governance.acts.get(body.proposal)
    if act is None:
        wanted = ", ".join(map(str, state.governance.acts)) or "none waits now"
        raise BadProposal(
            "no act of the contracts' owner waits by this proposal's number", seen=body.proposal, wanted=wanted
        )
    if not 0 < body.number < 1 << 63:
        raise BadProposal("the contracts have no proposal of this number", seen=body.number, wanted="1 .. 2^63 - 1")
    try:
        signer = book.recover(body.digest, body.signature)
    except BadSignature as error:
        raise BadProposal("the signature of an owner's act cannot be read", seen=body.signature) from error
    if signer != aggregator:
        raise BadProposal("the owner's act was not signed by this aggregator's key", seen=signer, wanted=aggregator)
    before = len(agreed(book, act, body.digest))
    act.signatures[aggregator] = OwnerActSignature(number=body.number, digest=body.digest, signature=body.signature)
    if before < state.signing_quorum <= len(agreed(book, act, body.digest)):
        book.emit("owner_act_signed", proposal=body.proposal, number=body.number)
    return b""


def agreed(book: Book, act: OwnerActDue, digest: bytes) -> dict[bytes, bytes]:
    """Signatures of these bytes that the contract counts, by signer."""
    return book.counted({key: each.signature for key, each in act.signatures.items() if each.digest == digest})
