"""How members change the network's parameters and rules by vote (section 3.3.4; protocol.md, "Governance").

A proposal changes parameters within their hard bounds, or activates the next version of the rules. Registered members
vote with the stake that they had when the vote began; what they have taken back since does not count. A proposal that
passes takes force after a delay, at the first batch whose time has come: that batch and all later ones use the new
parameters, and so does every order that starts after it. An order that has started keeps those of its t0.
"""

from __future__ import annotations

import functools

from pot_lab.agreement.quorum import SMALLEST_SET
from pot_lab.crypto.identity import Address
from pot_lab.crypto.text import unwanted_character
from pot_lab.errors import Malformed, PotLabError
from pot_lab.protocol import owner_acts
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import AlreadyDone, BadProposal, InsufficientStake, NotAllowed, TooManyProposals
from pot_lab.protocol.parameters import BASIS_POINTS, BadParameter, Parameters, Role
from pot_lab.protocol.proposals import MAX_INSTALL, ParameterChange, Proposal, ProposalEnd, changed
from pot_lab.protocol.transactions import Propose, ProposeVersion, Vote

MAX_PROPOSALS = 16
"""How many proposals there may be at a time, passed ones included: each holds the stake of all members."""
MAX_ENDED = 64
"""How many ended proposals are remembered."""
_VETO_PART = 3
"""A proposal that one part in so many of the votes was for cost its proposer nothing."""


def on_propose(book: Book, proposer: Address, body: Propose) -> bytes:
    """Propose other parameters; returns the proposal's number, eight bytes."""
    parameters = book.state.parameters
    made = changed(parameters, body.changes)
    same = [one.name for one in body.changes if getattr(made, one.name) == getattr(parameters, one.name)]
    if same:
        raise BadProposal("a proposed value is the one in force", seen=same[0], wanted="another value")
    _require_seats(book, made)
    return _open(book, proposer, body.role, changes=body.changes, version=0, install="")


def on_propose_version(book: Book, proposer: Address, body: ProposeVersion) -> bytes:
    """Propose the next version of the rules; returns the proposal's number, eight bytes."""
    wanted = book.state.governance.version + 1
    if body.version != wanted:
        raise BadProposal("a vote activates the next version of the rules", seen=body.version, wanted=wanted)
    if not 0 < len(body.install) <= MAX_INSTALL or unwanted_character(body.install) is not None:
        raise BadProposal(
            "a version's proposal names the release that knows it",
            seen=body.install,
            wanted=f"1 .. {MAX_INSTALL} printable characters",
        )
    return _open(book, proposer, body.role, changes=(), version=body.version, install=body.install)


def on_vote(book: Book, voter: Address, body: Vote) -> bytes:
    """Vote for a proposal or against it, once."""
    proposal = book.state.governance.proposals.get(body.proposal)
    if proposal is None or proposal.activates_ms:
        raise BadProposal("there is no such proposal to vote on", seen=body.proposal, wanted=_numbers(book))
    if not proposal.weights.get(voter):
        raise NotAllowed("the account had no stake in a registered role when the vote began")
    if voter in proposal.votes:
        raise AlreadyDone("the account has voted on this proposal", seen="for" if proposal.votes[voter] else "against")
    proposal.votes[voter] = body.approve
    book.emit("voted", account=voter, proposal=body.proposal, approve=body.approve)
    return b""


def weight(book: Book, account: Address) -> int:
    """The stake in grains with which an account would vote now: what it has bonded in the roles that it is registered
    for. Stake that is unbonding does not count.
    """
    known = book.state.accounts.get(account)
    return sum(known.stakes[role].bonded for role in Role if known.active[role]) if known else 0


def bond_grains(book: Book) -> int:
    """What a proposal must bond now: twice as much for each one that there is, so that filling all places is dear."""
    return book.state.parameters.proposal_bond_grains << len(book.state.governance.proposals)


def tally(book: Book, proposal: Proposal) -> tuple[int, int, int]:
    """Stake in grains for a proposal, against it, and in all; what voters have taken back meanwhile is left out."""
    sides = {True: 0, False: 0}
    for voter, approve in proposal.votes.items():
        sides[approve] += min(proposal.weights[voter], weight(book, voter))
    return sides[True], sides[False], sum(proposal.weights.values())


def due_ms(book: Book) -> int | None:
    """When the next vote ends, or the next proposal takes force."""
    proposals = book.state.governance.proposals.values()
    return min((each.activates_ms or each.closes_ms for each in proposals), default=None)


def advance(book: Book) -> None:
    """Count the votes that are over, and put into force what passed and has waited; in the order of their times.

    A proposal that cannot be counted or applied ends.
    """
    governance = book.state.governance
    while (due := due_ms(book)) is not None and due <= book.now_ms:
        number, proposal = min(
            governance.proposals.items(), key=lambda item: (item[1].activates_ms or item[1].closes_ms, item[0])
        )
        step = _put_into_force if proposal.activates_ms else _decide
        if not book.attempt("proposal", functools.partial(step, book, number, proposal)):
            _set_aside(book, number, proposal)


def _set_aside(book: Book, number: int, proposal: Proposal) -> None:
    if not proposal.activates_ms:
        book.attempt(
            "proposal's bond",
            functools.partial(book.unlock, proposal.proposer, proposal.role, proposal.bond_grains),
        )
    if not book.attempt("proposal's end", functools.partial(_end, book, number, proposal, "fault")):
        del book.state.governance.proposals[number]


def next_version(book: Book, time_ms: int) -> tuple[int, str]:
    """The version of the rules in force for a batch of this time, and the release that knows it."""
    governance = book.state.governance
    due = [each for each in governance.proposals.values() if each.version and 0 < each.activates_ms <= time_ms]
    newest = max(due, key=lambda each: each.version, default=None)
    return (newest.version, newest.install) if newest else (governance.version, governance.install)


def _open(
    book: Book, proposer: Address, role_number: int, *, changes: tuple[ParameterChange, ...], version: int, install: str
) -> bytes:
    governance, parameters = book.state.governance, book.state.parameters
    if role_number not in tuple(Role):
        raise Malformed("there is no such role", seen=role_number, wanted=", ".join(str(role.value) for role in Role))
    role = Role(role_number)
    book.require_active(proposer, role)
    if any(each.proposer == proposer for each in governance.proposals.values()):
        raise TooManyProposals("the account has a proposal already", wanted="one at a time")
    if len(governance.proposals) >= MAX_PROPOSALS:
        raise TooManyProposals("there are as many proposals as may be", wanted=f"at most {MAX_PROPOSALS}")
    bond, stake = bond_grains(book), book.stake(proposer, role)
    spare = min(book.free(proposer, role), stake.bonded - parameters.min_stake_grains[role])
    if spare < bond:
        raise InsufficientStake(
            f"a proposal's bond needs stake as a {role.name.lower()} beyond the least that the role asks for",
            seen=f"{max(0, spare)} grains",
            wanted=f"at least {bond} grains",
        )
    book.lock(proposer, role, bond)
    governance.last += 1
    governance.proposals[governance.last] = Proposal(
        proposer=proposer,
        role=role,
        bond_grains=bond,
        changes=changes,
        version=version,
        install=install,
        opened_ms=book.now_ms,
        closes_ms=book.now_ms + parameters.voting_ms,
        activates_ms=0,
        quorum_bp=parameters.quorum_bp,
        majority_bp=parameters.majority_bp,
        weights=_weights(book),
    )
    book.emit("proposed", account=proposer, proposal=governance.last, version=version)
    return governance.last.to_bytes(8, "big")


def _weights(book: Book) -> dict[Address, int]:
    accounts = sorted(set().union(*book.active.values()))
    return {account: grains for account in accounts if (grains := weight(book, account))}


def _decide(book: Book, number: int, proposal: Proposal) -> None:
    yes, no, total = tally(book, proposal)
    heard = (yes + no) * BASIS_POINTS >= proposal.quorum_bp * total and yes + no > 0
    passed = heard and yes * BASIS_POINTS >= proposal.majority_bp * (yes + no)
    book.unlock(proposal.proposer, proposal.role, proposal.bond_grains)
    if not heard or yes * _VETO_PART < yes + no:
        book.slash(proposal.proposer, proposal.role, proposal.bond_grains, "proposal that too few were for")
    proposal.result, proposal.weights, proposal.votes = (yes, no, total), {}, {}
    if passed:
        proposal.activates_ms = book.now_ms + book.state.parameters.timelock_ms
        book.emit("proposal_passed", account=proposal.proposer, proposal=number, activates_ms=proposal.activates_ms)
        owner_acts.name(book, number, proposal)
    else:
        _end(book, number, proposal, "rejected" if heard else "lapsed")


def _put_into_force(book: Book, number: int, proposal: Proposal) -> None:
    state, governance = book.state, book.state.governance
    if proposal.version:
        if proposal.version != governance.version + 1:  # two votes on one version, of which the other was first
            _end(book, number, proposal, "impossible")
            return
        governance.version, governance.install = proposal.version, proposal.install
        governance.since[proposal.version] = state.sequence
    else:
        before = state.parameters
        try:
            made = changed(before, proposal.changes)
            _require_seats(book, made)
        except PotLabError:  # other parameters or seats have changed since the vote
            _end(book, number, proposal, "impossible")
            return
        state.parameters = made
        state.next_update_ms = min(state.next_update_ms, book.now_ms + made.update_ms)
        _end(book, number, proposal, "in force")
        _require_new_minimum(book, before, made)
        return
    _end(book, number, proposal, "in force")


def _end(book: Book, number: int, proposal: Proposal, outcome: str) -> None:
    governance = book.state.governance
    yes, no, total = proposal.result
    del governance.proposals[number]
    governance.ended.append(
        ProposalEnd(
            number=number,
            proposer=proposal.proposer,
            changes=proposal.changes,
            version=proposal.version,
            for_grains=yes,
            against_grains=no,
            total_grains=total,
            outcome=outcome,
            ended_ms=book.now_ms,
        )
    )
    del governance.ended[:-MAX_ENDED]
    book.emit("proposal_ended", account=proposal.proposer, proposal=number, outcome=outcome)


def _require_seats(book: Book, made: Parameters) -> None:
    """Raise BadParameter if a higher minimum stake would leave too few aggregators with theirs."""
    role = Role.AGGREGATOR
    least = made.min_stake_grains[role]
    if least <= book.state.parameters.min_stake_grains[role]:
        return
    kept = sum(book.stake(account, role).bonded >= least for account in book.paid_aggregators)
    wanted = max(SMALLEST_SET, book.quorum)
    if kept < wanted:
        raise BadParameter(
            "the aggregators' minimum stake would leave too few of them",
            seen=f"{kept} with {least} grains",
            wanted=f"at least {wanted}",
        )


def _require_new_minimum(book: Book, before: Parameters, made: Parameters) -> None:
    """End the registration of members whose stake is too far under a minimum that was raised."""
    for role in Role:
        if made.min_stake_grains[role] > before.min_stake_grains[role]:
            for account in sorted(book.active[role]):
                book.drop_if_below_minimum(account, role)


def _numbers(book: Book) -> str:
    open_now = [str(number) for number, each in book.state.governance.proposals.items() if not each.activates_ms]
    return ", ".join(open_now) or "none is voted on now"
