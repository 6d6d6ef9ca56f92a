"""The ledger with many live orders: lists, a snapshot and its restore, memory of a claim, and what ended orders leave.

Orders are put and paid in batches of 500 and wait in their commit window, a tenth of them with claims; as many as asked
for go on until their seats are drawn. What ended orders leave is measured by headers like those that the ledger keeps,
as they stand in a snapshot, plain and compressed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import statistics
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import ledger_apply
from msgspec import structs
from report import main

from pot_lab.crypto.canonical import encode
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.queries import query
from pot_lab.protocol.records import ClaimScore, HeldBlob
from pot_lab.protocol.state import OrderHeader
from pot_lab.protocol.views import OrdersQuery, WindowsQuery
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS
from tests.protocol.world import WINDOWS

_SAMPLE = 20_000


def _median_ms(act: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        act()
        times.append(time.process_time() - start)
    return round(1_000 * statistics.median(times), 3)


def _headers(count: int) -> dict[bytes, OrderHeader]:
    """What is kept of orders that ended with a model."""

    def digest(name: str, number: int) -> bytes:
        return hashlib.sha256(f"{name} {number}".encode()).digest()

    return {
        digest("order", number): OrderHeader(
            client=digest("client", number % 1_000)[:20],
            title="digits",
            spec_hash=digest("spec", number),
            window=Window.SETTLED,
            winner=digest("winner", number % 100)[:20],
            winner_mid=digest("model", number),
            score=ClaimScore(95, 100, True),
            void_reason=None,
            epoch=number,
            ended_ms=1_800_000_000_000 + number,
            graph=HeldBlob(digest("graph", number % 1_000), 10_000),
            ciphertext=HeldBlob(digest("ciphertext", number), 1_000_000),
            key=digest("key", number),
        )
        for number in range(count)
    }


def measure(live: int, seated: int, rounds: int) -> dict[str, Any]:
    """All figures, in processor time."""
    world = ledger_apply.Unaudited(max_live_orders_per_account=10_000)
    for who, role in [(each, Role.PROVIDER) for each in PROVIDERS] + [(each, Role.VALIDATOR) for each in VALIDATORS]:
        world.stake(who, role, ledger_apply.STAKE)
    made, clients = ledger_apply.orders_of(world, seated, 1)
    world.place(made, clients)
    ids = [each.id for each in made]
    for start in range(0, seated, 100):
        some = ids[start : start + 100]
        for who, model in zip(PROVIDERS, MODELS, strict=True):
            world.batch(*((who, world.claim_of(each, who, world.sealed(each, who, model))) for each in some))
    ledger_apply.to_window(world, ids, Window.REVEAL)
    for each in ids:
        for who, model in zip(PROVIDERS, MODELS, strict=True):
            world.reveal(each, who, model)
        world.release(each)
    windows = structs.replace(WINDOWS, train_ms=86_400_000)
    for start in range(0, live - seated, 500):
        count = min(500, live - seated - start)
        more, clients = ledger_apply.orders_of(world, count, 1_000_000 + start, windows=windows)
        world.place(more, clients)
    state = world.ledger.state
    open_ids = sorted(world.ledger.book.index.in_window(Window.COMMIT))
    claims_bytes = _claims(world, open_ids[:1_000])
    offers = encode(OrdersQuery(100))
    assigned = encode(WindowsQuery(windows=(Window.SCORE,), assigned=VALIDATORS[0].address, limit=100))
    snapshot = world.ledger.snapshot()

    def restore() -> None:
        Ledger(world.genesis).restore(snapshot)

    gc.collect()
    before = encode(state)
    left = encode(_headers(_SAMPLE))
    return {
        "live_orders": world.ledger.book.index.live,
        "with_seats": len(world.ledger.book.index.seated(VALIDATORS[0].address)),
        "fetch_orders_100_ms": _median_ms(lambda: query(world.ledger, "fetch_orders", offers), 5 * rounds),
        "assigned_to_me_ms": _median_ms(lambda: query(world.ledger, "orders_in", assigned), 5 * rounds),
        "snapshot_ms": _median_ms(world.ledger.snapshot, rounds),
        "restore_ms": _median_ms(restore, rounds),
        "snapshot_mb": round(len(before) / 1e6, 1),
        "memory_of_a_live_claim_bytes": claims_bytes,
        "a_million_ended_orders_mb": round(len(left) / _SAMPLE, 1),
        "a_million_ended_orders_compressed_mb": round(len(zlib.compress(left, 6)) / _SAMPLE, 1),
    }


def _claims(world: ledger_apply.Unaudited, ids: list[bytes]) -> int:
    """Bytes of memory that a claim takes in the ledger, without what the world keeps to make it."""
    said = [
        (who, world.claim_of(each, who, world.sealed(each, who, model)))
        for each in ids
        for who, model in zip(PROVIDERS, MODELS, strict=True)
    ]
    prepared = [world.opened_transactions(said[start : start + 200]) for start in range(0, len(said), 200)]
    gc.collect()
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    for transactions in prepared:
        world.ledger.execute(world.ledger.state.sequence + 1, world.now_ms, transactions)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    return round(grown / len(said))


def options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--live", type=int, default=10_000)
    parser.add_argument("--seated", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    main(__doc__, lambda chosen: measure(chosen.live, chosen.seated, chosen.rounds), options=options)
