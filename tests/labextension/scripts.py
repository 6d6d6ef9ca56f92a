"""What the scripted ledger of the browser tests can say."""

from __future__ import annotations

import time
from typing import Any

OWN = "0x" + "11" * 20
OTHER = "0x" + "33" * 20


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def aggregator(index: int, reachable: bool = True) -> dict[str, Any]:
    return {"index": index, "reachable": reachable, "view": 0, "primary": 0, "height": 41, "lag": 0, "time_ms": 0}


def order(**changed: Any) -> dict[str, Any]:
    plain = {
        "id": "ab" * 32,
        "title": "Digits CNN",
        "client": OWN,
        "phase": "TRAINING",
        "window": "commit",
        "closes_ms": now_ms() + 3_600_000,
        "reward_grains": "25500000000",
        "t0_ms": now_ms() - 600_000,
        "claims": 2,
        "score_name": "accuracy",
        "leader": "",
        "leader_score": None,
        "void_reason": "",
        "ended_ms": 0,
    }
    return plain | changed


def card(**changed: Any) -> dict[str, Any]:
    """All that is known of an order, as `order_card` makes it."""
    more = {
        "network_id": "77" * 32,
        "put_ms": now_ms() - 660_000,
        "train_ms": 4_200_000,
        "longest_ms": 4_500_000,
        "cost_grains": "28500000000",
        "back_grains": "0",
        "revealed": 0,
        "newest_claim_ms": now_ms() - 12_000,
        "scores": 0,
        "opened": 0,
        "to_beat": "37 of 360",
        "best": "",
        "advice": "",
        "timeline": [{"name": "commit", "opened_ms": now_ms() - 600_000, "closed_ms": 0}],
        "leaders": [{"provider": OTHER, "committed_ms": now_ms() - 12_000, "score": ""}],
        "race": [[now_ms() - 60_000 + 1_000 * claim, claim, None] for claim in range(1, 40)],
        "read_ms": now_ms(),
    }
    return order() | more | changed


def void_card(**changed: Any) -> dict[str, Any]:
    ended = {
        "phase": "ENDED",
        "window": "void",
        "closes_ms": 0,
        "void_reason": "no improvement",
        "best": "36 of 360",
        "back_grains": "27300000000",
        "advice": "order again with a longer train_for or a lower baseline",
        "leaders": [{"provider": OTHER, "committed_ms": now_ms() - 12_000, "score": "36 of 360"}],
        "race": [[now_ms() - 60_000 + 1_000 * claim, claim, claim / 400] for claim in range(1, 40)],
    }
    return card(**(ended | changed))


def script(*orders: dict[str, Any], up: int = 4, cards: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    nodes = [aggregator(index, index < up) for index in range(4)]
    network = {"name": "my-testnet", "aggregators": nodes, "height": 41, "time_ms": 0, "needed": 3, "account": OWN}
    return {"network": network, "orders": list(orders), "cards": list(cards)}
