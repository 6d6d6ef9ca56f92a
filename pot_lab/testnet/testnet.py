"""A whole network on this host: start it, find it, stop it.

Real parts only: aggregator processes over ZeroMQ with CURVE, an EVM chain behind loopback JSON-RPC, a blob store. They
are detached processes with a folder under `$POT_LAB_HOME/networks/<name>/`. The folder is the only record of them, so
any kernel, terminal or Lab finds them, and closing one stops nothing. Stopped with `down`, the network continues from
its logs at the next `up`.

    network.toml     what every participant may know     testnet.json   processes and ports
    chain/ blobs/    the chain's journal, the blobs      accounts/<name>/   keystores with their password
    aggregators/<i>/ keys and data                       logs/          one file for each process
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pot_lab import home
from pot_lab.agreement.quorum import check_size
from pot_lab.crypto.identity import format_address
from pot_lab.errors import PotLabError, near_names, one_of
from pot_lab.files import FileLocked, locked, make_private_folder, writing
from pot_lab.network.aggregator.keys_folder import ACCOUNT_FILE, load_account
from pot_lab.network.config import NetworkConfig
from pot_lab.network.loopback import LOOPBACK
from pot_lab.testnet.errors import NoTestnet, TestnetError, TestnetFailed, TestnetRunning, UnknownAccount
from pot_lab.testnet.founding import NetworkPlan, make_keys, staked_role
from pot_lab.testnet.processes import RECORD_FILE, START_TIMEOUT_S, ProcessTable

if TYPE_CHECKING:
    from pot_lab.crypto.identity import Identity

SERVERS = ("chain", "store")
MINERS = {"practice-provider": ("provider", 1), "practice-validator": ("validator", 3)}
"""Processes of practice miners: their role, and how many of its accounts they serve at most."""

_LOCK_FILE = "lock"
_PROBE_TIMEOUT_S = 1.0
_POLL_S = 0.05


def _quiet(_: str) -> None:
    pass


class Testnet:
    """A testnet of this host, by its folder.

    Example:
        net = pot_lab.Testnet.up("local")
        lab = pot_lab.connect("local")
        ...
        net.down()
    """

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._table = ProcessTable(folder)

    # --- finding ------------------------------------------------------------------------------------------------
    @classmethod
    def at(cls, folder: Path) -> Testnet | None:
        """The testnet in this folder, running or not; None where there is no testnet."""
        return cls(folder) if (folder / RECORD_FILE).is_file() else None

    @classmethod
    def all(cls) -> list[Testnet]:
        """Every testnet of this home, running or not."""
        return [cls(path.parent) for path in sorted(home.networks().glob(f"*/{RECORD_FILE}"))]

    @classmethod
    def running(cls, name: str | None = None) -> Testnet | None:
        """The testnet of this name that runs, or of all that run the one that was started last.

        Raises:
            TestnetFailed: the testnet of this name has a damaged folder. Damaged ones that were not named are passed
                over, so that one takes no other away.
        """
        return max(cls.all_running(name), key=lambda net: net.started_ms, default=None)

    @classmethod
    def all_running(cls, name: str | None = None) -> list[Testnet]:
        """The testnets that run, of this name or all; raises as `running` does."""
        if name is not None:
            return [net for net in cls.all() if net.name == name and net.is_up()]
        found = []
        for net in cls.all():
            with contextlib.suppress(TestnetFailed):
                if net.is_up():
                    found.append(net)
        return found

    @staticmethod
    def none_running(name: str | None = None) -> NoTestnet:
        """The error for a testnet that does not run."""
        if name and len(Path(name).parts) > 1:
            return NoTestnet("there is no such file", seen=name, wanted="the path of a network.toml")
        if name:
            nets = Testnet.all()
            up = near_names(name, [net.name for net in nets if net.is_up()])
            return NoTestnet(
                f"no testnet named {name!r} runs here",
                seen=", ".join(f"{net.name} ({_state_of(net)})" for net in nets) or "no testnet",
                wanted=(f"did you mean {up[0]!r}? Or " if up else "")
                + f"one of these, or a new one by `pot-lab testnet up --name {name}`",
            )
        what = "no network is named and no testnet runs here"
        return NoTestnet(what, wanted="`pot-lab testnet up`, or POT_LAB_NETWORK=/path/to/network.toml")

    @property
    def name(self) -> str:
        """Its name: the folder's."""
        return self.folder.name

    @property
    def network_file(self) -> Path:
        """Its `network.toml`, which is all that others need to join."""
        return self.folder / "network.toml"

    @property
    def started_ms(self) -> int:
        """When it was started last, milliseconds since 1970."""
        return self._table.record().started_ms

    def processes(self) -> dict[str, bool]:
        """Each process's name (`chain`, `store`, `aggregator-<i>`), and whether it is alive."""
        return self._table.states()

    def pid(self, process: str) -> int:
        """Process id of `chain`, `store` or `aggregator-<i>`, for tests that kill or measure one."""
        return self._table.pid(process)

    def is_up(self) -> bool:
        """Whether any of its processes is alive, its practice miners aside."""
        return any(alive for name, alive in self.processes().items() if name not in MINERS)

    def accounts(self) -> list[str]:
        """Names of its funded accounts."""
        return sorted(path.name for path in (self.folder / "accounts").iterdir())

    def identity(self, account: str) -> Identity:
        """Open one of its accounts.

        Raises:
            UnknownAccount: it has no account of this name.
        """
        keys = self.folder / "accounts" / account
        if not (keys / ACCOUNT_FILE).is_file():
            raise UnknownAccount(
                "the testnet has no such account", seen=account, wanted=one_of(account, self.accounts())
            )
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
        parameters: Mapping[str, Any] | None = None,
        durability: str = "fsync",
        fresh: bool = False,
        miners: bool = False,
        report: Callable[[str], None] = _quiet,
    ) -> Testnet:
        """Start a testnet, start a stopped one again from its logs, or start what is missing of one that runs.

        Args:
            name: its name on this host: letters, digits, - and _.
            aggregators, providers, validators, verifiers, clients: how many accounts of each kind are made, funded and
                staked. A stopped testnet keeps its own, and its parameters.
            parameters: ledger parameters other than `TESTNET_PARAMETERS`.
            durability: whether an aggregator's log reaches the disk (`fsync`) or the operating system (`flush`) before
                it answers.
            fresh: delete what a stopped testnet of this name left.
            miners: start practice miners too: a provider, and as many validators as an order needs.
            report: gets a line for each step.
        Raises:
            TestnetError: the name cannot be used.
            BadReplicaCount: so many aggregators cannot be had; nothing was started.
            TestnetRunning: it is up already, and nothing of it is missing.
            TestnetFailed: a process did not come up; none is left running, but what ran before stays.
            CannotWrite: the folder, or the disk that it is on, does not take the testnet's files.
            BadParameter: a ledger parameter is unknown or out of range.
        """
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise TestnetError("a testnet's name cannot be used", seen=name, wanted="letters, digits, - and _")
        check_size(aggregators)
        folder = home.networks() / name
        with writing("the files of a testnet", folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder), writing("the files of a testnet", folder):
            net = cls(folder)
            if net._may_be_up(fresh):
                if not fresh and net._start_missing(miners, report):
                    return net
                raise TestnetRunning(
                    "a testnet of this name is up already",
                    seen=name,
                    wanted="`pot-lab testnet down`, or another --name",
                )
            try:
                if net.network_file.is_file() and not fresh:
                    net._restart(report)
                else:
                    _empty(folder)
                    plan = NetworkPlan(
                        aggregators=aggregators,
                        providers=providers,
                        validators=validators,
                        verifiers=verifiers,
                        clients=clients,
                        parameters=parameters or {},
                        durability=durability,
                    )
                    net._found(plan, report)
                if miners:
                    net._start_miners(report)
            except BaseException:
                net._stop()
                raise
            return net

    def missing(self) -> list[str]:
        """Names of the processes that were started with the network and have ended, its practice miners included."""
        return [name for name, alive in self.processes().items() if not alive]

    def bring_back(self, report: Callable[[str], None] = _quiet) -> list[str]:
        """Start what is missing of a network that runs; returns what that was.

        Raises:
            TestnetRunning: another process is starting or stopping it now.
            TestnetFailed: a process did not come up; what ran before goes on.
        """
        with _exclusive(self.folder):
            return self._start_missing(False, report)

    def _start_missing(self, miners: bool, report: Callable[[str], None]) -> list[str]:
        missing = self.missing()
        if aggregators := [name for name in missing if name not in (*SERVERS, *MINERS)]:
            left = self._without_seat(aggregators)
            missing = [name for name in missing if name not in left]
        if miners:
            missing += [name for name in MINERS if name not in self.processes()]
        if not missing:
            return []
        report(f"starting what is missing: {', '.join(missing)}")
        self._start_servers([], [name for name in SERVERS if name in missing])
        aggregators = [name for name in missing if name not in (*SERVERS, *MINERS)]
        if aggregators:
            self._start_aggregators([int(name.removeprefix("aggregator-")) for name in aggregators])
        if gone := [name for name in MINERS if name in missing]:
            self._start_miners(report, gone)
        report(f"testnet {self.name!r} is whole again")
        return missing

    def _without_seat(self, names: list[str]) -> set[str]:
        """Which of these aggregators have left their seats, so that their processes ended for good; none where too few
        of the others answer.
        """
        from pot_lab.network.client.ledger import LedgerClient

        with contextlib.suppress(PotLabError, TimeoutError), LedgerClient.open(self.network_file) as client:
            seated = {seat.account for seat in client.seats().seats}
            addresses = {f"aggregator-{entry.index}": entry.address for entry in client.config.aggregators}
            return {name for name in names if addresses[name] not in seated}
        return set()

    def _may_be_up(self, fresh: bool) -> bool:
        try:
            return (self.folder / RECORD_FILE).is_file() and self.is_up()
        except TestnetFailed:  # its record is damaged, which `fresh` repairs
            if not fresh:
                raise
            return False

    def _found(self, plan: NetworkPlan, report: Callable[[str], None]) -> None:
        started_s = time.monotonic()
        report("making keys")
        founding = make_keys(self.folder, plan)
        report("starting the chain and the store")
        self._table.begin()
        rpc_url, store_url = self._start_servers(founding.addresses)
        report("deploying contracts, funding and staking")
        founding.deploy(rpc_url, store_url).save(self.network_file)
        report(f"starting {plan.aggregators} aggregators")
        self._start_aggregators()
        report(f"testnet {self.name!r} is up after {time.monotonic() - started_s:.1f} s")

    def _restart(self, report: Callable[[str], None]) -> None:
        report("starting the stopped testnet again")
        self._stop()  # practice miners may have outlived the network
        self._table.begin()
        self._start_servers([])
        self._start_aggregators()
        report(f"testnet {self.name!r} is up again")

    def start_aggregator(self, index: int) -> None:
        """Start one aggregator again that was killed; it recovers from its log.

        Raises:
            TestnetRunning: it runs.
        """
        with _exclusive(self.folder):
            if self.processes().get(f"aggregator-{index}"):
                raise TestnetRunning(f"aggregator {index} runs already")
            self._start_aggregator(index)

    # --- stopping -----------------------------------------------------------------------------------------------
    def down(self, report: Callable[[str], None] = _quiet) -> None:
        """Stop every process; the folder stays, so that `up` continues from there."""
        with _exclusive(self.folder):
            self._stop()
        report(f"testnet {self.name!r} is down")

    def _stop(self) -> None:
        """Stop the miners while the network still answers them, so that they end their notebooks; then the rest."""
        self._table.stop_all(only=MINERS)
        self._table.stop_all()

    # --- parts --------------------------------------------------------------------------------------------------
    def _start_servers(self, ether: list[bytes], names: Sequence[str] = SERVERS) -> list[str]:
        """Start the chain, the store, or both; returns their addresses."""
        chain, blobs = self.folder / "chain", self.folder / "blobs"
        make_private_folder(chain)
        accounts = ["--accounts", *map(format_address, ether)] if ether else []
        given = {
            "chain": ("pot_lab.chain.embedded", ["--journal", str(chain / "journal"), *accounts]),
            "store": ("pot_lab.store.server", ["--root", str(blobs)]),
        }
        for name in names:
            self._table.start_server(name, *given[name])
        return [f"http://{LOOPBACK}:{self._table.await_port(name)}" for name in names]

    def _start_aggregator(self, index: int) -> None:
        folder = self.folder / "aggregators" / str(index)
        place = ["--network", str(self.network_file), "--index", str(index)]
        folders = ["--keys", str(folder / "keys"), "--data", str(folder / "data")]
        self._table.start(f"aggregator-{index}", "pot_lab.cli", ["aggregator", *place, *folders])

    def _start_aggregators(self, indices: Sequence[int] = ()) -> None:
        """Start these (by default all), and wait until they answer and the ledger has seen the stakes made at the
        start.
        """
        from pot_lab.network.client.ledger import LedgerClient

        config = NetworkConfig.load(self.network_file)
        started = indices or range(config.n)
        for index in started:
            self._start_aggregator(index)
        stakes = config.n + sum(staked_role(name) is not None for name in self.accounts())
        deadline_s = time.monotonic() + START_TIMEOUT_S
        with LedgerClient(config) as client:
            while True:
                for index in started:
                    self._table.check(f"aggregator-{index}", deadline_s)
                with contextlib.suppress(PotLabError, TimeoutError):
                    reachable = {status.index for status in client.status(_PROBE_TIMEOUT_S) if status.reachable}
                    all_answer = reachable.issuperset(started)
                    if all_answer and client.network().next_chain_event >= stakes:
                        return
                time.sleep(_POLL_S)

    def _start_miners(self, report: Callable[[str], None], processes: Sequence[str] = tuple(MINERS)) -> None:
        """Start the practice miners, and wait until the ledger knows them."""
        from pot_lab.network.client.ledger import LedgerClient

        report("starting practice miners")
        wanted = dict.fromkeys(("provider", "validator"), 0)
        for process in processes:
            role, most = MINERS[process]
            names = [name for name in self.accounts() if name.startswith(f"{role}-")][:most]
            wanted[role] = len(names)
            if names:
                folders = [str(self.folder / "accounts" / name) for name in names]
                given = ["--network", str(self.network_file), "--role", role, *folders]
                self._table.start(process, "pot_lab.testnet.practice", given)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        with LedgerClient.open(self.network_file) as client:
            while True:
                for process in processes:
                    if wanted[MINERS[process][0]]:
                        self._table.check(process, deadline_s)
                with contextlib.suppress(PotLabError, TimeoutError):
                    view = client.network()
                    if view.providers >= wanted["provider"] and view.validators >= wanted["validator"]:
                        return
                time.sleep(_POLL_S)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != _LOCK_FILE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Only one process at a time starts or stops a testnet."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / _LOCK_FILE))
        except FileLocked as error:
            raise TestnetRunning(
                "another process is starting or stopping this testnet now", seen=folder.name
            ) from error
        yield


def _state_of(net: Testnet) -> str:
    try:
        return "runs" if net.is_up() else "stopped"
    except TestnetFailed:
        return "its folder is damaged"
