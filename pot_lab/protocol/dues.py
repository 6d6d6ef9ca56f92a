"""What others get of stakes that were slashed (protocol.md, "Money").

The chain holds stakes apart from the money of orders. So a part of a slashed stake that is due to somebody becomes its
earning only when the chain has moved the stake to the settlement contract, and its own event says so: the ledger never
promises what that contract does not have.
"""

from __future__ import annotations

from collections.abc import Mapping

from pot_lab.crypto.identity import Address
from pot_lab.protocol.shares import share_out
from pot_lab.protocol.state import LedgerState


def owe(state: LedgerState, taken: int, shared: int, to: Mapping[Address, int]) -> dict[Address, int]:
    """Note that of `taken` grains `shared` are due to these accounts by weight, and the rest to the treasury.

    Returns: what is due to each.
    """
    parts = {account: grains for account, grains in share_out(shared, to).items() if grains}
    for account, grains in parts.items():
        state.dues[account] = state.dues.get(account, 0) + grains
    state.treasury_due_grains += taken - sum(parts.values())
    return parts


def recover(state: LedgerState, grains: int) -> dict[Address, int]:
    """The settlement contract got `grains` of slashed stakes; returns what each account gets of all that is there now,
    in proportion to what is due to it.
    """
    state.recovered_grains += grains
    owed = sum(state.dues.values())
    paid = share_out(min(owed, state.recovered_grains), state.dues)
    for account, part in paid.items():
        state.dues[account] -= part
    state.dues = {account: left for account, left in state.dues.items() if left}
    return {account: part for account, part in paid.items() if part}


def treasury_part(state: LedgerState) -> int:
    """What the treasury may have of what is there: nothing that is due to somebody else."""
    return max(0, min(state.treasury_due_grains, state.recovered_grains - sum(state.dues.values())))
