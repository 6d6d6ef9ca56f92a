"""A whole network on this host: start it, find it, stop it.

Real parts only: aggregator processes over ZeroMQ with CURVE, an EVM chain behind loopback JSON-RPC, a blob store. They
are detached processes with a folder under `$POT_LAB_HOME/networks/<name>/`; nothing but that folder says that they run,
so any kernel, terminal or Lab finds them, and closing one stops nothing (jupyter.md, "Processes"). Stopped with `down`,
the network goes on from its logs at the next `up`.

    network.toml     what everybody may know            testnet.json   accounts, processes
    chain/ blobs/    the chain's journal, the blobs      accounts/<name>/   keystores with their password
    aggregators/<i>/ keys and data                       logs/          one file for each process
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pot_lab import home as home_
from pot_lab.crypto.identity import Identity, format_address
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.errors import PotLabError
from pot_lab.files import FileLocked, locked, replace_durably
from pot_lab.network.aggregator.keys_folder import ACCOUNT_FILE, CURVE_FILE, SEALING_FILE, load_account
from pot_lab.network.config import ChainConfig, NetworkConfig
from pot_lab.network.genesis import parameters_of, unnamed_genesis
from pot_lab.network.keys import CurveKeyPair, save_curve_key
from pot_lab.network.loopback import LOOPBACK, entries_on_loopback
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role
from pot_lab.testnet.errors import NoTestnet, Say, TestnetError, TestnetFailed, TestnetRunning, UnknownAccount
from pot_lab.testnet.founding import TESTNET_PARAMETERS, _make_account, _write_secret
from pot_lab.testnet.processes import START_TIMEOUT_S, STOP_TIMEOUT_S, _alive, _created_s, _reap, _signal, uninterrupted


class Testnet:
    """A testnet of this host, by its folder."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- finding ------------------------------------------------------------------------------------------------
    @classmethod
    def at(cls, folder: Path) -> Testnet | None:
        """The testnet in this folder, running or not; None where there is none."""
        return cls(folder) if (folder / "testnet.json").is_file() else None

    @classmethod
    def all(cls) -> list[Testnet]:
        """Every testnet of this home, running or not."""
        return [cls(path.parent) for path in sorted(home_.networks().glob("*/testnet.json"))]

    @classmethod
    def running(cls, name: str | None = None) -> Testnet | None:
        """The testnet of this name that runs, or the one that was started last."""
        found = [net for net in cls.all() if (name is None or net.name == name) and net.is_up()]
        return max(found, key=lambda net: net.facts()["started_ms"], default=None)

    @staticmethod
    def none_running(name: str | None = None) -> NoTestnet:
        """The error that says so."""
        what = f"no testnet named {name!r} runs here" if name else "no network is named and no testnet runs here"
        return NoTestnet(what, wanted="`pot-lab testnet up`, or POT_LAB_NETWORK=/path/to/network.toml")

    @property
    def name(self) -> str:
        """Its name: the folder's."""
        return self.folder.name

    @property
    def network_file(self) -> Path:
        """What everybody needs to join."""
        return self.folder / "network.toml"

    def facts(self) -> dict[str, Any]:
        """Accounts and processes as they were written down."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "testnet.json").read_text())
        except (OSError, ValueError) as error:
            raise TestnetFailed(
                "the testnet's folder is damaged", seen=f"{self.folder}: {error}", wanted="`pot-lab testnet up --fresh`"
            ) from error
        return content

    def processes(self) -> dict[str, bool]:
        """Each process's name, and whether it lives."""
        return {name: _alive(entry) for name, entry in self.facts()["processes"].items()}

    def pid(self, process: str) -> int:
        """Process id of `chain`, `store` or `aggregator-<i>`, for those who mean to hurt it."""
        return int(self.facts()["processes"][process]["pid"])

    def is_up(self) -> bool:
        """Whether any of its processes lives."""
        return any(self.processes().values())

    def accounts(self) -> list[str]:
        """Names of its funded accounts."""
        return sorted(path.name for path in (self.folder / "accounts").iterdir())

    def identity(self, account: str) -> Identity:
        """Open one of its accounts.

        Raises:
            UnknownAccount: there is none of this name.
        """
        keys = self.folder / "accounts" / account
        if not (keys / ACCOUNT_FILE).is_file():
            raise UnknownAccount("the testnet has no such account", seen=account, wanted=", ".join(self.accounts()))
        return load_account(keys)

    # --- starting -----------------------------------------------------------------------------------------------
    @classmethod
    def up(
        cls,
        name: str = "local",
        *,
        aggregators: int = 4,
        providers: int = 3,
        validators: int = 4,
        verifiers: int = 1,
        clients: int = 1,
        parameters: dict[str, Any] | None = None,
        durability: str = "fsync",
        fresh: bool = False,
        say: Say = lambda _: None,
    ) -> Testnet:
        """Start a testnet, or start a stopped one again from its logs.

        Args:
            name: its name on this host.
            aggregators, providers, validators, verifiers, clients: how many accounts of each kind are made, funded and
                staked.
            parameters: ledger parameters other than `TESTNET_PARAMETERS`.
            fresh: throw away what a stopped testnet of this name left.
            say: told in a few words what is going on.
        Raises:
            TestnetRunning: it is up already.
            TestnetFailed: a process did not come up; nothing is left running.
        """
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise TestnetError("a testnet's name cannot be used", seen=name, wanted="letters, digits, - and _")
        folder = home_.networks() / name
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            net = cls.at(folder)
            if net is not None and net.is_up():
                raise TestnetRunning(
                    "a testnet of this name is up already",
                    seen=name,
                    wanted="`pot-lab testnet down`, or another --name",
                )
            if net is not None and not fresh:
                say("starting the stopped testnet again")
                net._start(say)
                return net
            for path in folder.iterdir():
                if path.name != "lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            net = cls(folder)
            try:
                net._make(
                    aggregators,
                    providers,
                    validators,
                    verifiers,
                    clients,
                    {**TESTNET_PARAMETERS, **(parameters or {})},
                    durability,
                    say,
                )
            except BaseException:
                net._stop_all()
                raise
            return net

    def _make(
        self,
        aggregators: int,
        providers: int,
        validators: int,
        verifiers: int,
        clients: int,
        parameters: dict[str, Any],
        durability: str,
        say: Say,
    ) -> None:
        from pot_lab.chain.deploy import ContractSetup, deploy

        started = time.monotonic()
        say("making keys")
        nodes = [self._make_node(index) for index in range(aggregators)]
        people = {
            name: self._make_account(name)
            for kind, count in (
                ("client", clients),
                ("provider", providers),
                ("validator", validators),
                ("verifier", verifiers),
            )
            for name in ([kind] if kind == "client" and count == 1 else [f"{kind}-{i}" for i in range(count)])
        }
        treasury = self._make_account("treasury")
        parameters = {**parameters, "treasury": format_address(treasury.address)}
        ledger_parameters = parameters_of(parameters)
        deployer = self._make_account("deployer")
        self._write_facts({})

        say("starting the chain and the store")
        ether = [identity.address for identity in (deployer, treasury, *people.values(), *(node[0] for node in nodes))]
        self._spawn_chain(ether)
        self._spawn_store()
        rpc_url = f"http://{LOOPBACK}:{self._await_port('chain')}"
        store_url = f"http://{LOOPBACK}:{self._await_port('store')}"

        say("deploying contracts, funding and staking")
        stakes = ledger_parameters.min_stake_grains
        kinds = {"provider": Role.PROVIDER, "validator": Role.VALIDATOR, "verifier": Role.VERIFIER}
        nodes_stakes = [(node[0].address, int(Role.AGGREGATOR), 2 * stakes[Role.AGGREGATOR]) for node in nodes]
        contracts = deploy(
            rpc_url,
            deployer,
            ContractSetup(
                aggregators=[node[0].address for node in nodes],
                balances={
                    identity.address: (10_000 if name.startswith("client") else 100) * GRAINS_PER_POT
                    for name, identity in people.items()
                },
                stakes=[
                    (identity.address, int(role), 2 * stakes[role])
                    for name, identity in people.items()
                    for kind, role in kinds.items()
                    if name.startswith(kind)
                ]
                + nodes_stakes,
                min_stakes=stakes,
                unbonding_s=60,
                refund_grace_s=60,
                min_cycle_s=1,
                treasury=treasury.address,
            ),
        )

        chain = ChainConfig(
            rpc_url=rpc_url,
            chain_id=contracts.chain_id,
            token=contracts.token,
            registry=contracts.registry,
            escrow=contracts.escrow,
            settlement=contracts.settlement,
            confirmations=0,
            first_block=contracts.first_block,
        )
        entries = entries_on_loopback(
            (identity.address, curve.public, sealing.public) for identity, curve, sealing in nodes
        )
        config = NetworkConfig(
            network_id=bytes(32),
            name=self.name,
            aggregators=entries,
            chain=chain,
            store_url=store_url,
            parameters=parameters,
            durability=durability,
        )
        named = NetworkConfig.from_table({**config.to_table(), "network_id": unnamed_genesis(config).network_id.hex()})
        named.save(self.network_file)
        say(f"starting {aggregators} aggregators")
        for index in range(aggregators):
            self._spawn_aggregator(index)
        self._await_network()
        say(f"testnet {self.name!r} is up after {time.monotonic() - started:.1f} s")

    def _start(self, say: Say) -> None:
        config = NetworkConfig.load(self.network_file)
        try:
            self._write_facts({})
            self._spawn_chain([])
            self._spawn_store()
            self._await_port("chain")
            self._await_port("store")
            for index in range(config.n):
                self._spawn_aggregator(index)
            self._await_network()
        except BaseException:
            self._stop_all()
            raise
        say(f"testnet {self.name!r} is up again")

    def start_aggregator(self, index: int) -> None:
        """Start one aggregator again that was killed; it comes back from its log."""
        with _locked(self.folder):
            if self.processes().get(f"aggregator-{index}"):
                raise TestnetRunning(f"aggregator {index} runs already")
            self._spawn_aggregator(index)

    # --- stopping -----------------------------------------------------------------------------------------------
    def down(self, say: Say = lambda _: None) -> None:
        """Stop every process; the folder stays, so that `up` goes on from there."""
        with _locked(self.folder):
            self._stop_all()
        say(f"testnet {self.name!r} is down")

    def _stop_all(self) -> None:
        with contextlib.suppress(TestnetFailed):
            entries = list(self.facts()["processes"].values())
            for entry in entries:
                _signal(entry, signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while any(_alive(entry) for entry in entries) and time.monotonic() < deadline:
                time.sleep(0.02)
            for entry in entries:
                _signal(entry, signal.SIGKILL)

    # --- parts --------------------------------------------------------------------------------------------------
    def _make_account(self, name: str) -> Identity:
        return _make_account(self.folder / "accounts" / name)

    def _make_node(self, index: int) -> tuple[Identity, CurveKeyPair, SealingKey]:
        keys = self.folder / "aggregators" / str(index) / "keys"
        identity = _make_account(keys)
        curve, sealing = CurveKeyPair.generate(), SealingKey.generate()
        save_curve_key(keys / CURVE_FILE, curve)
        _write_secret(keys / SEALING_FILE, sealing.secret.hex())
        return identity, curve, sealing

    def _spawn_chain(self, ether: list[bytes]) -> None:
        port = self.facts().get("ports", {}).get("chain", 0)
        folder = self.folder / "chain"
        folder.mkdir(exist_ok=True)
        accounts = ["--accounts", *map(format_address, ether)] if ether else []
        journal = ["--journal", str(folder / "journal")]
        self._spawn("chain", ["pot_lab.chain.embedded", "--port", str(port), *journal, *accounts])

    def _spawn_store(self) -> None:
        port = self.facts().get("ports", {}).get("store", 0)
        self._spawn("store", ["pot_lab.store.server", "--root", str(self.folder / "blobs"), "--port", str(port)])

    def _spawn_aggregator(self, index: int) -> None:
        folder = self.folder / "aggregators" / str(index)
        arguments = [
            "--network",
            str(self.network_file),
            "--index",
            str(index),
            "--keys",
            str(folder / "keys"),
            "--data",
            str(folder / "data"),
        ]
        self._spawn(f"aggregator-{index}", ["pot_lab.network.aggregator.main", *arguments], port_file=False)

    def _spawn(self, name: str, module: list[str], *, port_file: bool = True) -> None:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        port_path = self.folder / f"{name}.port"
        port_path.unlink(missing_ok=True)
        command = [sys.executable, "-m", *module, *(["--port-file", str(port_path)] if port_file else [])]
        with uninterrupted(), open(logs / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
            _reap(process)
            facts = self.facts()
            facts["processes"][name] = {"pid": process.pid, "created_s": _created_s(process.pid)}
            self._save_facts(facts)

    def _await_port(self, name: str) -> int:
        path, deadline = self.folder / f"{name}.port", time.monotonic() + START_TIMEOUT_S
        while not (path.is_file() and path.read_text().strip()):
            self._check_alive(name, deadline)
            time.sleep(0.02)
        port = int(path.read_text())
        facts = self.facts()
        facts.setdefault("ports", {})[name] = port
        self._save_facts(facts)
        return port

    def _await_network(self) -> None:
        """Wait until all aggregators answer and the ledger has seen the stakes made at the start."""
        from pot_lab.network.client.ledger import LedgerClient

        deadline = time.monotonic() + START_TIMEOUT_S
        config = NetworkConfig.load(self.network_file)
        wanted = sum(name.startswith(("provider", "validator", "verifier")) for name in self.accounts()) + config.n
        with LedgerClient(config) as client:
            while True:
                for index in range(config.n):
                    self._check_alive(f"aggregator-{index}", deadline)
                with contextlib.suppress(PotLabError, TimeoutError):
                    if (
                        all(status.reachable for status in client.status(1.0))
                        and client.network().next_chain_event >= wanted
                    ):
                        return
                time.sleep(0.05)

    def _check_alive(self, name: str, deadline: float) -> None:
        if not self.processes().get(name):
            raise TestnetFailed(f"the testnet's {name} ended at once", seen=self.last_words(name))
        if time.monotonic() > deadline:
            raise TestnetFailed(
                f"the testnet's {name} did not answer in {START_TIMEOUT_S:g} s", seen=self.last_words(name)
            )

    def last_words(self, process: str) -> str:
        """The last line of a process's log."""
        path = self.folder / "logs" / f"{process}.log"
        lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
        return lines[-1] if lines else "nothing"

    def _write_facts(self, processes: dict[str, Any]) -> None:
        facts = self.facts() if (self.folder / "testnet.json").is_file() else {}
        self._save_facts(
            {**facts, "name": self.name, "started_ms": time.time_ns() // 1_000_000, "processes": processes}
        )

    def _save_facts(self, facts: dict[str, Any]) -> None:
        replace_durably(self.folder / "testnet.json", json.dumps(facts, indent=1).encode())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time starts or stops a testnet."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / "lock"))
        except FileLocked as error:
            raise TestnetRunning(
                "another process is starting or stopping this testnet now", seen=folder.name
            ) from error
        yield
