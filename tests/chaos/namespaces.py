"""A network whose aggregators each have a network namespace: run inside `unshare --map-root-user --net --mount`.

`python -m tests.chaos.namespaces DIRECTORY` cuts it in several ways and prints what the history checker says;
`... probe` only makes and removes a namespace.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos.network import PATIENCE_S, ChaosNetwork


def ip(*arguments: str) -> None:
    """Run `ip`; raises RuntimeError with what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def prepare() -> None:
    """Make this namespace's own /run, and two bridges; clients are on the first."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    ip("link", "set", "lo", "up")
    for bridge in ("near", "far"):
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
    ip("addr", "add", "10.77.0.100/24", "dev", "near")


def join(index: int) -> None:
    """A namespace for one aggregator, linked to the near bridge."""
    name, link = f"a{index}", f"link{index}"
    ip("netns", "add", name)
    ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("link", "set", link, "master", "near")
    ip("link", "set", link, "up")
    ip("-n", name, "addr", "add", f"{host(index)}/24", "dev", "eth0")
    ip("-n", name, "link", "set", "eth0", "up")
    ip("-n", name, "link", "set", "lo", "up")


def host(index: int) -> str:
    return f"10.77.0.{index + 1}"


def move(index: int, bridge: str) -> None:
    """Take an aggregator's cable out of one bridge and put it into another."""
    ip("link", "set", f"link{index}", "master", bridge)


class NamespaceNetwork(ChaosNetwork):
    """Aggregators in namespaces a0, a1, ..."""

    def host(self, index: int) -> str:
        return host(index)

    def prefix(self, index: int) -> list[str]:
        return ["ip", "netns", "exec", f"a{index}"]


def main() -> int:
    prepare()
    if sys.argv[1] == "probe":
        join(0)
        return 0
    for index in range(4):
        join(index)
    with NamespaceNetwork(Path(sys.argv[1])) as network:
        book = network.bookkeeper("client")
        network.settle(book)
        book.put_all(5)
        first = network.primary(book)
        move(first, "far")  # alone: the others go on without their primary
        book.put_all(10)
        move(first, "near")
        network.settle(book)
        second = network.primary(book)
        pair = [second, (second + 1) % 4]
        for index in pair:
            move(index, "far")  # two and two: nobody decides anything
        calls = [book.put() for _ in range(10)]
        time.sleep(2.5)
        assert not any(call.done() for call in calls), "half of the aggregators decided something"
        for index in pair:
            move(index, "near")
        for call in calls:
            call.result(PATIENCE_S)
        ip("link", "set", f"link{network.primary(book)}", "down")  # a pulled cable
        book.put_all(10)
        for index in range(4):
            ip("link", "set", f"link{index}", "up")
        network.settle(book)
        view = max(state.view for state in book.status().result(PATIENCE_S))
        print(json.dumps({**network.verdict()._asdict(), "view": view}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
