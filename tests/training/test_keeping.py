"""Checkpoints and other slow work beside the training."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pot_lab.training.background import SHARE, Background
from pot_lab.training.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint
from pot_lab.training.keeping import Keeper

STATE = {
    "model.a": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7.0),
    "best": torch.arange(5, dtype=torch.uint8),
    "none": torch.empty(0, 4),
}


def test_a_checkpoint_is_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    assert save_checkpoint(tmp_path, STATE, {"step": 3})
    found, values = load_checkpoint(tmp_path)
    for tensors in (found, load_file(tmp_path / FILE_NAME)):
        assert set(tensors) == set(STATE)
        assert all(torch.equal(tensors[name], t) and tensors[name].dtype == t.dtype for name, t in STATE.items())
    assert values["step"] == 3


def test_a_checkpoint_that_is_given_up_leaves_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, STATE, {"step": 1})
    assert not save_checkpoint(tmp_path, STATE, {"step": 2}, abandoned=lambda: True)
    assert load_checkpoint(tmp_path)[1]["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".{FILE_NAME}.0123.tmp").write_bytes(b"half")
    save_checkpoint(tmp_path, STATE, {})
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_state_may_change_while_its_checkpoint_is_written(tmp_path: Path) -> None:
    keeper, state = Keeper(tmp_path, "ab"), {"a": torch.zeros(1000)}
    keeper.save(state, {"step": 1}, beside=True)
    state["a"].fill_(9.0)
    keeper.open()
    keeper._background.finish()
    found = keeper.resume()
    assert found is None or not found[0]["a"].any()


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    Keeper(tmp_path / "file", "ab").save({"a": torch.zeros(1)}, {}, beside=False)
    assert "event=checkpoint_not_written" in caplog.text


def test_the_newest_piece_is_done_and_those_before_it_are_left_out() -> None:
    worker, began, go = Background("test"), threading.Event(), threading.Event()
    done: list[int] = []

    def first() -> None:
        began.set()
        go.wait()
        done.append(1)

    worker.put(first)
    began.wait()
    assert not worker.is_due()
    worker.put(lambda: done.append(2))
    worker.put(lambda: done.append(3))
    go.set()
    assert worker.finish() and done == [1, 3]


def test_pieces_take_a_small_part_of_the_time() -> None:
    now = [100.0]
    worker = Background("test", lambda: now[0])
    worker.run(lambda: now.__setitem__(0, 102.0))
    assert worker.cost_s == 2.0 and not worker.is_due()
    now[0] = 102.0 + 2.0 * (1 / SHARE - 1)
    assert worker.is_due()


def test_what_waits_can_be_dropped_and_what_fails_is_told_once() -> None:
    worker, done = Background("test", lambda: 0.0), []
    worker._rested_at = 10.0  # nothing begins by itself
    worker.put(lambda: done.append(1))
    assert worker.finish(drop=True) and done == []
    worker.put(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        worker.finish()
    assert worker.finish()
