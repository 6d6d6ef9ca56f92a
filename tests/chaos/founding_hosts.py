"""Four operators found a network from four network namespaces by their own commands; one host is lost and replaced.

`python -m tests.chaos.founding_hosts DIRECTORY` inside `unshare --map-root-user --net --mount` prints what happened, as
JSON. Each host has a node of the chain at its own loopback: a relay to the one that runs here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pot_lab.crypto.identity import format_address
from pot_lab.network.aggregator.keys_folder import make_account
from pot_lab.network.config import NetworkConfig
from tests.chaos.namespaces import ip
from tests.network.toy import ROOT

HOSTS, CLIENT = 4, 4
HERE, NODE_PORT = "10.78.0.100", 8545
PATIENCE_S = 400.0
QUICK = ("update_ms=2000", "pool_ms=120000", "settlement_timeout_ms=30000", "seal_margin_ms=10000")


def host(index: int) -> str:
    return f"10.78.0.{index + 1}"


def relay(listen: tuple[str, int], to: tuple[str, int]) -> None:
    """Carry connections on, until the process ends."""
    accepting = socket.create_server(listen)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    while True:
        near, _ = accepting.accept()
        try:
            far = socket.create_connection(to)
        except OSError:
            near.close()
            continue
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


class Operators:
    """The hosts, and what their operators type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def home(self, index: int) -> Path:
        return self.folder / f"host-{index}"

    def plug_in(self, index: int) -> None:
        """A new host at the common bridge, with its node of the chain."""
        name, link = f"h{index}", f"link{index}"
        ip("netns", "add", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", link, "master", "near")
        ip("link", "set", link, "up")
        ip("-n", name, "addr", "add", f"{host(index)}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        self.home(index).mkdir(exist_ok=True)
        self.start(index, "node", "tests.chaos.founding_hosts", "relay")

    def start(self, index: int | None, name: str, *module: object) -> subprocess.Popen[bytes]:
        """A process of a host; or of no host, at the bridge."""
        prefix = [] if index is None else ["ip", "netns", "exec", f"h{index}"]
        home = self.folder if index is None else self.home(index)
        with open(home / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", *map(str, module)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env={**os.environ, "POT_LAB_HOME": str(home)},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, index: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`pot-lab ARGUMENTS` on a host."""
        return subprocess.run(
            ["ip", "netns", "exec", f"h{index}", sys.executable, "-m", "pot_lab.cli", *map(str, arguments)],
            capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT,
            env={**os.environ, "POT_LAB_HOME": str(self.home(index))},
        )  # fmt: skip

    def facts(self, index: int, *arguments: object) -> Any:
        done = self.run(index, *arguments, "--json")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def until(self, what: Any, wanted: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline_s, wanted
            time.sleep(0.5)


def main() -> int:
    """Found it, lose a host, replace it."""
    if sys.argv[1] == "relay":
        relay(("127.0.0.1", NODE_PORT), (HERE, NODE_PORT))
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    ip("link", "set", "lo", "up")
    ip("link", "add", "near", "type", "bridge")
    ip("link", "set", "near", "up")
    ip("addr", "add", f"{HERE}/24", "dev", "near")
    them = Operators(Path(sys.argv[1]))
    try:
        print(json.dumps(story(them)))
    finally:
        for process in them.processes:
            process.kill()
    return 0


def story(them: Operators) -> dict[str, Any]:
    folder, began_s = them.folder, time.monotonic()
    founder = make_account(folder / "founder", work_factor=1 << 10)
    client = make_account(folder / "client", work_factor=1 << 10)
    port_file = folder / "chain.port"
    accounts = ["--accounts", format_address(founder.address), "--port-file", port_file]
    them.start(None, "chain", "pot_lab.chain.embedded", *accounts)
    store = ["--root", folder / "blobs", "--host", HERE, "--port", "8100", "--allow-remote"]
    them.start(None, "store", "pot_lab.store.server", *store)
    them.until(lambda: port_file.is_file() and port_file.read_text().strip(), "a chain")
    node = ("127.0.0.1", int(port_file.read_text()))
    threading.Thread(target=relay, args=((HERE, NODE_PORT), node), daemon=True).start()
    for index in range(HOSTS + 1):
        them.plug_in(index)

    # as docs/how-to/founding.md says: keys, found, sign, check, start, join
    keys = [them.home(index) / "keys" for index in range(HOSTS)]
    cards = [
        them.facts(index, "network", "keys", keys[index], "--listen", host(index), 7000, 7001, 7002)["card"]
        for index in range(HOSTS)
    ]
    file = folder / "network.toml"
    found = [
        "--name",
        "four",
        "--chain",
        f"http://127.0.0.1:{NODE_PORT}",
        "--store",
        f"http://{HERE}:8100",
        "--out",
        file,
    ]
    found += ["--confirmations", 0, "--account", folder / "founder", "--yes"]
    found += ["--grant", f"{format_address(client.address)}=500"]
    found += [word for each in QUICK for word in ("--set", each)]
    digest = them.facts(CLIENT, "network", "found", *cards, *found)["digest"]
    signed: list[object] = []
    copies = [them.home(index) / "network.toml" for index in range(HOSTS)]
    for index, copy in enumerate(copies):
        copy.write_bytes(file.read_bytes())
        them.facts(index, "network", "sign", copy, "--keys", keys[index], "--yes")
        signed += ["--with", copy]
    them.facts(CLIENT, "network", "sign", file, *signed)
    meeting = []
    for index, copy in enumerate(copies):
        copy.write_bytes(file.read_bytes())
        check = ["network", "check", "--network", copy, "--keys", keys[index], "--meet", 300]
        meeting.append(them.start(index, "check", "pot_lab.cli", *check))
    met = [process.wait(PATIENCE_S) for process in meeting]
    numbers = {entry.host: entry.index for entry in NetworkConfig.load(file).aggregators}

    def serve(index: int) -> subprocess.Popen[bytes]:
        where = ["--network", copies[index], "--index", numbers[host(index)], "--keys", keys[index]]
        return them.start(index, "aggregator", "pot_lab.cli", "aggregator", *where, "--data", them.home(index) / "data")

    serving = [serve(index) for index in range(HOSTS)]
    them.facts(CLIENT, "network", "join", file, "--digest", digest)
    them.until(lambda: them.run(CLIENT, "status", "--network", "four").returncode == 0, "four that answer")
    founded_s = time.monotonic() - began_s

    account = ["--network", "four", "--account", folder / "client"]

    def staked() -> int:
        return them.facts(CLIENT, "wallet", "show", *account)["stakes_grains"].get("provider", 0)

    them.facts(CLIENT, "wallet", "stake", "provider", *account, "--yes")
    them.until(lambda: staked() == 10 * 10**9, "a stake in the ledger")
    serving[2].kill()  # the host is gone, with its disk
    serving[2].wait()
    ip("netns", "del", "h2")
    shutil.rmtree(them.home(2) / "data")
    them.facts(CLIENT, "wallet", "stake", "provider", *account, "--yes")
    them.until(lambda: staked() == 20 * 10**9, "three that go on")
    with contextlib.suppress(RuntimeError):  # it went with the host's namespace
        ip("link", "del", "link2")
    them.plug_in(2)  # another host, with the keys of the backup
    serving[2] = serve(2)
    them.until(lambda: them.run(CLIENT, "status", "--network", "four").returncode == 0, "four again")
    return {
        "met": met,
        "founded_s": round(founded_s, 1),
        "replaced_s": round(time.monotonic() - began_s, 1),
        "ended": [process.poll() for process in serving],
    }


if __name__ == "__main__":
    sys.exit(main())
