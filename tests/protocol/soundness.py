"""What holds of every ledger at every moment: indices say what the state says, and locks are for live orders only."""

from __future__ import annotations

from pot_lab.protocol.custody_index import CustodyIndex
from pot_lab.protocol.cycle import TABLE, Phase, Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.order_index import OrderIndex, is_waiting
from pot_lab.protocol.parameters import Role


def check_derived(ledger: Ledger) -> None:
    """What the book derives from the state is what a restart would derive."""
    book, state = ledger.book, ledger.state
    fresh, index = OrderIndex(state.orders), book.index
    assert (fresh.unfunded, fresh._held, fresh._newest) == (index.unfunded, index._held, index._newest)
    assert vars(fresh._seated) == vars(index._seated)
    assert all(fresh.in_window(window) == index.in_window(window) for window in Window)
    assert [*fresh.best_paid()] == [*index.best_paid()]
    assert fresh.deadlines.next_ms() == index.deadlines.next_ms()
    assert fresh.retention.next_ms() == index.retention.next_ms()
    named = book.custody
    assert {*CustodyIndex(state).all_named()} == {*named.all_named()}
    assert set(state.custody) <= {each.blob.key for each in named.all_named()}
    drawing = {order.validators_at for order in state.orders.values()} - {0}
    assert set(state.validator_sets) == drawing
    assert drawing == {number for number in range(1, 100) if index.draws_from(number)}
    for role in Role:
        assert book.active[role] == {each for each, account in state.accounts.items() if account.active[role]}
    assert book.waiting == {each for each, order in state.orders.items() if is_waiting(order) and each in state.escrows}
    assert book.members == {seat.key: number for number, seat in enumerate(state.aggregators)}


def check_locks(ledger: Ledger) -> None:
    """Stakes are locked for live orders and open proposals, and for nothing else."""
    locked: dict[tuple[bytes, Role], int] = {}
    for order in ledger.state.orders.values():
        if TABLE[order.window].phase not in (Phase.ENDED, Phase.FINALIZATION):
            for claim in order.claims.values():
                place = claim.provider, Role.PROVIDER
                locked[place] = locked.get(place, 0) + claim.bond_grains
            for challenge in order.challenges:
                bonded = challenge.challenger, Role(challenge.role)
                locked[bonded] = locked.get(bonded, 0) + challenge.bond_grains
            for validator in order.locked:
                place = validator, Role.VALIDATOR
                locked[place] = locked.get(place, 0) + order.lock_grains
    for proposal in ledger.state.governance.proposals.values():
        if not proposal.activates_ms:
            place = proposal.proposer, proposal.role
            locked[place] = locked.get(place, 0) + proposal.bond_grains
    for address, account in ledger.state.accounts.items():
        for role in Role:
            assert account.stakes[role].locked == locked.get((address, role), 0)
