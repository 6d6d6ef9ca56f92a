"""A network of real aggregator processes that a test may do anything to, and the clients that keep book on it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from pot_lab.consensus.messages import request_digest
from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.peer_links import dials
from pot_lab.network.client.calls import Call
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from pot_lab.network.wire import Answered
from tests.chaos.history_checker import ClientLog, Executed, Operation, Read, Verdict, check, read_log
from tests.chaos.ledger_life import ChainFile, RealCast, cast_until
from tests.chaos.proxy import Link, Proxies, Way
from tests.chaos.weather import Weather, lose_unsynced
from tests.network.toy import NETWORK_ID, ROOT, Toy, ToyNetwork, toy_request

PATIENCE_S = 240
_LEDGER_DAYS_S = 10 * 24 * 3_600
_ACCUSED = re.compile(r" equivocation .*accused=(\d+)")


class ChaosNetwork(ToyNetwork):
    """n aggregators in a directory, around the toy or the real ledger.

    Args:
        ledger: the real ledger instead of the toy.
        proxies: lay each link between aggregators, and from clients to them, through one of these.
        snapshot_batches: how often a snapshot is taken and the log cut.
    Attributes:
        peers: the link of two aggregators, by the index of who dials and of the other; `doors`: from clients to each.
        stepped_over: aggregators whose history may have a gap, since a snapshot brought them back.
        forgetful: aggregators that have lost votes with their disk, and may contradict them.
    """

    def __init__(
        self,
        directory: Path,
        n: int = 4,
        durability: str = "fsync",
        *,
        ledger: bool = False,
        proxies: Proxies | None = None,
        snapshot_batches: int = 512,
    ) -> None:
        self.directory, self.processes = directory, {}
        self.environment = {"CHAOS_SNAPSHOT_BATCHES": str(snapshot_batches), "CHAOS_N": str(n)}
        self.cast: RealCast | None = None
        self.identities = [Identity(sha256(b"chaos aggregator %d" % i)) for i in range(n)]
        network_id = NETWORK_ID
        if ledger:
            seal_by_s = int(time.time()) + _LEDGER_DAYS_S
            self.cast = cast_until(n, seal_by_s)
            self.identities, network_id = list(self.cast.aggregators), self.cast.network_id
            self.chain = ChainFile(directory / "chain")
            self.environment |= {"CHAOS_LEDGER": str(seal_by_s), "CHAOS_CHAIN": str(directory / "chain")}
        self.keys = [CurveKeyPair.generate() for _ in range(n)]
        ports = free_ports(2 * n)
        entries = [
            AggregatorEntry(
                index=i,
                host=self.host(i),
                peer_port=ports[2 * i],
                client_port=ports[2 * i + 1],
                curve_public=self.keys[i].public,
                address=self.identities[i].address,
                sealing_public=bytes(32),
            )
            for i in range(n)
        ]
        self.proxies = proxies
        self.peers: dict[tuple[int, int], Link] = {}
        self.doors: dict[int, Link] = {}
        outside = entries
        for i in range(n):
            inside = list(entries)
            if proxies is not None:
                for j in range(n):
                    if j != i and dials(self.keys[i].public, self.keys[j].public):
                        self.peers[i, j] = proxies.link(entries[j].peer_port)
                        inside[j] = msgspec.structs.replace(entries[j], peer_port=self.peers[i, j].port)
            self._config(network_id, inside, durability).save(directory / f"network-{i}.toml")
        if proxies is not None:
            self.doors = {i: proxies.link(entries[i].client_port) for i in range(n)}
            outside = [msgspec.structs.replace(each, client_port=self.doors[each.index].port) for each in entries]
        self.ports = {entry.index: (entry.peer_port, entry.client_port) for entry in entries}
        self.config = self._config(network_id, outside, durability)
        self.weather = {i: Weather(directory / f"weather-{i}") for i in range(n)}
        self.stepped_over: set[int] = set()
        self.forgetful: set[int] = set()
        self._books: list[Bookkeeper] = []

    @staticmethod
    def _config(network_id: bytes, entries: Iterable[AggregatorEntry], durability: str) -> NetworkConfig:
        return NetworkConfig(network_id=network_id, name="chaos", aggregators=tuple(entries), durability=durability)

    def host(self, index: int) -> str:
        """The address of an aggregator."""
        return "127.0.0.1"

    def prefix(self, index: int) -> list[str]:
        """What its command begins with."""
        return []

    @property
    def all(self) -> set[int]:
        return set(range(self.config.n))

    def log(self, index: int) -> Path:
        return self.data_dir(index) / "replica.log"

    def start(self, index: int, **extra: str) -> subprocess.Popen[bytes]:
        """Start one aggregator; its stderr goes to a file."""
        secrets = json.dumps([self.keys[index].secret, self.identities[index].secret.hex()])
        command = [
            *self.prefix(index), sys.executable, "-m", "tests.chaos.aggregator",
            str(self.directory / f"network-{index}.toml"), str(index), str(self.data_dir(index)),
        ]  # fmt: skip
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CHAOS_SECRETS": secrets,
            "CHAOS_WEATHER": str(self.directory / f"weather-{index}"),
            **self.environment,
            **extra,
        }
        with open(self.directory / f"stderr-{index}", "ab") as stderr:
            process = subprocess.Popen(command, env=environment, stderr=stderr, cwd=ROOT)
        self.processes[index] = process
        return process

    def signal(self, index: int, number: signal.Signals) -> None:
        """SIGSTOP or SIGCONT."""
        self.processes[index].send_signal(number)

    def power_cut(self, random_: random.Random) -> None:
        """All die at one moment, and each disk loses any part of what nobody had waited for."""
        for process in self.processes.values():
            process.kill()
        for index in list(self.processes):
            self.kill(index)
            if self.config.durability == "fsync" and self.data_dir(index).exists():
                lose_unsynced(self.data_dir(index), random_)

    def forget(self, index: int) -> None:
        """The operator moves a data directory away: the aggregator comes back from the others."""
        shutil.rmtree(self.data_dir(index))
        self.stepped_over.add(index)
        self.forgetful.add(index)

    def primary(self, client: NetworkClient) -> int:
        """The primary of the view that most aggregators are in."""
        states: list[int] = []
        while not states:  # a busy machine may answer later than a status waits
            states = [state.primary for state in client.status().result(PATIENCE_S) if state.reachable]
        return max(set(states), key=states.count)

    def bookkeeper(self, name: str) -> Bookkeeper:
        """A client that writes everything down."""
        made = Bookkeeper(self, name)
        self._books.append(made)
        return made

    def way(self, one: int, other: int) -> Way:
        """What one aggregator says to another goes this way, whoever of them dialled."""
        return self.peers[one, other].there if (one, other) in self.peers else self.peers[other, one].back

    def settle(self, client: NetworkClient, indices: set[int] | None = None) -> None:
        """Until these aggregators (all) are up, answer, and stand at one height with equal states."""
        self.wait_for_heights(client, self.all if indices is None else indices, 0, PATIENCE_S)

    def histories(self, indices: Iterable[int]) -> dict[int, list[Executed]]:
        """What aggregators executed, from their files."""
        return {index: executed(self.data_dir(index)) for index in indices}

    def logs(self) -> tuple[list[Operation], list[Read]]:
        """What all clients of this network wrote down."""
        operations: list[Operation] = []
        reads: list[Read] = []
        for path in sorted(self.directory.glob("*.client")):
            some, others = read_log(path)
            operations += some
            reads += others
        return operations, reads

    def verdict(self, *, wait: bool = True, others: Iterable[bytes] | None = ()) -> Verdict:
        """Wait until all aggregators stand together, stop them, and check the whole run."""
        if wait:
            with NetworkClient(self.config) as client:
                self.settle(client)
        for book in self._books:
            book.close()
        for index in list(self.processes):
            assert self.stop(index) == 0, self.stderr(index)
        accused = {int(number) for index in self.all for number in _ACCUSED.findall(self.stderr(index))}
        assert accused <= self.forgetful, f"aggregators {sorted(accused - self.forgetful)} contradicted themselves"
        operations, reads = self.logs()
        application = Toy()
        if self.cast is not None:
            from pot_lab.protocol.application import LedgerApplication

            application, others = LedgerApplication(self.cast.genesis), None  # duties speak as well
        found = check(
            operations,
            reads,
            self.histories(self.all),
            application=application,
            others=others,
            may_have_gaps=self.stepped_over,
            must_be_whole=self.all - self.stepped_over,  # a snapshot may have brought the others to the very end
        )
        if self.cast is not None:
            application.ledger.book.check_conservation()
            application.ledger.book.audit()
            self.ledger = application.ledger
        return found

    def __exit__(self, *error: object) -> None:
        for book in self._books:
            book.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        super().__exit__(*error)


def executed(data_dir: Path) -> list[Executed]:
    """Every batch in an aggregator's history file, over its gaps."""
    with closing(sqlite3.connect(data_dir / "history.sqlite")) as database:
        rows = database.execute("SELECT sequence, time_ms, events FROM batches ORDER BY sequence").fetchall()
    return [
        Executed(sequence=sequence, time_ms=time_ms, requests=msgspec.msgpack.decode(raw, type=tuple[bytes, ...]))
        for sequence, time_ms, raw in rows
    ]


class Bookkeeper(NetworkClient):
    """A client that notes what it sent and what it was told, with the batch that f+1 aggregators named.

    Attributes:
        account: the toy's account that it speaks for.
    """

    def __init__(self, network: ChaosNetwork, name: str) -> None:
        self.account = Identity.generate()
        self.name = name
        self._nonce = 0
        self._heard: dict[bytes, dict[int, tuple[int, int]]] = {}
        self._book = ClientLog(network.directory / f"{name}.client")
        self._is_closed = False
        super().__init__(network.config)
        self._count_answer = self._submissions.on_answered
        self._submissions.on_answered = self._note_answer  # type: ignore[method-assign]

    def submit(self, request: bytes, *, timeout_s: float = PATIENCE_S) -> Call[bytes]:
        """Submit a request and keep book on it."""
        digest = request_digest(request)
        self._book.invoked(request, time.monotonic_ns())
        self._heard.setdefault(digest, {})
        call = super().submit(request, timeout_s=timeout_s)

        def note(future: object) -> None:
            heard = self._heard.pop(digest, {})
            if call.future.exception() is None and heard:
                (sequence, time_ms), _ = Counter(heard.values()).most_common(1)[0]
                self._book.acknowledged(request, time.monotonic_ns(), sequence, time_ms, call.future.result())

        call.future.add_done_callback(note)
        return call

    def _note_answer(self, index: int, answer: Answered) -> None:
        if answer.digest in self._heard:
            self._heard[answer.digest][index] = (answer.sequence, answer.time_ms)
        self._count_answer(index, answer)

    def put(self, payload: bytes = b"") -> Call[bytes]:
        """The toy's next request of this account."""
        self._nonce += 1
        return self.submit(toy_request(self.account, self._nonce, payload))

    def put_all(self, count: int, pause_s: float = 0.0) -> list[bytes]:
        """So many requests, and their replies."""
        calls = []
        for _ in range(count):
            calls.append(self.put())
            time.sleep(pause_s)
        return [call.result(PATIENCE_S) for call in calls]

    def look(self, timeout_s: float = PATIENCE_S) -> int:
        """Read the height and keep book on it; raises as `query` does."""
        invoked_ns = time.monotonic_ns()
        height = int(self.query("height", timeout_s=timeout_s).result(timeout_s + PATIENCE_S))
        self._book.read(invoked_ns, time.monotonic_ns(), height)
        return height

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            super().close()
            self._book.close()


@contextmanager
def steady_load(
    network: ChaosNetwork, *, writers: int = 2, per_s: float = 20.0, payload: bytes = b""
) -> Iterator[list[Bookkeeper]]:
    """While this lasts, so many clients write and read at a low rate; all they said is answered when it ends."""
    books = [network.bookkeeper(f"writer {number}") for number in range(writers)]
    ended = threading.Event()
    errors: list[BaseException] = []

    def work(book: Bookkeeper) -> None:
        calls: list[Call[bytes]] = []
        try:
            while not ended.wait(writers / per_s):
                calls.append(book.put(payload))
                if len(calls) % 8 == 0:
                    try:
                        book.look(timeout_s=2)
                    except PotLabError:
                        pass  # no f+1 alike at the moment: that is what the faults are for
            for call in calls:
                call.result(PATIENCE_S)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(book,)) for book in books]
    for thread in threads:
        thread.start()
    try:
        yield books
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
