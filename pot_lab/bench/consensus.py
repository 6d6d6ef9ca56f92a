"""Table 4: how long real aggregators take to agree on a bundle of orders and validations.

One client submits O orders and V validations, each signed by an account of its own, and has f+1 equal replies to every
one of them when the clock stops. The clock starts when the client begins to send. With `admitted` it starts at the
pre-prepare: all records wait in every aggregator's queue by then, their signatures checked, and the primary is allowed
to propose them. That is what the paper's program measures, which checks no client's signature at all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from pot_lab.bench.calibration import calibrate
from pot_lab.bench.network import MeasuringNetwork, NetworkFailed, whole_number
from pot_lab.bench.records import ORDER_BYTES, VALIDATION_BYTES, signed_record
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.client.client import NetworkClient

MAX_RECORDS, MAX_RUNS = 500, 10_000
_WARM_UP = 2
_HANG_S = 60.0
Report = Callable[[str], None]


def measure_consensus(
    n: int,
    orders: int,
    validations: int,
    runs: int,
    *,
    admitted: bool = False,
    durability: str = "fsync",
    report: Report = lambda _: None,
) -> dict[str, Any]:
    """Measure one cell of Table 4, or a bundle of another size.

    Args:
        n: aggregators.
        orders, validations: the bundle.
        runs: how often; two more before are not counted.
        admitted: do not count the way to the aggregators and the checks of the accounts' signatures.
        durability: "fsync" or "flush".
        report: gets a line for each step that takes long.
    Returns: what `pot-lab bench consensus --json` prints; times in seconds, `cpu_s` is the processor time of all
        aggregators for a run and what is around it. A run that takes longer than a minute is counted under `hangs` and
        ends the measurement.
    Raises:
        BadSetting: an argument is out of range.
        NetworkFailed: an aggregator ended.
    """
    _check(orders, validations, runs)
    network = MeasuringNetwork(n, durability)
    report(f"starting {n} aggregators")
    with network:
        report(f"all aggregators are connected after {network.start_s:.1f} s")
        return measure_bundle(network, orders, validations, runs, admitted=admitted, report=report)


def measure_bundle(
    network: MeasuringNetwork,
    orders: int,
    validations: int,
    runs: int,
    *,
    admitted: bool = False,
    report: Report = lambda _: None,
) -> dict[str, Any]:
    """As `measure_consensus`, on a network that runs already.

    Raises:
        BadSetting: an argument is out of range.
        NetworkFailed: an aggregator ended, or no run was finished.
    """
    _check(orders, validations, runs)
    config = network.config
    sizes = [ORDER_BYTES] * orders + [VALIDATION_BYTES] * validations
    accounts = [Identity.generate() for _ in sizes]
    calibration = calibrate()
    times_s: list[float] = []
    hangs, cpu_s = 0, 0.0
    with NetworkClient(config, in_flight=len(sizes)) as client:
        network.settle(client, _HANG_S)
        for run in range(-_WARM_UP, runs):
            bundle = [
                signed_record(config.network_id, account, run + _WARM_UP, size_bytes)
                for account, size_bytes in zip(accounts, sizes, strict=True)
            ]
            if run == 0:
                cpu_s = network.cpu_s()
            try:
                taken_s = _time_admitted(client, bundle) if admitted else _time(client, bundle)
            except PotLabError as error:
                report(f"run {run} hangs: {error}")
                hangs += 1
                break
            network.settle(client, _HANG_S)
            if run >= 0:
                times_s.append(taken_s)
        cpu_s = network.cpu_s() - cpu_s
        views = {status.view for status in client.status().result()}
    if not times_s:
        raise NetworkFailed("no run was finished", wanted=f"within {_HANG_S:g} s")
    return {
        "nodes": config.n,
        "orders": orders,
        "validations": validations,
        "transactions": len(sizes),
        "bytes": sum(sizes),
        "durability": config.durability,
        "admitted": admitted,
        "runs": len(times_s),
        "hangs": hangs,
        "median_s": round(statistics.median(times_s), 5),
        "p90_s": round(sorted(times_s)[int(0.9 * (len(times_s) - 1))], 5),
        "min_s": round(min(times_s), 5),
        "cpu_s": round(cpu_s / len(times_s), 4),
        "view": max(views),
        "memory_mb": round(network.peak_memory_mb(), 1),
        "start_s": round(network.start_s, 1),
        "calibration": calibration,
    }


def _check(orders: int, validations: int, runs: int) -> None:
    whole_number("orders", orders, 0, MAX_RECORDS)
    whole_number("validations", validations, 0, MAX_RECORDS)
    whole_number("orders and validations together", orders + validations, 1, MAX_RECORDS)
    whole_number("runs", runs, 1, MAX_RUNS)


def _time(client: NetworkClient, bundle: list[bytes]) -> float:
    start_s = time.perf_counter()
    calls = client.submit_all(bundle, timeout_s=_HANG_S)
    for call in calls:
        call.result(_HANG_S)
    return time.perf_counter() - start_s


def _time_admitted(client: NetworkClient, bundle: list[bytes]) -> float:
    indices = range(client.config.n)
    for call in [client.ask(index, "hold") for index in indices]:
        call.result()
    calls = client.submit_all(bundle, timeout_s=_HANG_S)
    until_s = time.monotonic() + _HANG_S
    while any(int(call.result()) < len(bundle) for call in [client.ask(index, "admitted") for index in indices]):
        if time.monotonic() > until_s:
            raise NetworkFailed("the aggregators did not admit the bundle", wanted=f"within {_HANG_S:g} s")
        time.sleep(0.05)
    primary = client.status().result()[0].primary
    for index in indices:
        if index != primary:
            client.ask(index, "open").result()
    start_s = time.perf_counter()
    client.ask(primary, "open")
    for call in calls:
        call.result(_HANG_S)
    return time.perf_counter() - start_s
