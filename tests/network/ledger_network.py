"""Real aggregators of the real ledger, whose chain is what a test says that it is.

`python -m tests.network.ledger_network aggregator ARGUMENTS` is one aggregator (`pot-lab aggregator`) that lies: it
signs, beside its votes, others that contradict them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from pot_lab.agreement.votes import COMMIT, PREPARE, vote_digest
from pot_lab.cli.main import main
from pot_lab.consensus.messages import Commit, Message, Prepare
from pot_lab.crypto.canonical import Record, sha256
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR, save_keystore
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.network.aggregator import process as aggregator_process
from pot_lab.network.aggregator.outputs import AggregatorOutputs
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import AggregatorEntry, ChainConfig, NetworkConfig
from pot_lab.network.genesis import unnamed_genesis
from pot_lab.network.keys import CurveKeyPair, save_curve_key
from pot_lab.network.loopback import free_ports
from pot_lab.protocol.contact import Contact, possession_digest
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role
from pot_lab.protocol.records import ChainEvent, OrderRecord
from pot_lab.protocol.transactions import Attest, Join, Reply, RotateKeys
from tests.network.toy import ROOT

PATIENCE_S = 240.0
STAKE = 200 * GRAINS_PER_POT
HOST = "127.0.0.1"


class PatientClient(LedgerClient):
    """A client that waits as long as a busy machine needs to start the aggregators that it asks."""

    def submit(self, body: Record, *, timeout_s: float = PATIENCE_S) -> Reply:
        return super().submit(body, timeout_s=timeout_s)


class Seat:
    """One aggregator's keys and ports."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.identity = Identity(sha256(b"ledger aggregator " + name.encode()))
        self.curve, self.sealing = CurveKeyPair.generate(), SealingKey.generate()
        self.peer_port, self.client_port, self.custody_port = free_ports(3)
        self.write(folder / name / "keys")

    def write(self, keys: Path) -> None:
        keys.mkdir(parents=True)
        (keys / "password").write_text("play")
        save_keystore(keys / "account.json", self.identity, "play", work_factor=TESTNET_WORK_FACTOR)
        save_curve_key(keys / "curve.key", self.curve)
        (keys / "sealing.key").write_text(self.sealing.secret.hex())

    def entry(self, index: int) -> AggregatorEntry:
        return AggregatorEntry(
            index=index,
            host=HOST,
            peer_port=self.peer_port,
            client_port=self.client_port,
            custody_port=self.custody_port,
            curve_public=self.curve.public,
            address=self.identity.address,
            sealing_public=self.sealing.public,
        )

    def asks(self, kind: type[Join] | type[RotateKeys], network_id: bytes, account: Identity) -> Record:
        """The transaction that gives `account` this seat's keys."""
        contact = Contact(
            host=HOST,
            peer_port=self.peer_port,
            client_port=self.client_port,
            custody_port=self.custody_port,
            curve_public=self.curve.public,
        )
        digest = possession_digest(network_id, account.address, contact, self.sealing.public)
        return kind(
            voting_key=self.identity.address,
            sealing_public=self.sealing.public,
            contact=contact,
            possession=self.identity.sign(digest),
        )


class LedgerNetwork:
    """n first aggregators and whoever comes later, each a process."""

    def __init__(self, folder: Path, n: int = 4) -> None:
        self.folder = folder
        self.seats = [Seat(folder, str(index)) for index in range(n)]
        chain = ChainConfig(
            rpc_url="http://127.0.0.1:1", chain_id=1337, token=b"\1" * 20, registry=b"\2" * 20, escrow=b"\3" * 20,
            settlement=b"\4" * 20,
        )  # fmt: skip
        entries = tuple(seat.entry(index) for index, seat in enumerate(self.seats))
        parameters = {"update_ms": 500}
        unnamed = NetworkConfig(
            network_id=bytes(32), name="ledger", aggregators=entries, chain=chain, parameters=parameters,
            store_url="http://127.0.0.1:1",
        )  # fmt: skip
        self.config = msgspec.structs.replace(unnamed, network_id=unnamed_genesis(unnamed).network_id)
        self.config.save(folder / "network.toml")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.clients: dict[bytes, LedgerClient] = {}
        self.chain_events = 0

    def start(self, seat: Seat, *, lies: bool = False) -> None:
        """Start an aggregator, one of the first or another; its stderr goes to a file."""
        first = [each.name for each in self.seats[: self.config.n]]
        place = ["--index", seat.name] if seat.name in first else [
            "--listen", HOST, str(seat.peer_port), str(seat.client_port), str(seat.custody_port)
        ]  # fmt: skip
        module = "tests.network.ledger_network" if lies else "pot_lab.cli"
        folder = self.folder / seat.name
        command = [sys.executable, "-m", module, "aggregator", "--network", self.folder / "network.toml", *place]
        command += ["--keys", folder / "keys", "--data", folder / "data", "--no-chain"]
        with open(folder / "stderr", "ab") as stderr:
            environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
            self.processes[seat.name] = subprocess.Popen(command, stderr=stderr, cwd=ROOT, env=environment)

    def kill(self, seat: Seat) -> None:
        """kill -9."""
        process = self.processes.pop(seat.name)
        process.kill()
        process.wait()

    def await_end(self, seat: Seat, timeout_s: float) -> int:
        """Exit code of an aggregator that ends by itself."""
        process = self.processes.pop(seat.name)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # all its threads say where they are
            process.wait()
            logs = {each.parent.name: each.read_text()[-4_000:] for each in sorted(self.folder.glob("*/stderr"))}
            told = "\n".join(f"{name}:\n{text}" for name, text in logs.items())
            raise AssertionError(f"aggregator {seat.name} did not end within {timeout_s:g} s\n{told}") from None

    def stderr(self, seat: Seat) -> str:
        return (self.folder / seat.name / "stderr").read_text()

    def client(self, identity: Identity) -> LedgerClient:
        """A connection that speaks for an account."""
        if identity.address not in self.clients:
            self.clients[identity.address] = PatientClient(self.config, identity)
        return self.clients[identity.address]

    def stake(self, *holders: tuple[Identity, Role]) -> None:
        """f+1 aggregators attest that these have staked."""
        events = tuple(
            ChainEvent(
                kind="staked",
                block=1,
                log_index=0,
                account=holder.address,
                role=int(role),
                amount_grains=STAKE,
                subject=b"",
                detail=(STAKE,),
            )
            for holder, role in holders
        )
        self.attest(*events)

    def escrow(self, order: OrderRecord) -> None:
        """f+1 aggregators attest that the order's money is on the chain."""
        event = ChainEvent(
            kind="order_placed",
            block=2,
            log_index=0,
            account=order.client,
            role=-1,
            amount_grains=order.reward_grains,
            subject=order.id,
            detail=(order.fee_grains, order.bond_grains, order.seal_by_s, order.nonce),
        )
        self.attest(event)

    def attest(self, *events: ChainEvent) -> None:
        """f+1 aggregators attest these events."""
        for seat in self.seats[:2]:
            self.client(seat.identity).submit(Attest(self.chain_events, events))
        self.chain_events += len(events)

    def __enter__(self) -> LedgerNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients.values():
            client.close()
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()


class DoubleSigningOutputs(AggregatorOutputs):
    """Signs two prepares and two commits for every place: as a primary it has no prepares to sign."""

    def broadcast(self, message: Message) -> None:
        super().broadcast(message)
        if isinstance(message, Prepare | Commit):
            phase = PREPARE if isinstance(message, Prepare) else COMMIT
            digest, replica = sha256(message.digest), self._replica
            signed = vote_digest(
                replica.membership.network_id,
                phase,
                message.view,
                message.sequence,
                digest,
                message.executed,
                message.state,
            )
            twin = msgspec.structs.replace(message, digest=digest, signature=replica._identity.sign(signed))
            super().broadcast(twin)


if __name__ == "__main__":
    aggregator_process.AggregatorOutputs = DoubleSigningOutputs  # type: ignore[misc]
    sys.exit(main())
