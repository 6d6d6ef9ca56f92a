"""Where the sidebar's data comes from: the network that runs on this host, through its ledger's typed client.

One `FeedSource` is one connection to one network. It gives plain JSON values, since a browser reads them; money goes
as decimal strings because JavaScript's numbers end at 2^53.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pot_lab import home
from pot_lab.agreement.quorum import quorum
from pot_lab.cards.order_card import order_card
from pot_lab.crypto.identity import format_address, parse_address
from pot_lab.crypto.keystore import KEYSTORE_LIMIT_BYTES
from pot_lab.crypto.nested_json import load_json
from pot_lab.discovery import find_answering_network
from pot_lab.errors import PotLabError
from pot_lab.jobs.miners import find_miners
from pot_lab.network.aggregator.keys_folder import ACCOUNT_FILE
from pot_lab.protocol.parameters import Role
from pot_lab.server.deltas import now_ms

if TYPE_CHECKING:
    from pot_lab.network.client.calls import AggregatorStatus
    from pot_lab.network.config import NetworkConfig
    from pot_lab.protocol.views import AccountView, NetworkView, OrderSummary

STATUS_TIMEOUT_S = 3.0
QUERY_TIMEOUT_S = 10.0
ORDERS_LIMIT = 500


class FeedSource(Protocol):
    """A connection to one network."""

    name: str

    def network(self) -> dict[str, Any]:
        """Name, chain of batches and the state of every aggregator."""
        ...

    def orders(self) -> list[dict[str, Any]]:
        """Orders, newest first."""
        ...

    def order(self, order_id: str) -> dict[str, Any]:
        """The card of one order, by its id (64 hex digits). Raises `UnknownOrder`."""
        ...

    def standing(self, addresses: Sequence[str]) -> list[dict[str, Any]]:
        """How accounts stand as miners: stakes, wins, what was lost."""
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
        self._account = own_address(config.name)

    def network(self) -> dict[str, Any]:
        """Name, height, time (Unix milliseconds), every aggregator's state, and of how many a decision needs votes."""
        aggregators = [_aggregator(one) for one in self._client.status(STATUS_TIMEOUT_S)]
        reached = [one for one in aggregators if one["reachable"]]
        return {
            "name": self.name,
            "aggregators": aggregators,
            "needed": quorum(len(aggregators)),
            "account": self._account,
            "height": max((one["height"] for one in reached), default=0),
            "time_ms": max((one["time_ms"] for one in reached), default=0),
        }

    def orders(self) -> list[dict[str, Any]]:
        """The newest orders, at most `ORDERS_LIMIT`."""
        return [_order(one) for one in self._client.orders(ORDERS_LIMIT)]

    def order(self, order_id: str) -> dict[str, Any]:
        """The card of one order."""
        return order_card(self._client.order(bytes.fromhex(order_id)), now_ms())

    def standing(self, addresses: Sequence[str]) -> list[dict[str, Any]]:
        """How accounts stand as miners; `registered` counts all of the role, themselves included."""
        network = self._client.network()
        return [_standing(self._client.account(parse_address(one)), network) for one in addresses]

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


def own_address(network: str) -> str:
    """The address of the account that this host uses in a network, by its keystore, which is not opened.

    It is `$POT_LAB_ACCOUNT` (a keystore, its folder, or a testnet's account), by default the testnet's `client`; "" if
    there is none.
    """
    return keystore_address(network, os.environ.get("POT_LAB_ACCOUNT") or "client")


def keystore_address(network: str, name: str) -> str:
    """The address of a keystore, its folder, or a testnet's account; it is not opened. "" if there is none."""
    for path in (Path(name), Path(name) / ACCOUNT_FILE, home.networks() / network / "accounts" / name / ACCOUNT_FILE):
        try:
            if path.is_file() and path.stat().st_size <= KEYSTORE_LIMIT_BYTES:
                return format_address(
                    parse_address("0x" + str(load_json(path.read_text())["address"]).removeprefix("0x"))
                )
        except (OSError, PotLabError, ValueError, KeyError, TypeError):
            continue  # no keystore that names its account
    return ""


def miner_addresses(network: str, folder: Path) -> list[str]:
    """Accounts that mined on this host in a network, and whose keystores lie where it can be seen.

    Args:
        network: its name.
        folder: `$POT_LAB_HOME`.
    """
    begun = {path.name.split("-")[1] for path in (folder / "work").glob("*-*-*")}
    names = [path.parent.name for path in (home.networks() / network / "accounts").glob(f"*/{ACCOUNT_FILE}")]
    names += [one.account for one in find_miners(folder) if one.account]
    known = {address for name in names if (address := keystore_address(network, name))}
    return sorted(address for address in known if address[2:10].lower() in begun)


def _standing(account: AccountView, network: NetworkView) -> dict[str, Any]:
    registered = {
        Role.PROVIDER: network.providers,
        Role.VALIDATOR: network.validators,
        Role.VERIFIER: network.verifiers,
    }
    return {
        "address": format_address(account.address),
        "roles": [
            {
                "role": Role(stake.role).name.lower(),
                "active": stake.active,
                "bonded_grains": str(stake.bonded_grains),
                "locked_grains": str(stake.locked_grains),
                "slashed_grains": str(stake.slashed_grains),
                "registered": registered.get(Role(stake.role), 0),
                "stake_in_all_grains": str(network.validator_stake_grains) if stake.role == Role.VALIDATOR else "0",
            }
            for stake in account.stakes
            if stake.bonded_grains or stake.slashed_grains
        ],
        "wins": account.wins,
        "claims": account.claims,
        "agreeing": account.agreeing_validations,
        "wrong": account.wrong_validations,
        "forfeits": account.forfeits,
        "absences": account.absences,
        "earned_grains": str(account.earned_grains),
    }


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
        "t0_ms": one.t0_ms,
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
