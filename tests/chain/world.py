"""A deployed network on a real embedded chain, and the people on it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import rlp

from pot_lab.chain.account import ChainAccount, Receipt
from pot_lab.chain.contract import Contracts
from pot_lab.chain.deploy import ContractSetup, deploy
from pot_lab.chain.rpc import JsonRpc
from pot_lab.chain.wallet import ChainWallet, pack_signatures
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity
from pot_lab.network.loopback import free_ports
from pot_lab.protocol.settlement import PayoutTree, Settlement, orders_hash, settlement_digest
from tests.chain.answering import answering

POT = 10**9
DAY_S = 86_400
SOURCES = Path(str(resources.files("pot_lab.chain").joinpath("contracts")))


def identity(name: str) -> Identity:
    """The same account every time."""
    return Identity(keccak256(name.encode()))


def created_address(sender: bytes, nonce: int) -> bytes:
    """Address of the contract that `sender`'s transaction number `nonce` creates."""
    return keccak256(rlp.encode([sender, nonce]))[12:]


def start_chain(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start the embedded chain as a process; returns it and its address once it answers."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    if "--port" not in arguments:  # of no port of outgoing connections: one may have it when the chain starts again
        arguments = (*arguments, "--port", str(free_ports(1)[0]))
    command = [sys.executable, "-m", "pot_lab.chain.embedded", "--port-file", str(port_file), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not port_file.exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.01)
    return process, f"http://127.0.0.1:{port_file.read_text().strip()}"


def stop(process: subprocess.Popen[str]) -> int:
    """Ask a process to stop and return its exit status."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    status = process.wait(timeout=240)
    if process.stderr:
        process.stderr.close()
    return status


@contextlib.contextmanager
def running_chain(folder: Path, *arguments: str) -> Iterator[str]:
    """An embedded chain process for the length of a block; yields its address."""
    process, url = start_chain(folder, *arguments)
    try:
        yield url
    finally:
        stop(process)


def foundry_tool(name: str) -> str | None:
    """Where a tool of Foundry is: of npm in contracts/compiler, or of this host; None where it is not."""
    local = SOURCES / "compiler" / "node_modules" / ".bin" / name
    return str(local) if local.exists() and shutil.which("node") else shutil.which(name)


@contextlib.contextmanager
def running_anvil(*arguments: str) -> Iterator[str]:
    """Anvil, or a skipped test where it is not installed; yields its address."""
    command = foundry_tool("anvil")
    if command is None:
        pytest.skip("anvil is not installed: npm ci in contracts/compiler, or Foundry, makes this test run")
    process = subprocess.Popen([command, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = next(line.split()[-1] for line in process.stdout if line.startswith("Listening on"))
        # What it goes on writing has to be read, or it stands still once the pipe is full.
        threading.Thread(target=lambda out: [None for _ in out], args=(process.stdout,), daemon=True).start()
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=120)


Hook = Callable[[dict[str, Any]], "tuple[int, dict[str, Any]] | None"]
"""What a node says to a request instead of its answer: HTTP status and error object; None lets the request through."""


@contextlib.contextmanager
def strict_node(url: str, hook: Hook) -> Iterator[str]:
    """A node in front of the one at `url`, which refuses what `hook` says; yields its address."""
    behind = urlsplit(url).netloc

    def reply(body: bytes) -> tuple[int, bytes]:
        request = json.loads(body)
        refused = hook(request)
        if refused is not None:
            status, error = refused
            return status, json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()
        connection = http.client.HTTPConnection(behind, timeout=240)
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        connection.close()
        return 200, answer

    with answering(reply) as address:
        yield address


class World:
    """Five aggregators of whom four must sign, a client, and somebody without any part in it (the relayer)."""

    def __init__(self, url: str, *, claim_delay_s: int = 0, aggregators: int = 5) -> None:
        self.url = url
        self.rpc = JsonRpc(url, timeout_s=240)
        self.founder, self.client, self.relayer = identity("founder"), identity("client"), identity("relayer")
        self.guardian, self.treasury = identity("guardian"), identity("treasury")
        signers = [identity(f"aggregator {i}") for i in range(aggregators)]
        self.aggregators = sorted(signers, key=lambda signer: signer.address)
        self.contracts: Contracts = deploy(
            url,
            self.founder,
            ContractSetup(
                aggregators=[signer.address for signer in signers],
                stakes=[(signer.address, 3, 1_000 * POT) for signer in signers],
                balances={self.client.address: 10**5 * POT} | {s.address: 10**4 * POT for s in signers},
                min_stakes=(100 * POT, 200 * POT, 50 * POT, 1_000 * POT),
                min_cycle_s=60,
                claim_delay_s=claim_delay_s,
                guardian=self.guardian.address,
                treasury=self.treasury.address,
            ),
        )
        self.threshold = 4 if aggregators == 5 else -(-(aggregators + (aggregators - 1) // 3 + 1) // 2)
        self.nonce = 0

    def wallet(self, who: Identity | None = None) -> ChainWallet:
        return ChainWallet(self.url, self.contracts, who)

    def send(self, who: Identity, contract: str, function: str, *arguments: object) -> Receipt:
        """Send a transaction that no wallet would make."""
        at = {
            "PoTToken": self.contracts.token,
            "StakeRegistry": self.contracts.registry,
            "OrderEscrow": self.contracts.escrow,
            "RewardSettlement": self.contracts.settlement,
        }[contract]
        return ChainAccount(self.rpc, self.contracts.chain_id, who).send(contract, at, function, *arguments)

    def read(self, contract: str, function: str, *arguments: object) -> tuple[object, ...]:
        at = {"StakeRegistry": self.contracts.registry, "OrderEscrow": self.contracts.escrow}.get(
            contract, self.contracts.settlement
        )
        return ChainAccount(self.rpc, self.contracts.chain_id, None).read(contract, at, function, *arguments)

    def now_s(self) -> int:
        self.rpc.call("evm_mine")
        return int(self.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def warp(self, seconds: int) -> None:
        self.rpc.call("evm_increaseTime", seconds)
        self.rpc.call("evm_mine")

    def order(self, reward: int = 100 * POT, fee: int = 0, bond: int = 0, life_s: int = 10**6) -> Order:
        self.nonce += 1
        seal_by_s, spec = self.now_s() + life_s, keccak256(b"spec %d" % self.nonce)
        wallet = self.wallet(self.client)
        oid, _ = wallet.place_order(reward, fee, bond, seal_by_s, spec, self.nonce)
        return Order(oid, seal_by_s, spec, self.nonce)

    def outlive(self, order: Order) -> None:
        """Let the order's last date and the grace go by, and settle an epoch without it: it can be refunded then."""
        self.warp(max(1, order.seal_by_s + DAY_S - self.now_s()))
        self.settle(PayoutTree([]), 0)

    def settlement(
        self,
        tree: PayoutTree,
        total: int,
        orders: Sequence[bytes] = (),
        *,
        epoch: int | None = None,
        set_id: int | None = None,
        round_: int = 0,
    ) -> Settlement:
        wallet = self.wallet()
        epoch = wallet.epoch() + 1 if epoch is None else epoch
        set_id = wallet.signers()[0] if set_id is None else set_id
        return Settlement(
            epoch=epoch,
            round=round_,
            signer_set_id=set_id,
            root=tree.root,
            cumulative_total=total,
            orders_hash=orders_hash(orders),
            ledger_hash=bytes(32),
        )

    def signatures(
        self, settlement: Settlement, who: Sequence[int] | None = None, *, chain_id: int = 0, contract: bytes = b""
    ) -> dict[bytes, bytes]:
        digest = settlement_digest(
            chain_id or self.contracts.chain_id, contract or self.contracts.settlement, settlement
        )
        signers = self.aggregators if who is None else [self.aggregators[i] for i in who]
        return {signer.address: signer.sign(digest) for signer in signers}

    def packed(self, settlement: Settlement, who: Sequence[int], **domain: object) -> tuple[int, bytes]:
        """Bitmap and signatures exactly as asked for, however wrong."""
        digest = settlement_digest(
            int(domain.get("chain_id", self.contracts.chain_id)),  # type: ignore[call-overload]
            bytes(domain.get("contract", self.contracts.settlement)),  # type: ignore[call-overload]
            settlement,
        )
        members = [self.aggregators[i] for i in who]
        keys = [member.address for member in members]
        _, packed = pack_signatures(digest, keys, len(keys), {m.address: m.sign(digest) for m in members})
        return sum(1 << i for i in who), packed

    def settle_raw(self, settlement: Settlement, orders: Sequence[bytes], bitmap: int, packed: bytes) -> Receipt:
        return self.send(self.relayer, "RewardSettlement", "settle", fields(settlement), list(orders), bitmap, packed)

    def settle(self, tree: PayoutTree, total: int, orders: Sequence[bytes] = ()) -> Settlement:
        self.warp(61)
        settlement = self.settlement(tree, total, orders)
        self.wallet(self.relayer).settle(settlement, orders, self.signatures(settlement))
        return settlement


class Order:
    """What `refund` needs to know about an order."""

    def __init__(self, oid: bytes, seal_by_s: int, spec: bytes, nonce: int) -> None:
        self.oid, self.seal_by_s, self.spec, self.nonce = oid, seal_by_s, spec, nonce


def fields(settlement: Settlement) -> tuple[object, ...]:
    return tuple(getattr(settlement, name) for name in settlement.__struct_fields__)
