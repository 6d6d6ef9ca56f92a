"""An order that nobody could work on is refused before it is paid; one that may have to wait warns."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from pot_lab import home
from pot_lab.files import acquire_lock
from pot_lab.notebook.errors import NoMiners
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.miners import is_of_this_host, loops_here, miners_of, require_miners
from pot_lab.notebook.order import Order
from pot_lab.protocol.parameters import Role
from tests.notebook.in_process import WALLET_GRAINS, FollowedWorld, lab_of
from tests.protocol.world import key

POT = 10**9
X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3


def place(lab: Lab, **more: bool) -> Order:
    torch.manual_seed(0)
    return lab.order(nn.Linear(4, 3), (X, Y), (X, Y), reward=5, train_for="10s", **more)


@pytest.fixture
def world() -> FollowedWorld:
    return FollowedWorld(miners=False)


def test_nobody_pays_for_an_order_that_nobody_could_work_on(world: FollowedWorld, tmp_path: Path) -> None:
    lab = lab_of(world, tmp_path)
    with pytest.raises(NoMiners, match=r"no provider and no validator .* 0 providers .* `pot-lab testnet up --miners`"):
        place(lab)
    world.stake(key("p"), Role.PROVIDER)
    with pytest.raises(NoMiners, match=r"no validator is registered .* `pot-lab mine validator`"):
        place(lab)
    assert lab.chain_wallet.grains == WALLET_GRAINS and lab.orders(everybody=True) == []
    assert not list(Path(lab.config.store_url).glob("?" * 64))
    with pytest.warns(UserWarning, match="unless one comes in time"):
        place(lab, without_miners=True)


def test_an_order_that_may_have_to_wait_warns(world: FollowedWorld, tmp_path: Path) -> None:
    lab = lab_of(world, tmp_path)
    world.stake(key("p"), Role.PROVIDER)
    for number in range(3):
        world.stake(key(f"v {number}"), Role.VALIDATOR, 20 * POT)
    with pytest.warns(UserWarning, match="of 5 POT starts when 4 validators .* of 10 POT .* 3 with 60 POT: .* 600 s"):
        place(lab)
    world.stake(key("v 3"), Role.VALIDATOR, 20 * POT)
    network = lab.client.network()

    def ask(pot: int, *, here: bool = False) -> None:
        require_miners(network, pot * POT, miners_of(network, pot * POT, bytes(32), here=here))

    with pytest.warns(UserWarning, match="stakes of 100 POT together are registered, and there are 4 with 80 POT"):
        ask(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ask(80)
    with pytest.warns(UserWarning, match="providers and validators are registered, and none runs on this host"):
        ask(80, here=True)


def test_loops_of_this_host_are_counted_by_their_locks(lab_network: bytes = bytes(31) + b"\1") -> None:
    work = home.home() / "work"
    descriptors = []
    for name in ("provider-aabb", "validator-aabb", "validator-ccdd", "validator-gone"):
        folder = work / f"{name}-{lab_network.hex()[:12]}"
        folder.mkdir(parents=True)
        descriptors.append(acquire_lock(folder / ".lock"))
    os.close(descriptors.pop())
    try:
        assert loops_here(lab_network) == {"provider": 1, "validator": 2, "verifier": 0}
        assert loops_here(b"\2" * 32) == {"provider": 0, "validator": 0, "verifier": 0}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_network_is_of_this_host_if_its_file_lies_in_the_home(world: FollowedWorld, tmp_path: Path) -> None:
    lab = lab_of(world, tmp_path)
    assert not is_of_this_host(lab.config.network_id)
    damaged, own = (home.networks() / name / "network.toml" for name in ("a", "b"))
    for file in (damaged, own):
        file.parent.mkdir(parents=True)
    damaged.write_text("[")
    lab.config.save(own)
    assert is_of_this_host(lab.config.network_id) and not is_of_this_host(b"\2" * 32)
