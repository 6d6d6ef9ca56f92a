"""Scoring jobs: the same results as scoring in memory, whatever the models, without holding the test data."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pot_lab.errors import PotLabError
from pot_lab.jobs.workspace import BadWorkspace, ScoringTask, TrainingTask, Workspace
from pot_lab.scoring import (
    ModelArtifact,
    dataset_root,
    export_model,
    pack_dataset,
    parse_transcript,
    save_dataset,
    score,
    unusable_score,
)
from pot_lab.scoring.errors import BadDataset
from pot_lab.scoring.given_data import Inputs
from pot_lab.scoring.tensor_file import write_tensors
from tests.scoring.models import exported, family, several_inputs

GOOD, BROKEN = "aa" * 32, "bb" * 32


def test_the_sizes_that_a_miner_accepts_are_those_of_the_readers() -> None:
    from pot_lab.jobs import scorer
    from pot_lab.scoring import DEFAULT_LIMITS
    from pot_lab.scoring.tensor_file import HEADER_LIMIT_BYTES

    own = (scorer.GRAPH_LIMIT_BYTES, scorer.WEIGHTS_LIMIT_BYTES, scorer.DATA_LIMIT_BYTES, scorer.HEADER_LIMIT_BYTES)
    limits = DEFAULT_LIMITS
    assert own == (limits.graph_bytes, limits.weights_bytes, limits.dataset_bytes, HEADER_LIMIT_BYTES)


def test_a_model_that_was_too_large_to_fetch_scores_as_unusable_weights_do(tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    task = laid_out(tmp_path, exported("mlp"), inputs, targets, dataset_root(inputs, targets))
    _, broken = task.score_all()
    (tmp_path / f"models/{BROKEN}.safetensors").unlink()
    task.order["oversize"] = {BROKEN: "9 bytes"}
    _, oversize = task.score_all()
    assert {**oversize, "error": None} == {**broken, "error": None} and "larger" in oversize["error"]


def test_files_are_linked_into_a_workspace_or_copied_where_links_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"weights")
    linked = Workspace.create(tmp_path / "a", {}, {"models/m": source, "b": b"bytes"})
    assert linked.read("models/m") == b"weights" and linked.read("b") == b"bytes"
    assert os.path.samefile(source, tmp_path / "a/models/m")

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    copied = Workspace.create(tmp_path / "b", {}, {"m": source})
    assert copied.read("m") == b"weights" and not os.path.samefile(source, tmp_path / "b/m")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["m", "order.json"]


def laid_out(folder: Path, artifact: ModelArtifact, inputs: Inputs, targets: torch.Tensor, root: bytes) -> ScoringTask:
    order = {"score": "accuracy/1", "models": [GOOD, BROKEN], "test_root": root.hex()}
    files = {
        "graph.json": artifact.graph,
        f"models/{GOOD}.safetensors": artifact.weights,
        f"models/{BROKEN}.safetensors": b"\x80\x04 no weights",
    }
    Workspace.create(folder, order, files)
    save_dataset(folder / "test.safetensors", inputs, targets)
    return ScoringTask(folder)


@pytest.mark.parametrize("several", [False, True])
def test_a_job_scores_all_models_of_an_order(several: bool, tmp_path: Path) -> None:
    if several:
        module, inputs, targets = several_inputs()
        artifact = export_model(module, tuple(x[:2] for x in inputs))
    else:
        _, inputs, targets = family("mlp")
        artifact = exported("mlp")
    task = laid_out(tmp_path, artifact, inputs, targets, dataset_root(inputs, targets))
    seen: list[tuple[int, int]] = []
    good, broken = task.score_all(lambda done, of, result: seen.append((done, of)))
    wanted = score(artifact, inputs, targets)
    assert (good["total"], good["count"], good["valid"], good["root"]) == (wanted.total, 70, True, wanted.root.hex())
    assert parse_transcript((tmp_path / good["transcript"]).read_bytes(), count=70).root == wanted.root
    assert broken["root"] == unusable_score("accuracy", 70).root.hex() and "pickle" in broken["error"]
    assert json.loads((tmp_path / "results.json").read_text()) == [good, broken] and seen == [(1, 2), (2, 2)]


def test_a_job_refuses_other_test_data(tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    task = laid_out(tmp_path / "other", exported("mlp"), inputs, targets, bytes(32))
    with pytest.raises(BadWorkspace, match="do not hash to the order's root"):
        task.score_all()
    inputs = inputs.clone()
    inputs[41, 3] = torch.nan
    with pytest.raises(PotLabError, match="not finite"):
        laid_out(tmp_path / "spoiled", exported("mlp"), inputs, targets, bytes(32))


def test_a_provider_gets_several_inputs_as_a_tuple(tmp_path: Path) -> None:
    _, inputs, targets = several_inputs()
    Workspace.create(tmp_path, {}, {"train.safetensors": pack_dataset(inputs, targets)})
    found, labels = TrainingTask(tmp_path).train_data()
    assert all(map(torch.equal, found, inputs)) and torch.equal(labels, targets)


def test_training_data_are_mapped_and_the_file_never_changes(tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    Workspace.create(tmp_path, {}, {"train.safetensors": pack_dataset(inputs, targets)})
    before = (tmp_path / "train.safetensors").read_bytes()
    found, labels = TrainingTask(tmp_path).train_data()
    assert torch.equal(found, inputs) and torch.equal(labels, targets)
    found.zero_()
    assert (tmp_path / "train.safetensors").read_bytes() == before


def test_training_data_at_odd_places_of_their_file_are_read_too(tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    data = pack_dataset(inputs, targets)
    (length,) = struct.unpack("<Q", data[:8])
    odd = struct.pack("<Q", length + 1) + data[8 : 8 + length] + b" " + data[8 + length :]
    Workspace.create(tmp_path, {}, {"train.safetensors": odd})
    found, labels = TrainingTask(tmp_path).train_data()
    assert torch.equal(found, inputs) and torch.equal(labels, targets)


def test_training_data_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    inputs = inputs.clone()
    inputs[5, 1] = torch.inf
    Workspace.create(tmp_path, {}, {"train.safetensors": write_tensors({"inputs": inputs, "targets": targets})})
    with pytest.raises(BadDataset, match="example 5"):
        TrainingTask(tmp_path).train_data()


PEAK = """
import sys
from pot_lab.jobs.workspace import ScoringTask
results = ScoringTask(sys.argv[1]).score_all()
print(results[0]["count"], int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's own peak")
def test_a_jobs_memory_does_not_grow_with_the_test_data(tmp_path: Path) -> None:
    torch.manual_seed(0)
    artifact = export_model(nn.Linear(1024, 4), torch.zeros(2, 1024))
    row, target = torch.randn(1, 1024), torch.zeros(1, dtype=torch.int64)
    peaks_mib = []
    for count in (512, 100_000):  # 2 MiB and 391 MiB
        inputs, targets = row.expand(count, -1), target.expand(count)
        folder = tmp_path / str(count)
        laid_out(folder, artifact, inputs, targets, dataset_root(inputs, targets))
        done = subprocess.run([sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True)
        found, peak = map(int, done.stdout.split())
        assert found == count
        peaks_mib.append(peak)
    assert peaks_mib[1] - peaks_mib[0] < 100, peaks_mib
