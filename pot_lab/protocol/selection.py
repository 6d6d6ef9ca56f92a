"""Who validates an order's models: one draw of seats by stake, which nobody knows or buys before all models are fixed.

The seed hashes every revealed salt and the key of the test data (protocol.md, "Seats and scores"), so it is settled
only when the last provider has opened its commitment, and until then nobody but the client can try outcomes. Stake
buys seats in proportion, with replacement: splitting it over many accounts buys no more of them. Everything is in
integers; the same inputs give the same seats everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import Address
from pot_lab.protocol.records import ModelId, OrderId, Salt

MODELS_OF_A_SET = 16
"""How many models one set of seats scores; an order with more has more sets."""

ACCOUNTS = 3
"""How many accounts at least must hold the seats, and open a model's score."""


def draw_seed(order_id: OrderId, salts: Iterable[Salt], test_key: bytes, beacon: bytes) -> bytes:
    """Seed of an order's draws (32 bytes): the salts of its revealed claims in any order, the test key, and the
    ledger's digest after the batch that ended the reveals.

    The digest is what a client that reveals claims of its own cannot try out: it knows the key and the salts.
    """
    return tagged_hash("pot-lab/draw/3", order_id, test_key, beacon, *sorted(salts))


def draw_seats(seed: bytes, set_number: int, weights: Mapping[Address, int], count: int) -> list[Address]:
    """Draw `count` seats, each an account with a chance in proportion to its stake; an account may hold several.

    Where fewer than `ACCOUNTS` accounts hold seats, further tickets, drawn among the others, replace the last seat of
    the account that holds most, as long as there are others.

    Args:
        set_number: which set of the order's seats is drawn.
        weights: stake in grains of each eligible account (20-byte address); those with none are left out.
    Returns: an account for each seat, in the order in which they were drawn; empty where nobody is eligible.
    """
    tickets, urn = _Tickets(seed, set_number, 0), _Urn(weights)
    drawn = [found for _ in range(count) if (found := urn.at(tickets.take())) is not None]
    _spread(drawn, tickets, weights)
    return drawn


def redraw_seats(
    seed: bytes, set_number: int, seats: Sequence[Address], silent: Iterable[Address], weights: Mapping[Address, int]
) -> list[Address]:
    """The seats after those of silent accounts were drawn once more, among the accounts of `weights` that are not.

    If fewer than `ACCOUNTS` accounts would be left, nobody can replace the silent ones, and the seats stay as they are.
    """
    left_out = set(silent)
    pool = {address: weight for address, weight in weights.items() if address not in left_out and weight > 0}
    kept = [address for address in seats if address not in left_out]
    if len({*pool, *kept}) < ACCOUNTS:
        return list(seats)
    tickets, urn = _Tickets(seed, set_number, 1), _Urn(pool)
    drawn = [urn.at(tickets.take()) or address if address in left_out else address for address in seats]
    _spread(drawn, tickets, pool)
    return drawn


def set_of(seed: bytes, mid: ModelId, sets: int) -> int:
    """Which of an order's sets of seats scores the model."""
    return int.from_bytes(tagged_hash("pot-lab/seat-set/1", seed, mid), "big") % sets


def sets_for(models: int) -> int:
    """How many sets of seats score so many models: one for each 16, the last one perhaps for fewer."""
    return -(-models // MODELS_OF_A_SET)


def score_quorum(seats: int) -> int:
    """How many of the seats that opened a model's score must have opened the same, for it to stand: ceil(2v/3), 5 of
    7.
    """
    return -(-2 * seats // 3)


class _Tickets:
    """Numbered random integers below 2^256."""

    def __init__(self, seed: bytes, set_number: int, redraw: int) -> None:
        self._parts = seed, set_number.to_bytes(2, "big"), redraw.to_bytes(1, "big")
        self._next = 0

    def take(self) -> int:
        """The next one."""
        ticket = tagged_hash("pot-lab/draw-ticket/2", *self._parts, self._next.to_bytes(2, "big"))
        self._next += 1
        return int.from_bytes(ticket, "big")


class _Urn:
    """Accounts, each with a part of a line as long as its weight."""

    def __init__(self, weights: Mapping[Address, int]) -> None:
        self._accounts = sorted(address for address, weight in weights.items() if weight > 0)
        self._upto = list(accumulate(weights[address] for address in self._accounts))

    def at(self, ticket: int) -> Address | None:
        """Whose part the ticket falls into; None where no account has weight."""
        # 256 bits over a total below 2^64: the bias of the remainder is under 2^-190
        return self._accounts[bisect_right(self._upto, ticket % self._upto[-1])] if self._upto else None


def _spread(drawn: list[Address], tickets: _Tickets, weights: Mapping[Address, int]) -> None:
    """Replace seats until `ACCOUNTS` accounts hold some, if there are so many."""
    while len(held := Counter(drawn)) < min(ACCOUNTS, len(drawn)):
        others = _Urn({address: weight for address, weight in weights.items() if address not in held})
        found = others.at(tickets.take())
        if found is None:
            return
        most = max(held.values())
        drawn[max(index for index, address in enumerate(drawn) if held[address] == most)] = found
