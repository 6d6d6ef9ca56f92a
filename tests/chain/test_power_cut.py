"""The embedded chain loses its power in the middle of payments: what was answered for stays, and nothing is paid twice.

A process that is killed leaves what it wrote; a power cut also takes what was not synced. So after each kill the
journal loses a random part of what nobody was told of.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import pytest

from pot_lab.chain.deploy import ContractSetup, deploy
from pot_lab.chain.errors import ChainError
from pot_lab.chain.rpc import JsonRpc, hex_data
from pot_lab.chain.wallet import ChainWallet
from pot_lab.crypto.canonical import keccak256
from pot_lab.network.loopback import free_ports
from tests.chain.world import POT, identity, start_chain, stop

PAYER, PAYEE = identity("pays through power cuts"), identity("is paid through power cuts").address
CUTS = 5


class Payments:
    """One grain after the other until the chain does not answer."""

    def __init__(self, wallet: ChainWallet) -> None:
        self.acknowledged: list[bytes] = []
        self.ended_by: ChainError | None = None
        self._wallet = wallet
        self._thread = threading.Thread(target=self._pay)
        self._thread.start()

    def _pay(self) -> None:
        try:
            while True:
                self.acknowledged.append(self._wallet.transfer(PAYEE, 1).transaction)
        except ChainError as error:
            self.ended_by = error

    def end(self) -> list[bytes]:
        self._thread.join()
        return self.acknowledged


def cut_tail(journal: Path, acknowledged: set[bytes], chance: random.Random) -> int:
    """Take a random part of what was written after the last transaction that was acknowledged; how many bytes."""
    content, end, told_of = journal.read_bytes(), 0, 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        raw = json.loads(line).get("raw") if line.endswith(b"\n") else None
        if raw is None or keccak256(bytes.fromhex(raw)) in acknowledged:
            told_of = end if line.endswith(b"\n") else told_of
    kept = chance.randint(told_of, len(content))
    journal.write_bytes(content[:kept])
    return len(content) - kept


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_acknowledged_outlives_power_cuts(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    journal, port = tmp_path / "journal", str(free_ports(1)[0])
    process, url = start_chain(tmp_path, "--port", port, "--journal", str(journal))
    signer = identity("aggregator 0").address
    contracts = deploy(
        url,
        identity("founder"),
        ContractSetup(aggregators=[signer], stakes=[(signer, 3, POT)], balances={PAYER.address: POT}),
        timeout_s=240,
    )
    deployed = {keccak256(bytes.fromhex(json.loads(line)["raw"])) for line in journal.read_bytes().splitlines()[1:]}
    acknowledged: set[bytes] = set(deployed)
    for _ in range(CUTS):
        wallet = ChainWallet(url, contracts, PAYER, timeout_s=240)
        wallet._account._receipt_timeout_s = 2.0
        payments = Payments(wallet)
        while not payments.acknowledged:
            assert payments.ended_by is None, payments.ended_by
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        acknowledged |= set(payments.end())
        cut_tail(journal, acknowledged, chance)
        stop(process)
        process, url = start_chain(tmp_path, "--port", port, "--journal", str(journal))
        rpc = JsonRpc(url, timeout_s=240)
        for name in acknowledged:
            receipt = rpc.call("eth_getTransactionReceipt", hex_data(name))
            assert receipt is not None and int(receipt["status"], 16) == 1
    ChainWallet(url, contracts, PAYER, timeout_s=240).transfer(PAYEE, 1)  # and it goes on
    kept = [json.loads(line)["raw"] for line in journal.read_bytes().splitlines()[1:]]
    assert len(set(kept)) == len(kept)
    paid = ChainWallet(url, contracts, timeout_s=240).balance_grains(PAYEE)
    assert paid == len(kept) - len(deployed)  # each payment on the chain once
    assert paid > len(acknowledged) - len(deployed)
    stop(process)
