"""How long a researcher waits for a Put: from saying it to f+1 equal replies, on an idle testnet with logs on fsync."""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from typing import Any

from report import main

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.link import Link
from pot_lab.protocol.records import OrderRecord, ScoreSpec, TestData, Windows
from pot_lab.protocol.transactions import Put


def order_of(client: Identity, network: Any, nonce: int) -> OrderRecord:
    """A complete order with links to nothing; it waits in the pool, since nothing is in escrow for it."""
    parameters, members = network.parameters, network.genesis.members
    link = Link(sha256(b"blob"), 1_000, "https://example.org/blob")
    test = TestData(
        link=link,
        root=sha256(b"root"),
        plain_digest=sha256(b"plain"),
        plain_bytes=1_000,
        examples=100,
        key_commitment=sha256(b"key"),
        share_commitments=tuple(sha256(b"%d" % i) for i in range(len(members))),
        sealed_shares=tuple(hashlib.shake_256(b"%d" % i).digest(83) for i in range(len(members))),
    )
    windows = Windows(**dict(zip(Windows.__struct_fields__, (60_000, *parameters.usual_windows_ms), strict=True)))
    return OrderRecord(
        network_id=network.genesis.network_id,
        client=client.address,
        nonce=nonce,
        seal_by_s=int(time.time()) + 100_000,
        reward_grains=parameters.min_reward_grains,
        fee_grains=parameters.min_fee_grains,
        bond_grains=parameters.min_bond_grains,
        model=link,
        weights=link,
        train=link,
        test=test,
        score=ScoreSpec("accuracy", 1),
        windows=windows,
        claim_bond_grains=parameters.min_claim_bond_grains,
        baseline_total=0,
        baseline_count=0,
        margin_micro=0,
        title="benchmark",
    )


def measure(puts: int, aggregators: int, durability: str) -> dict[str, Any]:
    """Median, p90 and worst of `puts` Puts said one after the other; warm-up left out."""
    from pot_lab.network.client.ledger import LedgerClient
    from pot_lab.testnet.testnet import Testnet

    with tempfile.TemporaryDirectory() as folder:
        os.environ["POT_LAB_HOME"] = folder
        testnet = Testnet.up("bench", aggregators=aggregators, durability=durability, clients=2 + puts // 50)
        try:
            times_ms = []
            clients = [name for name in testnet.accounts() if name.startswith("client")]
            for name in clients:
                with LedgerClient.open(testnet.network_file, testnet.identity(name)) as client:
                    assert client.identity is not None
                    network = client.network()
                    for nonce in range(1, 2 + min(50, network.parameters.max_live_orders_per_account - 1)):
                        if len(times_ms) > puts:
                            break
                        body = Put(order_of(client.identity, network, nonce))
                        start = time.perf_counter()
                        client.submit(body)
                        if nonce > 1:
                            times_ms.append((time.perf_counter() - start) * 1000)
                        time.sleep(0.02)  # idle: each alone
        finally:
            testnet.down()
    times_ms.sort()
    return {
        "puts": len(times_ms),
        "median_ms": round(statistics.median(times_ms), 2),
        "p90_ms": round(times_ms[int(len(times_ms) * 0.9)], 2),
        "worst_ms": round(times_ms[-1], 2),
    }


def options(parser: argparse.ArgumentParser) -> None:
    """How much to measure, and of what."""
    parser.add_argument("--puts", type=int, default=100)
    parser.add_argument("--aggregators", type=int, default=4)
    parser.add_argument("--durability", default="fsync", choices=["fsync", "flush"])


if __name__ == "__main__":
    main(__doc__, lambda chosen: measure(chosen.puts, chosen.aggregators, chosen.durability), options=options)
