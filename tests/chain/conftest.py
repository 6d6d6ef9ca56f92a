from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.chain.rpc import JsonRpc
from tests.chain.world import Hook, World, running_anvil, running_chain, strict_node


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks of accounts lie in a home of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POT_LAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def chain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One chain process for all tests of this folder: the embedded one, or anvil where $POT_LAB_TEST_CHAIN says so."""
    if os.environ.get("POT_LAB_TEST_CHAIN") == "anvil":
        with (
            running_anvil("--gas-limit", "60000000", "--hardfork", "cancun") as node,
            strict_node(node, _with_coin(JsonRpc(node))) as url,
        ):
            yield url
        return
    with running_chain(Path(tmp_path_factory.mktemp("chain")), "--control") as url:
        yield url


def _with_coin(rpc: JsonRpc) -> Hook:
    """Gives an account coin before its transaction is tried: on the embedded chain these tests need none."""

    def hook(request: dict[str, Any]) -> None:
        if request["method"] == "eth_estimateGas" and "from" in request["params"][0]:
            rpc.call("anvil_setBalance", request["params"][0]["from"], hex(10**21))

    return hook


@pytest.fixture(scope="session")
def deployed(chain_url: str) -> World:
    return World(chain_url)


@pytest.fixture(scope="session")
def deployed_with_delay(chain_url: str, deployed: World) -> World:
    return World(chain_url, claim_delay_s=60)


def _fresh(base: World) -> Iterator[World]:
    snapshot = base.rpc.call("evm_snapshot")
    base.nonce = 0
    yield base
    base.rpc.call("evm_revert", snapshot)


@pytest.fixture
def world(deployed: World, deployed_with_delay: World) -> Iterator[World]:
    """A deployed network in its first state."""
    yield from _fresh(deployed)


@pytest.fixture
def slow_world(deployed_with_delay: World) -> Iterator[World]:
    """The same with a claim delay of one minute."""
    yield from _fresh(deployed_with_delay)
