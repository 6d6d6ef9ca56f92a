"""A watcher's position on disk: saved once the ledger has its events, used after a restart, never trusted blindly."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab.chain.contract import Contracts
from pot_lab.chain.position import PositionFile
from pot_lab.chain.watcher import ChainWatcher, Position
from tests.chain.world import World

HERE = Position(40, b"\7" * 32, 12)


def contracts(chain_id: int = 5, first_block: int = 3) -> Contracts:
    return Contracts(
        chain_id=chain_id,
        first_block=first_block,
        token=b"\1" * 20,
        registry=b"\2" * 20,
        escrow=b"\3" * 20,
        settlement=b"\4" * 20,
    )


def test_a_saved_position_comes_back_until_it_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "new" / "chain.position"
    kept = PositionFile(path, contracts())
    assert kept.load() is None
    kept.save(HERE)
    assert PositionFile(path, contracts()).load() == HERE
    kept.forget()
    kept.forget()
    assert kept.load() is None


def test_a_position_of_other_contracts_or_a_damaged_one_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chain.position"
    PositionFile(path, contracts()).save(HERE)
    assert PositionFile(path, contracts(chain_id=6)).load() is None
    assert PositionFile(path, contracts(first_block=41)).load() is None
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole + b"\0", bytes(5_000), whole.replace(b"\7" * 32, b"\7" * 31 + b"\xff\xff")):
        path.write_bytes(damaged)
        assert PositionFile(path, contracts()).load() is None
    assert caplog.text.count("chain_position_unusable") == 7
    path.unlink()
    path.mkdir()
    assert PositionFile(path, contracts()).load() is None


def test_a_disk_that_refuses_costs_reading_again_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    PositionFile(tmp_path / "file" / "position", contracts()).save(HERE)
    assert "chain_position_not_saved" in caplog.text


def test_a_restarted_watcher_reads_only_what_is_new(world: World, tmp_path: Path) -> None:
    kept = PositionFile(tmp_path / "position", world.contracts)
    first = ChainWatcher(world.url, world.contracts, 0, world.contracts.first_block)
    before = first.poll()
    kept.save(first.position)
    order = world.order()
    second = ChainWatcher(world.url, world.contracts, 0, world.contracts.first_block, position=kept.load())
    assert [event.subject for event in second.poll()] == [order.oid]
    assert second.position.events == len(before) + 1
