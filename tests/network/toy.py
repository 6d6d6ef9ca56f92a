"""A real network of aggregator processes around a small counting application, for tests.

`python -m tests.network.toy CONFIG INDEX KEYS DATA_DIR` is one aggregator; `ToyNetwork` starts, kills and stops them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pot_lab.agreement.application import Batch, Execution, RequestId
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.crypto.canonical import decode, encode, sha256, tagged_hash
from pot_lab.crypto.identity import Identity, recover
from pot_lab.errors import Malformed, PotLabError
from pot_lab.network.aggregator.run import run_aggregator
from pot_lab.network.client.calls import AggregatorStatus
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import entries_on_loopback

ROOT = Path(__file__).resolve().parents[2]
NETWORK_ID = sha256(b"toy network")


class UnknownToyQuestion(PotLabError):
    """The toy answers no such query; its name is no other error's, since errors travel by name."""


def toy_request(identity: Identity, nonce: int, payload: bytes = b"") -> bytes:
    """A signed request: signature, nonce, payload."""
    body = nonce.to_bytes(8, "big") + payload
    return identity.sign(tagged_hash("toy", NETWORK_ID, body)) + body


_OVERTAKEN = 512


class Toy:
    """Counts each account's requests; a request whose nonce was used is refused.

    A nonce may come after later ones, unlike in the ledger: a change of view may let requests of one account that are
    on their way together overtake each other, and most tests ask only that each runs, and runs once.
    """

    def __init__(self) -> None:
        self.total = 0
        self.nonces: dict[bytes, tuple[int, tuple[int, ...]]] = {}  # the highest, and those below that are to come
        self.chain = bytes(32)

    def validate(self, request: bytes) -> RequestId:
        if len(request) < 73:
            raise Malformed("no toy request", seen=request)
        account = recover(tagged_hash("toy", NETWORK_ID, request[65:]), request[:65])
        return RequestId(account, int.from_bytes(request[65:73], "big"))

    def execute(self, batch: Batch) -> Execution:
        replies, events = [], []
        for request in batch.requests:
            id_ = self.validate(request)
            if not self._use(id_.account, id_.nonce):
                replies.append(b"refused: nonce")
                continue
            self.total += 1
            replies.append(b"%d" % self.total)
            events.append(request[65:])
        self.chain = tagged_hash("toy-state", self.chain, *batch.requests)
        return Execution(tuple(replies), tuple(events), self.chain)

    def _use(self, account: bytes, nonce: int) -> bool:
        last, open_ = self.nonces.get(account, (-1, ()))
        if nonce > last:
            skipped = range(max(last + 1, nonce - _OVERTAKEN), nonce)
            self.nonces[account] = nonce, (*open_, *skipped)[-_OVERTAKEN:]
        elif nonce in open_:
            self.nonces[account] = last, tuple(each for each in open_ if each != nonce)
        else:
            return False
        return True

    def due_ms(self) -> int | None:
        return None

    def seats(self) -> None:
        return None

    def query(self, name: str, arguments: bytes) -> bytes:
        if name == "total":
            return b"%d" % self.total
        raise UnknownToyQuestion("the toy does not know this question", seen=name, wanted="total")

    def snapshot(self) -> bytes:
        return encode((self.total, tuple(sorted(self.nonces.items())), self.chain))

    def restore(self, snapshot: bytes) -> None:
        shape = tuple[int, tuple[tuple[bytes, tuple[int, tuple[int, ...]]], ...], bytes]
        total, nonces, chain = decode(snapshot, shape, limit_bytes=1 << 30)
        self.total, self.nonces, self.chain = total, dict(nonces), chain


class ToyNetwork:
    """n aggregator processes in a directory."""

    def __init__(self, directory: Path, n: int = 4, durability: str = "fsync", **environment: str) -> None:
        self.environment = environment
        self.directory = directory
        self.identities = [Identity(sha256(b"toy aggregator %d" % i)) for i in range(n)]
        self.keys = [CurveKeyPair.generate() for _ in range(n)]
        entries = entries_on_loopback(
            (identity.address, keys.public, bytes(32))
            for identity, keys in zip(self.identities, self.keys, strict=True)
        )
        self.config = NetworkConfig(network_id=NETWORK_ID, name="toy", aggregators=entries, durability=durability)
        self.config_path = directory / "network.toml"
        self.config.save(self.config_path)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def data_dir(self, index: int) -> Path:
        return self.directory / f"aggregator-{index}"

    def start(self, index: int, **extra: str) -> subprocess.Popen[bytes]:
        """Start one aggregator; its stderr goes to a file."""
        secrets = json.dumps([self.keys[index].secret, self.identities[index].secret.hex()])
        command = [sys.executable, "-m", "tests.network.toy", self.config_path, str(index), str(self.data_dir(index))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOY_SECRETS": secrets, **self.environment, **extra}
        with open(self.directory / f"stderr-{index}", "ab") as stderr:
            process = subprocess.Popen(command, env=environment, stderr=stderr, cwd=ROOT)
        self.processes[index] = process
        return process

    def stderr(self, index: int) -> str:
        return (self.directory / f"stderr-{index}").read_text()

    def kill(self, index: int) -> None:
        """kill -9."""
        process = self.processes.pop(index)
        process.kill()
        process.wait()

    def stop(self, index: int) -> int:
        """SIGTERM; returns the exit code."""
        process = self.processes.pop(index)
        process.send_signal(signal.SIGTERM)
        return process.wait(240)

    def __enter__(self) -> ToyNetwork:
        """Start all, and wait until they answer: no test's patience is spent on how long Python takes to start."""
        try:
            for index in range(self.config.n):
                self.start(index)
            with NetworkClient(self.config) as client:
                self.wait_for_heights(client, set(range(self.config.n)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()

    def wait_for_heights(
        self, client: NetworkClient, indices: set[int], height: int = 0, timeout_s: float = 240
    ) -> list[AggregatorStatus]:
        """Until these aggregators answer and stand at one height, at least `height`; what everybody said then."""
        deadline = time.monotonic() + timeout_s
        while True:
            everybody = client.status().result(240)
            states = [each for each in everybody if each.index in indices]
            heights = {each.height for each in states}
            if all(each.reachable for each in states) and len(heights) == 1 and min(heights) >= height:
                return everybody
            assert time.monotonic() < deadline, f"aggregators are not together: {states}"
            time.sleep(0.05)


def main() -> int:
    config_path, index, data_dir = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    curve_secret, secret = json.loads(os.environ["TOY_SECRETS"])
    limit = os.environ.get("TOY_FILE_LIMIT")
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    metrics_port = int(os.environ.get("TOY_METRICS_PORT", "0"))
    return run_aggregator(
        config_path,
        index,
        data_dir,
        Toy(),
        (),
        identity=Identity(bytes.fromhex(secret)),
        curve_secret=curve_secret,
        metrics_at=("127.0.0.1", metrics_port) if metrics_port else None,
        parameters=ConsensusParameters(snapshot_batches=int(os.environ.get("TOY_SNAPSHOT_BATCHES", "512"))),
    )


if __name__ == "__main__":
    sys.exit(main())
