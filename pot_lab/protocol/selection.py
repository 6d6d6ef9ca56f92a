"""Who validates which model: a draw by stake that nobody can know or buy before all models are fixed.

The seed hashes every revealed salt (protocol.md, "Validators and scores"), so it is settled only when the last provider
has opened its commitment. The draw is without replacement and in integers; the same inputs give the same validators
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import Address
from pot_lab.protocol.records import ModelId, OrderId, Salt


def draw_seed(order_id: OrderId, salts: Iterable[Salt]) -> bytes:
    """Seed of an order's draws (32 bytes), from the salts of its revealed claims in any order."""
    return tagged_hash("pot-lab/draw/1", order_id, *sorted(salts))


def draw_validators(seed: bytes, mid: ModelId, weights: Mapping[Address, int], count: int) -> list[Address]:
    """Draw up to `count` validators for the model `mid`, each with a chance in proportion to its stake.

    Args:
        weights: stake in grains of each eligible validator (20-byte address); those with none are left out.
    Returns: addresses in the order in which they were drawn.
    """
    pool = {address: weight for address, weight in sorted(weights.items()) if weight > 0}
    drawn: list[Address] = []
    while pool and len(drawn) < count:
        # 256 bits over a total below 2^64: the bias of the remainder is under 2^-190
        ticket = int.from_bytes(
            tagged_hash("pot-lab/draw-ticket/1", seed, mid, len(drawn).to_bytes(2, "big")), "big"
        ) % sum(pool.values())
        for address, weight in pool.items():
            if ticket < weight:
                drawn.append(address)
                del pool[address]
                break
            ticket -= weight
    return drawn


def score_quorum(validators: int) -> int:
    """How many equal scores of `validators` make a score agreed: ceil(2v/3), 5 of 7."""
    return -(-2 * validators // 3)
