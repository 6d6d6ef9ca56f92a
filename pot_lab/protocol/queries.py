"""How clients' questions are answered from the ledger's state."""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from itertools import islice
from typing import cast
from weakref import WeakKeyDictionary

import msgspec

from pot_lab.crypto.canonical import Wide, decode, encode
from pot_lab.crypto.identity import Address
from pot_lab.protocol import governance
from pot_lab.protocol.contact import Contact
from pot_lab.protocol.cycle import TABLE
from pot_lab.protocol.epochs import confirmed_tree
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.reasons import why
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.settlement import PayoutTree, reward_leaf, slash_leaf
from pot_lab.protocol.state import Account, Dispute, Member, OrderHeader, OrderState
from pot_lab.protocol.views import (
    ARGUMENT_LIMIT_BYTES,
    AccountQuery,
    AccountView,
    CandidateView,
    ChallengeView,
    ClaimView,
    DisputeView,
    EpochView,
    GovernanceView,
    NetworkView,
    OrderQuery,
    OrdersQuery,
    OrderSummary,
    OrderView,
    OwnerActView,
    PayoutView,
    ProposalView,
    SeatsView,
    SeatView,
    SlashView,
    SpanView,
    StakeView,
    UnknownQuery,
    ValidationView,
    WhyQuery,
    WindowsQuery,
)

MAX_LISTED = 500


ANSWER_BYTES = 4 << 20
"""A list of orders with all their terms ends before it is larger than this."""


_SLASHES: WeakKeyDictionary[PayoutTree, msgspec.Raw] = WeakKeyDictionary()
"""What `_slashes` made of a tree, as long as a ledger has it."""


def query(ledger: Ledger, name: str, arguments: bytes) -> bytes:
    """Answer a read from outside.

    Raises:
        UnknownQuery: no such name.
        Oversize, Malformed: bad arguments.
    """
    if name not in _QUERIES:
        raise UnknownQuery("there is no such query", seen=name, wanted=", ".join(_QUERIES))
    return _QUERIES[name](ledger, arguments)


def order_view(order_id: OrderId, state: OrderState, *, listed: bool = False) -> OrderView:
    """Everything public about one order; as one of a list, without its claims and their scores, which others make as
    many as they like: no order is to be pushed off the list by them.
    """
    claims = (
        ()
        if listed
        else tuple(
            ClaimView(
                provider=c.provider,
                commitment=c.commitment,
                place=c.place,
                committed_ms=c.committed_ms,
                revealed_ms=c.revealed_ms,
                mid=c.mid,
                ciphertext=c.sealed.ciphertext if c.sealed else None,
                key=c.sealed.key if c.sealed else b"",
                assigned=tuple(state.seats_of(c)) if c.mid else (),
                agreed=c.agreed,
                agreed_root=c.agreed_root,
            )
            for c in sorted(state.claims.values(), key=lambda claim: claim.place)
        )
    )
    return OrderView(
        id=order_id,
        order=state.order,
        window=state.window,
        phase=TABLE[state.window].phase,
        put_ms=state.put_ms,
        t0_ms=state.t0_ms,
        closes_ms=state.closes_ms,
        timeline=tuple(SpanView(span.window, span.opened_ms, span.closed_ms) for span in state.timeline),
        claims=claims,
        validations=() if listed else _validations(state),
        test_key=state.test_key,
        winner=state.winner,
        void_reason=state.void_reason or "",
        payouts=tuple(PayoutView(p.account, p.grains, p.reason) for p in state.payouts),
        epoch=state.epoch,
        ended_ms=state.ended_ms,
        challenges=tuple(
            ChallengeView(challenger=c.challenger, commitment=c.commitment, dispute=c.dispute) for c in state.challenges
        ),
        disputes=tuple(_dispute_view(each) for each in state.disputes),
        next_bond_grains=state.parameters.next_bond_grains(
            state.order.reward_grains, state.order.claim_bond_grains, len(state.claims)
        ),
    )


def _validations(state: OrderState) -> tuple[ValidationView, ...]:
    return tuple(
        ValidationView(
            validator=v.validator,
            mid=v.mid,
            commitment=v.commitment,
            committed_ms=v.committed_ms,
            opened_ms=v.opened_ms,
            score=v.score,
            transcript_root=v.transcript_root,
            transcript=v.transcript,
        )
        for v in state.validations
    )


def _fetch_validations(ledger: Ledger, arguments: bytes) -> bytes:
    order_id = decode(arguments, OrderQuery, limit_bytes=ARGUMENT_LIMIT_BYTES).order_id
    return encode(_validations(ledger.book.require_order(order_id)))


def _dispute_view(dispute: Dispute) -> DisputeView:
    return DisputeView(
        name=dispute.name,
        mid=dispute.mid,
        score=dispute.score,
        root=dispute.root,
        challenger=dispute.challenger,
        index=dispute.shown.proof.index if dispute.shown else -1,
        votes=len(dispute.votes),
        right=dispute.right,
    )


def _summary(order_id: OrderId, state: OrderState) -> OrderSummary:
    spec, winning = state.order, state.claims.get(state.winner)
    return OrderSummary(
        id=order_id,
        client=spec.client,
        title=spec.title,
        window=state.window,
        phase=TABLE[state.window].phase,
        t0_ms=state.t0_ms,
        closes_ms=state.closes_ms,
        reward_grains=spec.reward_grains,
        train_ms=spec.windows.train_ms,
        score_name=spec.score.name,
        claims=len(state.claims),
        leader=state.winner,
        leader_score=winning.agreed if winning else None,
        void_reason=state.void_reason or "",
        ended_ms=state.ended_ms,
    )


def _order(ledger: Ledger, arguments: bytes) -> bytes:
    order_id = decode(arguments, OrderQuery, limit_bytes=ARGUMENT_LIMIT_BYTES).order_id
    return encode(order_view(order_id, ledger.book.require_order(order_id)))


def _holders(ledger: Ledger, arguments: bytes) -> bytes:
    """To whom the shares of an order's keys are sealed, in their order; some may have left since."""
    order_id = decode(arguments, OrderQuery, limit_bytes=ARGUMENT_LIMIT_BYTES).order_id
    return encode(ledger.state.sets[ledger.book.require_order(order_id).sealed_to])


def _orders(ledger: Ledger, arguments: bytes) -> bytes:
    asked = decode(arguments, OrdersQuery, limit_bytes=ARGUMENT_LIMIT_BYTES)
    orders, count = ledger.state.orders, min(max(asked.limit, 0), MAX_LISTED)
    newest = ledger.book.index.newest(asked.client or None, count)
    return encode([_summary(order_id, orders[order_id]) for order_id in newest])


def _orders_in(ledger: Ledger, arguments: bytes) -> bytes:
    """Orders by window, complete over several answers, so that nobody can push one off the list."""
    asked = decode(arguments, WindowsQuery, limit_bytes=ARGUMENT_LIMIT_BYTES)
    orders, index = ledger.state.orders, ledger.book.index
    chosen = set(asked.windows)
    if asked.assigned:
        named = [each for each in index.seated(asked.assigned) if orders[each].window in chosen]
    else:
        named = [order_id for window in chosen for order_id in index.in_window(window)]
    count = min(max(asked.limit, 0), MAX_LISTED)
    found = nsmallest(count, (order_id for order_id in named if order_id > asked.after))
    return encode([_summary(each, orders[each]) for each in found])


def _fetch_orders(ledger: Ledger, arguments: bytes) -> bytes:
    """FetchOrders(n): open orders by reward per unit of training time, without their claims."""
    asked = decode(arguments, OrdersQuery, limit_bytes=ARGUMENT_LIMIT_BYTES)
    orders, answer, size_bytes = ledger.state.orders, list[msgspec.Raw](), 0
    for order_id in islice(ledger.book.index.best_paid(), min(max(asked.limit, 0), MAX_LISTED)):
        raw = encode(order_view(order_id, orders[order_id], listed=True))
        size_bytes += len(raw)
        if answer and size_bytes > ANSWER_BYTES:
            break
        answer.append(msgspec.Raw(raw))
    return encode(answer)


def _account(ledger: Ledger, arguments: bytes) -> bytes:
    address = decode(arguments, AccountQuery, limit_bytes=ARGUMENT_LIMIT_BYTES).address
    known, confirmed = ledger.state.accounts.get(address), ledger.state.confirmed
    stakes = tuple(
        StakeView(
            role=int(role),
            active=known.active[role],
            bonded_grains=known.stakes[role].bonded,
            unbonding_grains=known.stakes[role].unbonding,
            locked_grains=known.stakes[role].locked,
            slashed_grains=known.stakes[role].slashed,
        )
        for role in Role
        if known
    )
    cumulative = confirmed.rewards.get(address, Wide(0))
    proof = tuple(confirmed_tree(ledger.book).proof(reward_leaf(address, cumulative))) if cumulative else ()
    known = known or Account()
    r = known.reputation
    return encode(
        AccountView(
            address=address,
            nonce=known.nonce,
            stakes=stakes,
            wins=r.wins,
            claims=r.claims,
            agreeing_validations=r.agreeing_validations,
            wrong_validations=r.wrong_validations,
            forfeits=r.forfeits,
            absences=r.absences,
            earned_grains=known.earned_grains,
            claimable_epoch=confirmed.epoch,
            claimable_cumulative_grains=cumulative,
            claim_proof=proof,
        )
    )


def _epoch(ledger: Ledger, arguments: bytes) -> bytes:
    state, pending = ledger.state, ledger.state.pending
    signed = sorted(ledger.book.counted(pending.signatures).items()) if pending else []
    confirmed = state.confirmed
    return encode(
        EpochView(
            settlement=pending.settlement if pending else None,
            order_ids=tuple(pending.order_ids) if pending else (),
            signers=tuple(Address(address) for address, _ in signed),
            signatures=tuple(signature for _, signature in signed),
            quorum=ledger.state.signing_quorum,
            confirmed_epoch=confirmed.epoch,
            confirmed_root=confirmed.root,
            confirmed_total_grains=confirmed.total_grains,
            slashes=_slashes(ledger),
        )
    )


def _slashes(ledger: Ledger) -> tuple[SlashView, ...]:
    """All slashes of the last confirmed settlement with their proofs, already encoded: they are made once for each,
    since they only grow in number, and anybody may ask.
    """
    confirmed = ledger.state.confirmed
    if not confirmed.slashes:
        return ()
    tree = confirmed_tree(ledger.book)
    known = _SLASHES.get(tree)
    if known is None:
        to = Address(ledger.state.genesis.settlement_contract)
        known = _SLASHES[tree] = msgspec.Raw(
            encode(
                tuple(
                    SlashView(
                        node=node,
                        role=int(role),
                        cumulative_grains=by_role[role],
                        to=to,
                        proof=tuple(tree.proof(slash_leaf(node, role, by_role[role], to))),
                    )
                    for node, by_role in sorted(confirmed.slashes.items())
                    for role in Role
                    if by_role[role]
                )
            )
        )
    return cast(tuple[SlashView, ...], known)


def _network(ledger: Ledger, arguments: bytes) -> bytes:
    state = ledger.state
    providers, validators, verifiers, _aggregators = (len(ledger.book.active[role]) for role in Role)
    return encode(
        NetworkView(
            genesis=state.genesis,
            parameters=state.parameters,
            next_chain_event=state.next_chain_event,
            orders_live=ledger.book.index.live,
            providers=providers,
            validators=validators,
            verifiers=verifiers,
            validator_stake_grains=sum(
                ledger.book.stake(address, Role.VALIDATOR).bonded for address in ledger.book.active[Role.VALIDATOR]
            ),
            deposited_grains=state.deposited_grains,
            members=tuple(Member(seat.account, seat.sealing_public) for seat in state.aggregators),
        )
    )


def _seats(ledger: Ledger, arguments: bytes) -> bytes:
    state = ledger.state
    seats = tuple(
        SeatView(
            account=seat.account,
            key=seat.key,
            sealing_public=seat.sealing_public,
            contact=_contact(seat.contact) if seat.contact else None,
            convicted=ledger.book.is_convicted(seat.account),
            against=tuple(state.removals.get(seat.account, ())),
        )
        for seat in state.aggregators
    )
    candidates = tuple(
        CandidateView(account=account, key=each.seat.key, contact=_contact(each.seat.contact), votes=tuple(each.votes))
        for account, each in sorted(state.candidates.items())
    )
    return encode(
        SeatsView(
            seats=seats,
            candidates=candidates,
            quorum=ledger.book.quorum,
            change_pending=state.changed > state.era,
            signer_set_id=state.signer_set_id,
            signers=tuple(state.signers),
            next_signers=tuple(state.rotation.stakers) if state.rotation else (),
        )
    )


def _governance(ledger: Ledger, arguments: bytes) -> bytes:
    state, book = ledger.state.governance, ledger.book
    views: list[ProposalView] = []
    for end in state.ended:
        views.append(
            ProposalView(
                number=end.number,
                proposer=end.proposer,
                bond_grains=0,
                changes=end.changes,
                version=end.version,
                install="",
                for_grains=end.for_grains,
                against_grains=end.against_grains,
                total_grains=end.total_grains,
                quorum_bp=0,
                majority_bp=0,
                closes_ms=end.ended_ms,
                activates_ms=0,
                outcome=end.outcome,
            )
        )
    for number, each in state.proposals.items():
        yes, no, total = each.result if each.activates_ms else governance.tally(book, each)
        views.append(
            ProposalView(
                number=number,
                proposer=each.proposer,
                bond_grains=each.bond_grains,
                changes=each.changes,
                version=each.version,
                install=each.install,
                for_grains=yes,
                against_grains=no,
                total_grains=total,
                quorum_bp=each.quorum_bp,
                majority_bp=each.majority_bp,
                closes_ms=each.closes_ms,
                activates_ms=each.activates_ms,
                outcome="passed" if each.activates_ms else "voting",
            )
        )
    return encode(
        GovernanceView(
            parameters=ledger.state.parameters,
            version=state.version,
            since=state.since[state.version],
            bond_grains=governance.bond_grains(book),
            proposals=tuple(sorted(views, key=lambda view: view.number)),
            acts=tuple(
                OwnerActView(
                    proposal=number,
                    until_ms=act.until_ms,
                    quorum=ledger.state.signing_quorum,
                    signatures=tuple(sorted(act.signatures.items())),
                )
                for number, act in sorted(state.acts.items())
            ),
        )
    )


def _contact(contact: bytes) -> Contact:
    return decode(contact, Contact, limit_bytes=ARGUMENT_LIMIT_BYTES)


def _header(ledger: Ledger, arguments: bytes) -> bytes:
    order_id = decode(arguments, OrderQuery, limit_bytes=ARGUMENT_LIMIT_BYTES).order_id
    found: OrderHeader | None = ledger.state.headers.get(order_id)
    return encode(found)


def _why(ledger: Ledger, arguments: bytes) -> bytes:
    asked = decode(arguments, WhyQuery, limit_bytes=ARGUMENT_LIMIT_BYTES)
    return encode(why(ledger.book, asked.order_id, asked.account))


_QUERIES: dict[str, Callable[[Ledger, bytes], bytes]] = {
    "order": _order,
    "holders": _holders,
    "orders": _orders,
    "orders_in": _orders_in,
    "fetch_orders": _fetch_orders,
    "fetch_validations": _fetch_validations,
    "account": _account,
    "epoch": _epoch,
    "network": _network,
    "seats": _seats,
    "governance": _governance,
    "header": _header,
    "why": _why,
}
