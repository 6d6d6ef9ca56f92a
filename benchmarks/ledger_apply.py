"""How many transactions the ledger applies a second on one core, signatures apart: orders' whole lives, step by step.

Orders go through their cycle side by side, so a batch holds one step of all of them: put and paid, claimed, revealed,
released, scored, opened, challenged, judged. Beside them as many live orders as asked for wait in their commit window.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from msgspec import structs
from report import main

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Identity
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent, OrderRecord, opening_name
from pot_lab.protocol.transactions import (
    Attest,
    CommitScores,
    OpenScores,
    Put,
    ReleaseShare,
    Reply,
    ScoreCommitment,
    Transaction,
    Verdict,
    open_transaction,
)
from tests.protocol.scenes import LEAF, MODELS, PROVIDERS, SCORES, VALIDATORS
from tests.protocol.world import PARAMETERS, POT, WINDOWS, World, key

STAKE = 10**7 * POT
_EVENTS_AT_ONCE = 10
_LONG_MS = 86_400_000


class Unaudited(World):
    """A world that does not walk through all entries after each batch, and keeps what it ordered as it executed it."""

    def __init__(self, max_live_orders_per_account: int = 1_000) -> None:
        parameters = structs.replace(
            PARAMETERS, max_live_orders_per_account=max_live_orders_per_account, seats_per_order=7
        )
        self.batches: list[tuple[int, list[Transaction]]] = []
        super().__init__(parameters=parameters)

    def ordered(self, *requests: bytes) -> list[Reply]:
        """Order these transactions in one batch now."""
        transactions = [open_transaction(request, self.network_id) for request in requests]
        self.batches.append((self.now_ms, transactions))
        replies, _ = self.ledger.execute(self.ledger.state.sequence + 1, self.now_ms, transactions)
        if self.keeps:
            self.keep()
        return replies

    def opened_transactions(self, said: list[tuple[Identity, Record]]) -> list[Transaction]:
        """What was said, signed and admitted."""
        return [open_transaction(self.signed(who, body), self.network_id) for who, body in said]

    def place(self, orders: list[OrderRecord], clients: list[Identity]) -> None:
        """Put these orders, and attest their escrows."""
        said: list[tuple[Identity, Record]] = [
            (client, Put(order)) for client, order in zip(clients, orders, strict=True)
        ]
        events = [
            ChainEvent(
                kind="order_placed",
                block=2,
                log_index=0,
                account=order.client,
                role=-1,
                amount_grains=order.reward_grains,
                subject=order.id,
                detail=(order.fee_grains, order.bond_grains, order.seal_by_s, order.nonce),
            )
            for order in orders
        ]
        first = self.chain_events
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            some = tuple(events[start : start + _EVENTS_AT_ONCE])
            said += [(each, Attest(first + start, some)) for each in self.aggregators[: self.ledger.book.faulty + 1]]
        self.chain_events += len(events)
        self.batch(*said)


def orders_of(world: Unaudited, count: int, first: int, **changes: Any) -> tuple[list[OrderRecord], list[Identity]]:
    clients = [key(f"client {(first + number) // 500}") for number in range(count)]
    made = [
        world.new_order(nonce=first + number, client=client.address, **changes) for number, client in enumerate(clients)
    ]
    return made, clients


def _steps(world: Unaudited, ids: list[bytes]) -> Iterator[list[tuple[Identity, Record]]]:
    """The transactions of each step for all of these orders."""
    yield [
        (who, world.claim_of(each, who, world.sealed(each, who, model)))
        for each in ids
        for who, model in zip(PROVIDERS, MODELS, strict=True)
    ]
    to_window(world, ids, Window.REVEAL)
    yield [
        (who, world.reveal_of(each, world.sealed(each, who, model)))
        for each in ids
        for who, model in zip(PROVIDERS, MODELS, strict=True)
    ]
    to_window(world, ids, Window.RELEASE)
    world.batch()
    yield [(world.aggregators[i], ReleaseShare(each, world.shares[each][i])) for each in ids for i in range(3)]
    yield [(who, world.right(each)) for each in ids for who in world.aggregators[:2]]
    yield [(world.aggregators[i], world.model_shares(each, i)) for each in ids for i in range(3)]
    yield [
        (who, Verdict(each, opening_name(world.network_id, each, world.mid(each, model)), True))
        for each in ids
        for model in MODELS
        for who in world.aggregators[:2]
    ]
    for kind in ("commit_scores", "open_scores"):
        yield [
            _of(world, each, kind, validator)
            for each in ids
            for validator in VALIDATORS
            if validator.address in world.order(each).seats_of(world.order(each).revealed()[0])
        ]
    to_window(world, ids, Window.CHALLENGE)
    yield [_challenge(world, each) for each in ids]
    to_window(world, ids, Window.OPEN_CHALLENGES)
    yield [_open_challenge(world, each) for each in ids]
    yield [
        (aggregator, Verdict(each, world.order(each).disputes[0].name, True))
        for each in ids
        for aggregator in world.aggregators[:2]
    ]


def to_window(world: World, ids: list[bytes], window: Window) -> None:
    for _ in range(20):
        if all(world.order(each).window is window for each in ids):
            return
        world.now_ms = max(world.now_ms, min(world.order(each).closes_ms for each in ids))
        world.batch()
    raise AssertionError(f"the orders never came to {window}")


def _of(world: World, order_id: bytes, kind: str, validator: Identity) -> tuple[Identity, Record]:
    opened = [world.opened(order_id, validator, model, total) for model, total in SCORES.items()]
    if kind == "open_scores":
        return validator, OpenScores(order_id, tuple(opened))
    items = (ScoreCommitment(each.mid, world.commitment(order_id, validator, each)) for each in opened)
    return validator, CommitScores(order_id, tuple(items))


def _challenged(world: World, order_id: bytes) -> Identity:
    return next(each for each in VALIDATORS if each.address == world.order(order_id).validations[0].validator)


def _challenge(world: World, order_id: bytes) -> tuple[Identity, Record]:
    return PROVIDERS[0], world.challenge(order_id, PROVIDERS[0], _challenged(world, order_id), MODELS[1], LEAF)


def _open_challenge(world: World, order_id: bytes) -> tuple[Identity, Record]:
    validator = _challenged(world, order_id)
    return PROVIDERS[0], world.open_challenge(order_id, validator, MODELS[1], SCORES[MODELS[1]], LEAF)


def measure(live: int, orders: int, rounds: int) -> dict[str, Any]:
    """Transactions a second of `orders` whole orders beside `live` others, the best and the median of `rounds`."""
    world = Unaudited()
    for who, role in [(each, Role.PROVIDER) for each in PROVIDERS] + [(each, Role.VALIDATOR) for each in VALIDATORS]:
        world.stake(who, role, STAKE)
    windows = structs.replace(WINDOWS, train_ms=_LONG_MS)
    for start in range(0, live, 500):
        world.place(*orders_of(world, min(500, live - start), start + 1, windows=windows))
    before, begun = world.ledger.snapshot(), len(world.batches)
    made, clients = orders_of(world, orders, live + 1_000)
    world.place(made, clients)
    accepted = 0
    for said in _steps(world, [each.id for each in made]):
        accepted += sum(reply.accepted for reply in world.batch(*said))
    to_window(world, [each.id for each in made], Window.FINALIZATION)
    batches = world.batches[begun:]
    kinds = Counter(transaction.kind for _, transactions in batches for transaction in transactions)
    times = [_replay(world, before, batches) for _ in range(rounds)]
    count = sum(kinds.values())
    return {
        "transactions": count,
        "kinds": dict(sorted(kinds.items())),
        "a_second": round(count / min(times)),
        "median_a_second": round(count / statistics.median(times)),
        "live_orders": live,
        "accepted_in_steps": accepted,
    }


def _replay(world: World, before: bytes, batches: list[tuple[int, list[Transaction]]]) -> float:
    ledger = Ledger(world.genesis)
    ledger.restore(before)
    sequence = ledger.state.sequence
    gc.collect()
    start = time.process_time()
    for number, (time_ms, transactions) in enumerate(batches, sequence + 1):
        ledger.execute(number, time_ms, transactions)
    spent = time.process_time() - start
    if ledger.state.digest != world.ledger.state.digest:
        raise AssertionError("a replay came to another state")
    return spent


def options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--live", type=int, default=10)
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    main(__doc__, lambda chosen: measure(chosen.live, chosen.orders, chosen.rounds), options=options)
