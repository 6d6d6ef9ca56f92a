"""Settlement epochs: when the ledger's payouts go to the chain, and what the aggregators sign.

Every `update_ms` the ledger makes a tree of cumulative earnings and slashes; its members sign the EIP-712 digest as
ledger transactions; with a quorum any of them sends it; the chain's confirmation comes back as an attested event. An
epoch that is not confirmed is signed again under a new round, and being cumulative can never pay twice (protocol.md,
"Settlement"; chain.md, "Ledger and chain").
"""

from __future__ import annotations

from collections.abc import Mapping

from pot_lab.crypto.canonical import Wide
from pot_lab.crypto.identity import Address, BadSignature
from pot_lab.protocol import downtime
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import BadEpoch
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.settlement import PayoutTree, Settlement, orders_hash, reward_leaf, settlement_digest, slash_leaf
from pot_lab.protocol.state import Confirmed, LedgerState, Payout, PendingEpoch
from pot_lab.protocol.transactions import SignEpoch

MAX_ORDERS_PER_EPOCH = 200
"""Orders sealed by one chain transaction, so that it stays far under a block's gas."""

WORTH_AN_EPOCH_GRAINS = GRAINS_PER_POT // 100
"""So much slashed stake that was passed on is settled without waiting for an order: less would let whoever gives the
contract a grain at a time make the aggregators pay for an epoch each time.
"""


def due_ms(book: Book) -> int | None:
    """When the next epoch, or the next round of the pending one, is due; None while there is nothing to settle."""
    state = book.state
    if state.pending is not None:
        return state.pending.opened_ms + _timeout_ms(book)
    waits = state.unsettled or _unsettled_conviction(book) or _passed_on(state)
    return max(state.next_update_ms, state.time_ms) if waits else None


def _timeout_ms(book: Book) -> int:
    """How long a round of the pending epoch waits for the chain: no longer than any of its orders counts on, whose
    escrow its client may ask back.
    """
    state = book.state
    own = [state.orders[order_id].parameters for order_id in state.pending.order_ids] if state.pending else []
    return min(each.settlement_timeout_ms for each in (state.parameters, *own))


def _passed_on(state: LedgerState) -> bool:
    """Whether accounts got slashed stake since the last settlement that is worth one; else it comes with the orders, as
    the treasury's part does.
    """
    return state.passed_on_grains - state.confirmed.passed_on_grains >= WORTH_AN_EPOCH_GRAINS


def _unsettled_conviction(book: Book) -> bool:
    """Whether a convicted aggregator's stake is still to be taken on the chain; other slashes come with the orders."""
    state, role = book.state, Role.AGGREGATOR
    accounts = {state.keys[key] for key in state.convicted}
    nothing = [0 for _ in Role]
    return any(
        state.accounts[each].stakes[role].slashed > state.confirmed.slashes.get(each, nothing)[role]
        for each in accounts
    )


def advance(book: Book) -> None:
    """Open an epoch, or a new round of the pending one, if it is due; one that cannot be opened waits for the next."""
    if not book.attempt("epochs.advance", lambda: _advance(book)):
        state = book.state
        state.next_update_ms = book.now_ms + state.parameters.update_ms
        if state.pending is not None:
            state.pending.opened_ms = book.now_ms


def _advance(book: Book) -> None:
    state = book.state
    due = due_ms(book)
    if due is None or due > book.now_ms:
        return
    if state.pending is None:
        book.pay_treasury()
        order_ids = state.unsettled[:MAX_ORDERS_PER_EPOCH]
        rewards = {
            address: account.earned_grains
            for address, account in sorted(state.accounts.items())
            if account.earned_grains
        }
        slashes = {
            address: [stake.slashed for stake in account.stakes]
            for address, account in sorted(state.accounts.items())
            if any(stake.slashed for stake in account.stakes)
        }
        if len(order_ids) < len(state.unsettled):  # the tree may promise no more than this epoch brings to the chain
            for order_id in state.unsettled[MAX_ORDERS_PER_EPOCH:]:
                for payout in state.orders[order_id].payouts:
                    rewards[payout.account] -= payout.grains
            rewards = {address: grains for address, grains in rewards.items() if grains}
        root = _kept(book, payout_tree(rewards, slashes, state.genesis.settlement_contract)).root
        state.rounds += 1
        settlement = Settlement(
            epoch=state.confirmed.epoch + 1,
            round=state.rounds,
            signer_set_id=state.signer_set_id,
            root=root,
            cumulative_total=Wide(sum(rewards.values())),
            orders_hash=orders_hash(order_ids),
            ledger_hash=state.digest,
        )
        state.pending = PendingEpoch(
            settlement=settlement,
            order_ids=order_ids,
            opened_ms=book.now_ms,
            rewards=rewards,
            slashes=slashes,
            passed_on_grains=state.passed_on_grains,
        )
        left = [state.orders[order_id].parameters for order_id in state.unsettled[MAX_ORDERS_PER_EPOCH:]]
        state.next_update_ms = book.now_ms + min(each.update_ms for each in (state.parameters, *left))
    else:
        old = state.pending.settlement
        state.rounds += 1
        state.pending.settlement = Settlement(
            epoch=old.epoch,
            round=state.rounds,
            signer_set_id=state.signer_set_id,
            root=old.root,
            cumulative_total=old.cumulative_total,
            orders_hash=old.orders_hash,
            ledger_hash=old.ledger_hash,
        )
        state.pending.signatures = {}
        state.pending.opened_ms = book.now_ms
    settlement = state.pending.settlement
    book.emit(
        "epoch_opened",
        epoch=settlement.epoch,
        round=settlement.round,
        orders=state.pending.order_ids,
        total_grains=settlement.cumulative_total,
    )


def on_sign_epoch(book: Book, aggregator: Address, body: SignEpoch) -> bytes:
    """Take an aggregator's signature of the pending settlement; the q-th one completes it."""
    if aggregator not in book.state.signers or aggregator in book.state.convicted:
        book.require_member(aggregator)
    pending = book.state.pending
    waiting = (pending.settlement.epoch, pending.settlement.round) if pending else None
    if pending is None or (body.epoch, body.round) != waiting:
        raise BadEpoch("no such settlement waits for signatures", seen=(body.epoch, body.round), wanted=waiting)
    genesis = book.state.genesis
    try:
        signer = book.recover(
            settlement_digest(genesis.chain_id, genesis.settlement_contract, pending.settlement), body.signature
        )
    except BadSignature as error:
        raise BadEpoch("the settlement's signature cannot be read", seen=body.signature) from error
    if signer != aggregator:
        raise BadEpoch("the settlement was not signed by this aggregator's key", seen=signer, wanted=aggregator)
    if book.add_signature(pending.signatures, aggregator, body.signature):
        book.emit("epoch_signed", epoch=body.epoch, round=body.round)
    return b""


def confirm(book: Book, root: bytes, epoch: int) -> None:
    """The chain has applied a settlement: its orders are settled and its leaves can be claimed.

    It may be one that the ledger has given up: signatures of it exist, and the money of the orders that were denied
    came to the escrow after all. Their payouts are then made again, since the chain can be made to pay them.
    """
    state = book.state
    pending = _applied(state, root, epoch)
    if pending is None:
        return
    downtime.mark(book, pending)
    state.forgotten = []
    state.confirmed = Confirmed(
        epoch=epoch,
        root=root,
        total_grains=pending.settlement.cumulative_total,
        rewards=pending.rewards,
        slashes=pending.slashes,
        passed_on_grains=pending.passed_on_grains,
    )
    state.pending, state.rounds = None, 0
    book.emit("epoch_settled", epoch=epoch, root=root, total_grains=state.confirmed.total_grains)
    settled = set(pending.order_ids)
    state.unsettled = [order_id for order_id in state.unsettled if order_id not in settled]
    for order_id in pending.order_ids:
        order = state.orders.get(order_id)
        if order is None:  # denied, and forgotten since
            continue
        order.epoch = epoch
        if order.window is Window.FINALIZATION:
            order.timeline[-1].closed_ms = order.ended_ms = book.now_ms
            order.window = Window.SETTLED
        book.touch(order_id, order)
        book.emit("order_settled", order_id, order.winner, epoch=epoch)


def _applied(state: LedgerState, root: bytes, epoch: int) -> PendingEpoch | None:
    """The settlement that the chain has applied, with the payouts of denied orders restored if it was given up."""
    if state.pending is not None and (state.pending.settlement.epoch, state.pending.settlement.root) == (epoch, root):
        return state.pending
    for forgotten in state.forgotten:
        if (forgotten.pending.settlement.epoch, forgotten.pending.settlement.root) == (epoch, root):
            for order_id, payouts in forgotten.denied.items():
                _pay_again(state, order_id, payouts)
            return forgotten.pending
    return None


def _pay_again(state: LedgerState, order_id: OrderId, payouts: list[Payout]) -> None:
    """Undo what `denials.advance` took back for an order, whose money the chain has paid out after all."""
    total = sum(payout.grains for payout in payouts)
    escrow = state.escrows.pop(order_id, None)
    placed = escrow.total_grains if escrow is not None else 0  # if its placement was attested once more
    state.escrowed_grains -= placed
    state.withdrawn_grains += placed - total
    state.earned_grains += total
    for payout in payouts:
        state.accounts[payout.account].earned_grains += payout.grains
    if order_id in state.orders:
        state.orders[order_id].payouts = payouts


def cancel_if_names(book: Book, order_id: OrderId) -> None:
    """Forget a pending epoch that counts on an escrow which the chain has given back; the next one is made without it,
    under a round of its own: a signature of the forgotten one and of the new one must never make an equivocation.
    """
    if book.state.pending is not None and order_id in book.state.pending.order_ids:
        book.state.pending = None


def payout_tree(
    rewards: Mapping[Address, int], slashes: Mapping[Address, list[int]], settlement_contract: bytes
) -> PayoutTree:
    """The tree of cumulative rewards and slashes, in grains by account (and by role); slashed stake goes to the
    settlement contract, which pays it on by later settlements.
    """
    leaves = [reward_leaf(address, grains) for address, grains in rewards.items()]
    leaves += [
        slash_leaf(address, role, by_role[role], settlement_contract)
        for address, by_role in slashes.items()
        for role in Role
        if by_role[role]
    ]
    return PayoutTree(leaves)


def confirmed_tree(book: Book) -> PayoutTree:
    """The tree of the last confirmed settlement: that which was made when it was proposed, or else made once."""
    confirmed = book.state.confirmed
    tree = book.payout_trees.get(confirmed.root)
    if tree is None:
        tree = _kept(book, payout_tree(confirmed.rewards, confirmed.slashes, book.state.genesis.settlement_contract))
    return tree


def _kept(book: Book, tree: PayoutTree) -> PayoutTree:
    """Keep a tree beside that of the last confirmed settlement: its proofs are asked for once it is confirmed."""
    confirmed = book.payout_trees.get(book.state.confirmed.root, tree)
    book.payout_trees = {confirmed.root: confirmed, tree.root: tree}
    return tree
