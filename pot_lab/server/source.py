"""Where the sidebar's data comes from: the network that runs on this host, through its ledger's typed client.

One `FeedSource` is one connection to one network. It gives plain JSON values, since a browser reads them; money goes
as decimal strings because JavaScript's numbers end at 2^53.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pot_lab.discovery import find_answering_network

if TYPE_CHECKING:
    from pot_lab.network.client.calls import AggregatorStatus
    from pot_lab.network.config import NetworkConfig
    from pot_lab.protocol.views import OrderSummary

STATUS_TIMEOUT_S = 3.0
QUERY_TIMEOUT_S = 10.0
ORDERS_LIMIT = 50


class FeedSource(Protocol):
    """A connection to one network."""

    name: str

    def network(self) -> dict[str, Any]:
        """Name, chain of batches and the state of every aggregator."""
        ...

    def orders(self) -> list[dict[str, Any]]:
        """Orders, newest first."""
        ...

    def on_change(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from any thread, whenever the ledger changed."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class LedgerSource:
    """A network's ledger over ZeroMQ; an answer counts when f+1 aggregators give the same."""

    def __init__(self, config: NetworkConfig) -> None:
        from pot_lab.network.client.ledger import LedgerClient

        self._client = LedgerClient(config)
        self.name = config.name

    def network(self) -> dict[str, Any]:
        """Name, height, time (Unix milliseconds) and the state of every aggregator."""
        aggregators = [_aggregator(one) for one in self._client.status(STATUS_TIMEOUT_S)]
        reached = [one for one in aggregators if one["reachable"]]
        return {
            "name": self.name,
            "aggregators": aggregators,
            "height": max((one["height"] for one in reached), default=0),
            "time_ms": max((one["time_ms"] for one in reached), default=0),
        }

    def orders(self) -> list[dict[str, Any]]:
        """The newest orders, at most `ORDERS_LIMIT`."""
        return [_order(one) for one in self._client.orders(ORDERS_LIMIT)]

    def on_change(self, wake: Callable[[], None]) -> None:
        """Call `wake` on the network thread after every batch."""
        self._client.follow(lambda sequence, time_ms, events: wake(), self._newest() + 1)

    def _newest(self) -> int:
        return max((one.height for one in self._client.status(STATUS_TIMEOUT_S) if one.reachable), default=0)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def find_source() -> FeedSource | None:
    """Connect to the network that `$POT_LAB_NETWORK` names, else to the newest of this host that answers.

    Returns None when no network answers.
    """
    config = find_answering_network()
    return None if config is None else LedgerSource(config)


def _aggregator(one: AggregatorStatus) -> dict[str, Any]:
    return {
        "index": one.index,
        "reachable": one.reachable,
        "view": one.view,
        "primary": one.primary,
        "height": one.height,
        "lag": one.lag,
        "time_ms": one.time_ms,
    }


def _order(one: OrderSummary) -> dict[str, Any]:
    score = one.leader_score
    return {
        "id": one.id.hex(),
        "title": one.title,
        "client": "0x" + one.client.hex(),
        "phase": one.phase.value,
        "window": one.window.value,
        "closes_ms": one.closes_ms,
        "reward_grains": str(one.reward_grains),
        "claims": one.claims,
        "score_name": one.score_name,
        "leader": "0x" + one.leader.hex() if one.leader else "",
        "leader_score": {"total": str(score.total), "count": score.count} if score is not None else None,
        "void_reason": one.void_reason,
        "ended_ms": one.ended_ms,
    }
