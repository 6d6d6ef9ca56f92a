"""What a provider's notebook leaves in its workspace, and what it finds there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pot_lab.jobs.workspace import BadWorkspace, ScoringResult, ScoringTask, TrainingTask, Workspace, read_results


@pytest.fixture
def task(tmp_path: Path) -> TrainingTask:
    Workspace.create(tmp_path, {"stop_training_ms": 0}, {"weights.safetensors": b"initial", "graph.json": b"{}"})
    return TrainingTask(tmp_path)


def test_the_facts_are_written_last(tmp_path: Path) -> None:
    """So a supervisor that was killed meanwhile leaves no workspace that looks complete."""
    with pytest.raises(IsADirectoryError):
        (tmp_path / "models" / "b.safetensors").mkdir(parents=True)
        Workspace.create(tmp_path, {}, {"models/a.safetensors": b"a", "models/b.safetensors": b"b"})
    assert (tmp_path / "models" / "a.safetensors").read_bytes() == b"a"
    with pytest.raises(BadWorkspace, match=r"order\.json"):
        Workspace(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_a_folder_without_readable_facts_is_not_a_workspace(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "order.json").write_bytes(content)
    for kind in (Workspace, TrainingTask, ScoringTask):
        with pytest.raises(BadWorkspace, match="not a job's workspace"):
            kind(tmp_path)


def test_files_and_facts_are_read_back(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path / "new", {"title": "digits"}, {"graph.json": b"{}", "models/x.bin": b"x"})
    again = Workspace(str(tmp_path / "new"))
    assert made.order == again.order == {"title": "digits"}
    assert (again.graph, again.read("models/x.bin"), again.folder) == (b"{}", b"x", tmp_path / "new")


def test_submitted_models_are_numbered_and_logged(task: TrainingTask) -> None:
    before_ms = time.time_ns() // 1_000_000
    for number in range(1, 12):
        task.submit(b"model %d" % number, number / 10, number * 100)
    names = sorted(path.name for path in (task.folder / "models").iterdir())
    assert names == [f"{number:05d}.safetensors" for number in range(1, 12)]
    assert (task.folder / "models" / "00011.safetensors").read_bytes() == b"model 11"
    lines = [json.loads(line) for line in (task.folder / "submitted.jsonl").read_text().splitlines()]
    assert [(line["file"], line["validation_score"], line["step"]) for line in lines][-1] == (
        "00011.safetensors",
        1.1,
        1100,
    )
    after_ms = time.time_ns() // 1_000_000
    assert len(lines) == 11 and all(before_ms <= line["time_ms"] <= after_ms for line in lines)


def test_the_time_left_is_in_seconds(task: TrainingTask) -> None:
    task.order["stop_training_ms"] = time.time_ns() // 1_000_000 + 3_600_000
    assert 3_000 < task.seconds_left <= 3_600.001
    task.order["stop_training_ms"] = 0
    assert task.seconds_left < -1e9


def test_checkpoints_outlive_the_task(task: TrainingTask) -> None:
    (task.checkpoints / "step").write_text("5")
    assert (TrainingTask(task.folder).checkpoints / "step").read_text() == "5"
    assert task.weights == b"initial"


def test_evidence_is_kept_whatever_its_types(task: TrainingTask) -> None:
    task.record_evidence({"device": Path("cuda"), "seed": 3})
    assert json.loads(task.read("evidence.json")) == {"device": "cuda", "seed": 3}


def test_results_are_none_until_they_are_there(tmp_path: Path) -> None:
    assert read_results(tmp_path) is None
    result = {
        "mid": "ab" * 32,
        "total": 1,
        "count": 2,
        "valid": True,
        "root": "cd" * 32,
        "transcript": "t.bin",
        "top_hash": "ef" * 32,
        "top_total": 1,
    }
    (tmp_path / "results.json").write_text(json.dumps([result]))
    assert read_results(tmp_path) == [ScoringResult(**result)]


@pytest.mark.parametrize("mid", ["ab" * 31, "ab" * 33, "AB" * 32, "zz" * 32, "ab" * 32 + "\n"])
def test_ids_in_results_are_32_bytes_in_hex(mid: str, tmp_path: Path) -> None:
    result = {
        "mid": mid,
        "total": 1,
        "count": 2,
        "valid": True,
        "root": "cd" * 32,
        "transcript": "t.bin",
        "top_hash": "ef" * 32,
        "top_total": 1,
    }
    (tmp_path / "results.json").write_text(json.dumps([result]))
    with pytest.raises(BadWorkspace, match="results cannot be read"):
        read_results(tmp_path)
