from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.world import World, running_chain


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks of accounts lie in a home of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POT_LAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def chain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One embedded chain process for all tests of this folder."""
    with running_chain(Path(tmp_path_factory.mktemp("chain")), "--control") as url:
        yield url


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
