"""How a network is, in words, with what to do: its aggregators, its settlements, its chain and its store.

What aggregators say of themselves is taken as it is; what they say of each other's work has to come from f+1 of them.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from pot_lab.agreement.quorum import faulty, quorum
from pot_lab.errors import PotLabError
from pot_lab.network.chain_access import chain_of, contracts_of
from pot_lab.network.client.calls import AggregatorStatus
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.founding.checks import CheckResult
from pot_lab.protocol.views import EpochView

MUCH_LAG = 100
"""So many batches behind the others an aggregator is still catching up."""
_PROBE_S = 5.0
_STORE_PORTS = {"http": 80, "https": 443}


def network_health(config: NetworkConfig, client: LedgerClient, timeout_s: float = 5.0) -> list[CheckResult]:
    """Look at everything from outside, as any client can."""
    statuses = client.status(timeout_s)
    found = aggregators_health(statuses)
    if sum(each.reachable for each in statuses) > faulty(len(statuses)):
        try:
            found += settlement_health(client.epoch())
        except PotLabError as error:
            found.append(CheckResult("wrong", f"the ledger: {error}", "look at the aggregators' logs"))
    if config.chain is not None:
        found += chain_health(config)
    return [*found, *store_health(config.store_url)]


def aggregators_health(statuses: Sequence[AggregatorStatus]) -> list[CheckResult]:
    """Who answers, who is behind, and whether enough are there to decide."""
    n, found = len(statuses), []
    reachable = [each for each in statuses if each.reachable]
    states = Counter((each.height, each.state) for each in reachable)
    for each in statuses:
        name = f"aggregator {each.index}"
        if not each.reachable:
            found.append(CheckResult("wrong", f"{name}: {each.reason}", "start it; look at the last line of its log"))
            continue
        same_height = [(state, count) for (height, state), count in states.items() if height == each.height]
        others = max((count for state, count in same_height if state != each.state), default=0)
        if others > states[each.height, each.state]:
            remedy = "keep its data directory for whoever looks into it; see operations.md, StateDiverged"
            found.append(CheckResult("wrong", f"{name} has another state than the others", remedy))
        elif each.lag > MUCH_LAG:
            text = f"{name} is {each.lag} batches behind"
            found.append(CheckResult("warning", text, "wait; if it does not catch up, look at its disk and its log"))
        else:
            role = "primary" if each.primary == each.index else "backup"
            found.append(CheckResult("ok", f"{name}: {role}, view {each.view}, height {each.height}"))
    if len(reachable) < quorum(n):
        text = f"nothing is decided: {len(reachable)} of {n} aggregators answer, {quorum(n)} must"
        found.append(CheckResult("wrong", text, "start the others; nothing that was acknowledged is lost"))
    elif len(reachable) < n:
        left = len(reachable) - quorum(n)
        text = f"the network decides; {left} more may stop" if left else "the network decides; no other may stop"
        found.append(CheckResult("warning", text, "start those that are away"))
    if len({each.view for each in reachable}) > 1:
        found.append(CheckResult("warning", "the aggregators are changing the primary", "ask again in a few seconds"))
    return found


def settlement_health(epoch: EpochView) -> list[CheckResult]:
    """Whether payouts reach the chain."""
    settlement = epoch.settlement
    if settlement is None:
        return [CheckResult("ok", f"epoch {epoch.confirmed_epoch} is settled, and none waits")]
    signed = len(epoch.signatures)
    text = f"epoch {settlement.epoch}, round {settlement.round}: {signed} of {epoch.quorum} signatures"
    if settlement.round <= 2:
        return [CheckResult("ok", f"{text}; {len(epoch.order_ids)} orders are being settled")]
    remedy = "look for event=epoch_refused or epoch_not_sent in the aggregators' logs; check their coin for gas"
    if signed < epoch.quorum:
        remedy = "start the aggregators whose keys the contract counts: `pot-lab seat` shows them"
    return [CheckResult("warning", f"{text}; it has been tried {settlement.round} times", remedy)]


def chain_health(config: NetworkConfig) -> list[CheckResult]:
    """Whether the chain's node answers, is up to date, and the contracts are not paused."""
    from pot_lab.chain.inspection import ContractInspector

    try:
        with ContractInspector(chain_of(config).rpc_url, contracts_of(config)) as inspector:
            state = inspector.state()
    except PotLabError as error:
        remedy = "check rpc_url in network.toml; payouts and stakes wait, orders under way go on"
        return [CheckResult("warning", f"the chain: {error}", remedy)]
    found = [CheckResult("ok", f"the chain is at block {state.block}, {time.time() - state.block_time_s:.0f} s old")]
    if state.is_paused:
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state.paused_until_s))
        text = f"settlements and claims are paused until {until}"
        found.append(CheckResult("warning", text, "ask the guardian; refunds and withdrawals go on"))
    return found


def store_health(url: str) -> list[CheckResult]:
    """Whether something listens where blobs are put by default."""
    if not url:
        return []
    parts = urlsplit(url)
    port = parts.port or _STORE_PORTS.get(parts.scheme, 0)
    if not parts.hostname or not port:
        return [CheckResult("ok", f"the store is {parts.scheme}, which is not asked")]
    try:
        socket.create_connection((parts.hostname, port), _PROBE_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"the store at {parts.hostname}:{port} does not answer: {reason}"
        return [CheckResult("warning", text, "start it; new orders and models wait for it")]
    return [CheckResult("ok", f"the store at {parts.hostname}:{port} answers")]
