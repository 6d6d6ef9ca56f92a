"""What tests of duties share: a signer whose clock the test turns, and a queue whose work waits until it is done."""

from __future__ import annotations

from collections.abc import Sequence

from pot_lab.crypto.identity import Identity
from pot_lab.network.duties.chain_queue import ChainQueue, Work
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.transactions import Transaction, open_transaction
from tests.protocol.world import World


def signer_of(world: World, identity: Identity, *spare: Identity) -> TransactionSigner:
    """A signer of this world's network, whose nonces are far above those of the world's own transactions."""
    return TransactionSigner(world.network_id, identity, spare, lambda: world.ledger, clock_us=lambda: 1_000_000)


def opened(world: World, requests: Sequence[bytes]) -> list[Transaction]:
    """The transactions in these requests, their signatures checked."""
    return [open_transaction(request, world.network_id) for request in requests]


class HeldQueue(ChainQueue):
    """A queue whose work is done when the test says so."""

    def __init__(self) -> None:
        self.held: list[Work] = []
        super().__init__(self.held.append)

    def work(self) -> int:
        """Do what waits; returns how many threads would have been started for it."""
        held, self.held[:] = list(self.held), []
        for each in held:
            each()
        return len(held)
