"""What a loop must not forget is on disk whole, private, and read back as it was; damage harms one order only."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from pot_lab.jobs.memory import Commitment, Memories, OrderMemory, ProviderMemory

ONE, TWO = b"\x01" * 32, b"\x02" * 32


def test_memories_come_back_as_they_were(tmp_path: Path) -> None:
    memories = Memories(tmp_path / "work", ProviderMemory)
    assert memories.active() == [] and not memories.has(ONE)
    commit = Commitment(file="00001.safetensors", mid="aa", salt="bb", at_ms=5)
    second = ProviderMemory(order_id=TWO.hex(), job_id="job", training=True, commits=[commit])
    memories.write(second)
    memories.write(ProviderMemory(order_id=ONE.hex(), resumed=2))
    again = Memories(tmp_path / "work", ProviderMemory)
    assert again.active() == memories.active() == [ProviderMemory(order_id=ONE.hex(), resumed=2), second]
    assert again.has(ONE) and again.has(TWO) and not again.has(b"\x03" * 32)


def test_a_finished_order_is_known_and_not_active(tmp_path: Path) -> None:
    memories = Memories(tmp_path, OrderMemory)
    memory = OrderMemory(order_id=ONE.hex())
    memories.write(memory)
    memory.finished, memory.outcome = True, "won"
    memories.write(memory)
    for each in (memories, Memories(tmp_path, OrderMemory)):
        assert each.active() == [] and each.has(ONE)
    assert json.loads((tmp_path / ONE.hex()[:24] / "memory.json").read_text())["outcome"] == "won"


def test_only_the_owner_can_read_salts(tmp_path: Path) -> None:
    memories = Memories(tmp_path, OrderMemory)
    memories.write(OrderMemory(order_id=ONE.hex()))
    assert stat.S_IMODE((memories.order_folder(ONE) / "memory.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"order_id": "zz"}', b'{"order_id": 5}', b"\xff"])
def test_a_damaged_memory_keeps_its_order_from_being_begun_again(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memories = Memories(tmp_path, OrderMemory)
    memories.write(OrderMemory(order_id=ONE.hex()))
    memories.write(OrderMemory(order_id=TWO.hex()))
    (memories.order_folder(ONE) / "memory.json").write_bytes(damage)
    with caplog.at_level(logging.ERROR):
        again = Memories(tmp_path, OrderMemory)
    assert [memory.id for memory in again.active()] == [TWO]
    assert again.has(ONE) and "memory_unreadable" in caplog.text and ONE.hex()[:24] in caplog.text


def test_a_finished_order_is_read_from_disk_at_the_start_only(tmp_path: Path) -> None:
    """An idle loop's cost must not grow with what it has finished."""
    memories = Memories(tmp_path, OrderMemory)
    memories.write(OrderMemory(order_id=ONE.hex()))
    (memories.order_folder(ONE) / "memory.json").unlink()
    assert [memory.id for memory in memories.active()] == [ONE] and memories.has(ONE)
