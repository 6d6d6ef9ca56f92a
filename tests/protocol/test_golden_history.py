"""One long history of all kinds of transactions, the same in every run and on every machine, and what it comes to.

The digest of a ledger hashes all replies and events; the snapshot has the whole state. So a change of any rule shows
here, also where no other test looks. There is one history for each version of the rules, since old logs are replayed
under the rules of their time: the pins of a version that was released never change.

Until then a wanted change of a rule, a record or a parameter changes the pins: the failing test prints the new ones.
Where the transactions themselves differ it was the generator that changed (these rules of the state machine, or what
the world says by them), or a reply that it acts upon.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.link import Link
from pot_lab.protocol.ledger import VERSIONS, Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import BODIES, open_transaction
from pot_lab.simulator.sealing import sealed_key
from tests.protocol.market import Market, Seen
from tests.protocol.test_state_machine import MODELS, NOWHERE, PARAMETERS, PEOPLE, Histories
from tests.protocol.world import POT, Identity, SealedModel

LEAST_TRANSACTIONS = 4_000
LEFT_OUT, LIARS = (6, 6, 6, 6, 6, 6, 0, 1, 2, 3, 4, 5, 7, 8, 9), (9, 9, 9, 9, 2, 3, 4, 5)
"""By `Histories`: who forgets something, and who lies; mostly nobody."""


class Golden(NamedTuple):
    """What the history of a version comes to; SHA-256 in hex."""

    transactions: int
    ordered: str
    digest: str
    snapshot: str


GOLDEN = {
    1: Golden(
        transactions=4000,
        ordered="7780930ad21de787e8f00ea0b274c38ce47c8802baa84a61cac1258d97f6ed92",
        digest="9b5d1942af94714b99824a7706c43f196f0d04bba43023aefab3d2b1a4a0b739",
        snapshot="fd274519e07fae1670d636b2705f6054a996737e14a33ada021b7ab556ae8934",
    ),
}


class Draws:
    """Numbers that follow from a seed by SHA-256 alone: no library's generator changes them."""

    def __init__(self, seed: str) -> None:
        self._seed, self._count = seed, 0

    def below(self, limit: int) -> int:
        self._count += 1
        return int.from_bytes(sha256(f"{self._seed} {self._count}".encode())[:8], "big") % limit

    def one_of(self, *values: Any) -> Any:
        return values[self.below(len(values))]


class Repeatable(Market):
    """A market under one version of the rules whose models are sealed to boxes that hold nothing, since real ones have
    other bytes in each run.
    """

    def __init__(self, version: int, seen: Seen) -> None:
        self.rules = dict.fromkeys(range(version, 64), VERSIONS[version])
        super().__init__(PARAMETERS, seen)
        self.genesis = replace(self.genesis, version=version)
        self.network_id = self.genesis.network_id
        self.ledger = self.fresh()

    def fresh(self) -> Ledger:
        return Ledger(self.genesis, versions=self.rules)

    def restarted(self) -> Ledger:
        ledger = self.fresh()
        ledger.restore(self.ledger.snapshot())
        return ledger

    def seal(
        self, order_id: bytes, provider: Identity, mid: bytes, ciphertext: Link, key: bytes, salt: bytes
    ) -> SealedModel:
        name = order_id, provider.address, mid
        if name not in self._models:
            holders = len(self.ledger.state.sets[self.order(order_id).sealed_to])
            boxes, shares = sealed_key(self.network_id, order_id, provider.address, ciphertext.digest, holders)
            self._models[name] = SealedModel(mid, ciphertext, boxes, list(shares), salt)
        return self._models[name]


class People(Histories):
    """They reveal what they claimed, and do not try everything."""

    def _reveal(self, order_id: bytes, leave_out: int) -> None:
        for place, person in enumerate(PEOPLE):
            for model in MODELS if place != leave_out else ():
                claim = self.world.order(order_id).claims.get(person.address) if self.knows(order_id) else None
                sealed = self.world.sealed(order_id, person, model) if claim else None
                if claim and sealed and self.world.claim_of(order_id, person, sealed).commitment == claim.commitment:
                    self.world.reveal(order_id, person, model)


def history(version: int, seen: Seen) -> Repeatable:
    """Some thousand transactions of all kinds, most right and some wrong."""
    people, draw = People(), Draws(f"version {version}")
    world = people.world = Repeatable(version, seen)
    world.lost = {NOWHERE}
    people.orders, people.escrowed, people.ended = [], set(), {}
    for role, persons in ((Role.PROVIDER, PEOPLE[:4]), (Role.VALIDATOR, PEOPLE[2:])):
        for person in persons:
            world.stake(person, role, 200 * POT)
    people.proposes(PEOPLE[0], Role.PROVIDER, 0, len(PEOPLE), 0, True)
    world.wait(PARAMETERS.voting_ms)
    people.signs_owner_acts(4)
    some = 1 << 16
    while sum(len(requests) for _, requests in world.log) < LEAST_TRANSACTIONS:
        who, number = draw.one_of(*PEOPLE), draw.below(some)
        role = draw.one_of(Role.PROVIDER, Role.VALIDATOR)
        match draw.below(24):
            case 0 | 1 | 2 | 3 | 4 | 5:
                people.carry_through(who, number, draw.one_of(*LEFT_OUT), draw.one_of(*LIARS))
            case 6 | 7:
                people.carry_on(number, 1 + draw.below(12), draw.one_of(*LEFT_OUT), draw.one_of(*LIARS))
            case 8:
                people.place(who, POT + draw.below(8 * POT))
            case 9:
                people.order(who, POT, POT, draw.below(120), draw.below(6) == 0)
            case 10:
                people.fund(number, draw.one_of(0, 0, 1))
            case 11:
                people.refund(number)
            case 12:
                people.withdraw(who, number)
            case 13:
                people.stakes(who, role, 1 + draw.below(30 * POT), number)
            case 14:
                people.unstakes(who, role, 1 + draw.below(20 * POT), draw.one_of("unstake_requested", "withdrawn"))
            case 15:
                people.registers(who, role, draw.below(4) == 0)
            case 16:
                people.proposes(who, role, number, draw.below(9), draw.below(9), draw.below(4) > 0)
            case 17:
                people.proposes_version(who, role, draw.below(9))
            case 18:
                people.newcomers(draw.below(2), draw.below(7))
            case 19:
                people.changes_seats(number, draw.below(7), draw.one_of("vote", "leave", "rotate"))
            case 20:
                people.accuses(who, 0)
                people.rotates_signers()
            case 21:
                people.denies(number, 1 + draw.below(3))
                people.settle()
            case 22:
                people.mistakes(who, number)
            case _:
                people.time_passes(draw.one_of(1, 500, 1_000, 3_000, 5_000))
                people.next_deadline()
        if world.ledger.state.governance.acts and draw.below(4) == 0:
            people.signs_owner_acts(1 + draw.below(5))
    return world


@pytest.mark.parametrize("version", VERSIONS)
def test_the_history_comes_to_what_it_came_to(version: int) -> None:
    seen = Seen()
    world = history(version, seen)
    missing = set(BODIES) - set(seen.kinds)
    assert not missing, "kinds of transactions that this history does not have"
    ordered = hashlib.sha256()
    again, kinds = world.fresh(), Counter[str]()
    for sequence, ((time_ms, requests), era) in enumerate(zip(world.log, world.eras, strict=True), 1):
        transactions = [open_transaction(request, world.network_id) for request in requests]
        kinds.update(each.kind for each in transactions)
        ordered.update(repr((time_ms, era, requests)).encode())
        again.execute(sequence, time_ms, transactions, era)
    assert again.snapshot() == world.ledger.snapshot()
    found = Golden(sum(kinds.values()), ordered.hexdigest(), again.state.digest.hex(), sha256(again.snapshot()).hex())
    assert found == GOLDEN[version]


def test_each_version_has_one() -> None:
    assert set(GOLDEN) == set(VERSIONS)
