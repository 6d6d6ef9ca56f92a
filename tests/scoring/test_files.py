"""Files of any size, and any number of processes: the same score, in memory that does not grow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from pot_lab.cli import main as cli
from pot_lab.scoring import (
    Dataset,
    DatasetFile,
    ModelArtifact,
    evaluate,
    export_model,
    pack_dataset,
    parse_transcript,
    save_dataset,
    score,
    score_file,
    unpack_dataset,
)
from pot_lab.scoring.errors import BadDataset, DtypeMismatch, ShapeMismatch, WorkerFailed
from pot_lab.scoring.tensor_file import DTYPES, write_tensors
from tests.scoring.models import exported, family


def written(folder: Path, artifact: ModelArtifact, inputs: torch.Tensor, targets: torch.Tensor) -> list[Path]:
    files = [folder / name for name in ("graph.json", "weights.safetensors", "data.safetensors")]
    files[0].write_bytes(artifact.graph)
    files[1].write_bytes(artifact.weights)
    save_dataset(files[2], inputs, targets)
    return files


@pytest.fixture
def always_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "WORKERS_WORTH_S", 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("always_processes")
def test_files_and_workers_give_the_same_score(tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    artifact = exported("mlp")
    files = written(tmp_path, artifact, inputs, targets)
    wanted = score(artifact, inputs, targets, "cross_entropy", slices=2)
    assert score_file(*files, "cross_entropy", slices=2) == wanted
    assert score_file(*files, "cross_entropy", slices=2, workers=2, batch_size=7) == wanted


def test_little_work_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs, targets = family("mlp")
    files = written(tmp_path, exported("mlp"), inputs, targets)
    wanted = score(module, inputs, targets)
    monkeypatch.setattr(evaluate, "run_workers", lambda *given, **named: pytest.fail("a process was started"))
    assert score(module, inputs, targets, workers=2) == wanted == score_file(*files, workers=2)
    monkeypatch.setattr(evaluate, "WORKERS_WORTH_S", 0.0)
    with pytest.raises(pytest.fail.Exception, match="a process was started"):
        score_file(*files, workers=2)


@pytest.mark.long
@pytest.mark.usefixtures("always_processes")
def test_a_module_in_memory_is_scored_by_workers_too() -> None:
    module, inputs, targets = family("mlp")
    assert score(module, inputs, targets, workers=2) == score(module, inputs, targets)


@pytest.mark.long
@pytest.mark.usefixtures("always_processes")
def test_an_invalid_score_is_the_same_with_workers(tmp_path: Path) -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    inputs = torch.rand(9, 3)
    inputs[4, 1] = -1.0
    targets = torch.zeros(9, dtype=torch.int64)
    files = written(tmp_path, export_model(Root(), inputs[:2]), inputs, targets)
    result = score_file(*files, workers=2)
    assert not result.valid and result == score_file(*files)
    assert result.transcript.values.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.usefixtures("always_processes")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_value_that_is_not_finite_is_found_while_scoring(workers: int, tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    files = written(tmp_path, exported("mlp"), inputs, targets)
    spoiled = bytearray(files[2].read_bytes())
    place = spoiled.index(inputs[41].numpy().tobytes())
    spoiled[place : place + 4] = b"\x00\x00\xc0\x7f"
    files[2].write_bytes(spoiled)
    with pytest.raises((BadDataset, WorkerFailed), match=r"not finite.*example 41"):
        score_file(*files, workers=workers)


def test_no_workers_are_refused() -> None:
    module, inputs, targets = family("mlp")
    with pytest.raises(WorkerFailed, match="needs a worker"):
        score(module, inputs, targets, workers=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_a_data_file_comes_back_from_its_pages(dtype: torch.dtype, tmp_path: Path) -> None:
    inputs, targets = torch.arange(7 * 5).reshape(7, 5).to(dtype), torch.arange(7)
    path = tmp_path / "data.safetensors"
    for write in (lambda: save_dataset(path, inputs, targets), lambda: path.write_bytes(pack_dataset(inputs, targets))):
        write()
        again = DatasetFile(path)
        for _ in range(2):
            assert torch.equal(again.inputs, inputs) and again.inputs.dtype == dtype
            assert torch.equal(again.targets, targets)
            again.release()
        assert all(map(torch.equal, unpack_dataset(path.read_bytes()), Dataset(inputs, targets)))


def test_a_broken_data_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.safetensors"
    good = pack_dataset(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    for bad in (b"", good[:-1], good + b"\0", b"\x80\x04" + good, good.replace(b"inputs", b"inputz")):
        path.write_bytes(bad)
        with pytest.raises(BadDataset):
            DatasetFile(path)
    with pytest.raises(DtypeMismatch):
        save_dataset(path, torch.zeros(4, 3, dtype=torch.int32), torch.zeros(4))
    with pytest.raises(ShapeMismatch):
        save_dataset(path, torch.zeros(4, 3), torch.zeros(5))


def test_the_command_prints_the_score_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, inputs, targets = family("mlp")
    artifact = exported("mlp")
    graph, weights, data = map(str, written(tmp_path, artifact, inputs, targets))
    options = ["score", "--graph", graph, "--weights", weights, "--data", data, "--function", "cross_entropy"]
    transcript = tmp_path / "transcript.bin"
    assert cli.main([*options, "--json", "--slices", "2", "--transcript", str(transcript)]) == 0
    facts = json.loads(capsys.readouterr().out)
    wanted = score(artifact, inputs, targets, "cross_entropy", slices=2)
    assert (facts["total"], facts["valid"], facts["root"]) == (wanted.total, True, wanted.root.hex())
    assert facts["function"] == "cross_entropy[slices=2]/1" and facts["digest"] == wanted.digest.hex()
    assert parse_transcript(transcript.read_bytes(), count=70).root == wanted.root
    assert cli.main(options) == 0
    assert f"{score(artifact, inputs, targets, 'cross_entropy').total} over 70 examples" in capsys.readouterr().out
    assert cli.main([*options[:-1], "guesses"]) == 1
    assert "UnknownScoreFunction" in capsys.readouterr().err
    assert cli.main(["score", "--graph", graph, "--weights", weights, "--data", str(tmp_path / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err


PEAK = """
import sys
from pathlib import Path
from pot_lab.scoring import evaluate, score_file
found = score_file(*map(Path, sys.argv[1:]), batch_size=256)
print(found.count, int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's own peak")
def test_peak_memory_does_not_grow_with_the_data_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    artifact = export_model(nn.Linear(1024, 4), torch.zeros(2, 1024))
    peaks_mib = []
    for count in (512, 40_000):  # 2 MiB and 157 MiB
        row = torch.randn(1, 1024)
        files = written(tmp_path, artifact, row.expand(count, -1), torch.zeros(1, dtype=torch.int64).expand(count))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, files)], capture_output=True, text=True, check=True
        )
        found, peak = map(int, done.stdout.split())
        assert found == count
        peaks_mib.append(peak)
    # pages of the mapped file that the system keeps for a while count too; the whole file would be 155 MiB more
    assert peaks_mib[1] - peaks_mib[0] < 100, peaks_mib


@pytest.mark.parametrize("metadata", [None, {"kind": "weights"}])
def test_a_file_is_written_as_the_library_writes_it(metadata: dict[str, str] | None) -> None:
    numbers = torch.Generator().manual_seed(0)
    tensors = {
        f"{name} {place}": (torch.randn(shape, generator=numbers) * 3).to(dtype)
        for place, dtype in enumerate(DTYPES.values())
        for name, shape in (("b.c", ()), ('é"\\\n', (0, 3)), ("Z", (2, 3)), ("_", (5,)))
    }
    assert write_tensors(tensors, metadata) == save(tensors, metadata)
    assert write_tensors({}) == save({})
