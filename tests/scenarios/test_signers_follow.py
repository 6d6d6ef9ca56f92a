"""An aggregator joins and one leaves: the contract's signers follow, and the new ones settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from pot_lab.chain.errors import ChainReverted
from pot_lab.demo import digits
from pot_lab.network import seat_changes
from pot_lab.network.aggregator.keys_folder import load_account
from pot_lab.network.chain_access import wallet_of
from pot_lab.network.config import Listening, NetworkConfig
from pot_lab.notebook.lab import connect
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import InsufficientStake
from pot_lab.protocol.parameters import Role
from pot_lab.testnet.testnet import Testnet
from tests.network.ledger_network import HOST, Seat
from tests.scenarios.processes import await_nothing_left, start
from tests.testnets import register_miners

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2_400)]


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testnet]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    net = Testnet.up("signers", providers=1, validators=3, verifiers=0, durability="flush")
    try:
        register_miners(net)
        yield net
    finally:
        net.down()
    assert await_nothing_left(tmp_path) == []


@pytest.fixture
def newcomer(testnet: Testnet, tmp_path: Path) -> Iterator[Seat]:
    """A fifth aggregator's process, which has no seat yet."""
    seat = Seat(tmp_path, "newcomer")
    folder = tmp_path / seat.name
    place = ["--listen", HOST, *map(str, (seat.peer_port, seat.client_port, seat.custody_port))]
    files = ["--network", str(testnet.network_file), "--keys", str(folder / "keys"), "--data", str(folder / "data")]
    process: Popen[bytes] = start(["aggregator", *files, *place], folder)
    yield seat
    process.terminate()
    assert process.wait(400) == 0, (folder / "output.txt").read_text()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 400
    while not holds():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.1)


def test_the_contracts_signers_follow_who_comes_and_goes_and_settle(testnet: Testnet, newcomer: Seat) -> None:
    config = NetworkConfig.load(testnet.network_file)
    wallet, keys_of = wallet_of(config, testnet.identity("client")), testnet.folder / "aggregators"
    first = sorted(entry.address for entry in config.aggregators)
    assert wallet.signers() == (1, 3, tuple(first))
    with connect("signers") as lab:
        stake = lab.client.network().parameters.min_stake_grains[Role.AGGREGATOR]
    wallet.transfer(newcomer.identity.address, stake)
    wallet_of(config, newcomer.identity).stake(int(Role.AGGREGATOR), stake)

    def joined() -> bool:
        place = Listening(HOST, newcomer.peer_port, newcomer.client_port, newcomer.custody_port)
        try:
            seat_changes.join(config, newcomer.folder / newcomer.name / "keys", place)
        except InsufficientStake:  # the aggregators have not seen it on the chain yet
            return False
        return True

    until(joined, "the stake is known")
    for index in range(3):
        seat_changes.vote(config, keys_of / str(index) / "keys", newcomer.identity.address, seated=True)
    five = sorted([*first, newcomer.identity.address])
    until(lambda: wallet.signers() == (2, 4, tuple(five)), "the newcomer signs")

    leaver = config.aggregators[0].address
    own = wallet_of(config, load_account(keys_of / "0" / "keys"))
    with pytest.raises(ChainReverted, match="ActiveSigner"):
        own.request_unstake(int(Role.AGGREGATOR), stake)
    seat_changes.leave(config, keys_of / "0" / "keys")
    four = tuple(key for key in five if key != leaver)
    until(lambda: wallet.signers() == (3, 3, four), "the leaver signs no more")
    own.request_unstake(int(Role.AGGREGATOR), stake)

    with connect("signers") as lab:  # which starts nothing: what has left its seat is not missing
        model, train, test = digits()
        order = lab.order(model, train, test, reward=5, train_for="5s")
        lab.client.wait_for_order(order.id, lambda view: view.window is Window.VOID, timeout_s=400)
    until(lambda: wallet.epoch() == 1, "the new signers have settled")
