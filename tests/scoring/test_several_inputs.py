"""Models with several inputs: in memory, from files, by workers, in disputes, in training; and data that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.cli import main as cli
from pot_lab.errors import PotLabError
from pot_lab.scoring import (
    DatasetFile,
    ModelArtifact,
    dataset_proof,
    dataset_root,
    exact_model,
    example_leaf,
    export_model,
    load_graph,
    pack_dataset,
    save_dataset,
    score,
    score_example,
    score_file,
    trainable,
    unpack_dataset,
)
from pot_lab.scoring.errors import BadDataset, DtypeMismatch, HostileGraph, ShapeMismatch
from pot_lab.scoring.graph.model_graph import encode_graph
from pot_lab.scoring.tensor_file import write_tensors
from pot_lab.training import Trainer, TrainerSettings
from tests.scoring import numpy_scoring, other_backends
from tests.scoring.graphs import document, entry
from tests.scoring.models import exported, several_inputs
from tests.scoring.test_identity import digest

Three = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def artifact() -> ModelArtifact:
    module, inputs, _ = several_inputs()
    return export_model(module, tuple(x[:2] for x in inputs))


def written(folder: Path, artifact: ModelArtifact, inputs: Three, targets: Tensor) -> list[Path]:
    files = [folder / name for name in ("graph.json", "weights.safetensors", "data.safetensors")]
    files[0].write_bytes(artifact.graph)
    files[1].write_bytes(artifact.weights)
    save_dataset(files[2], inputs, targets)
    return files


def test_a_graph_names_several_inputs_and_not_the_only_one(artifact: ModelArtifact) -> None:
    graph = load_graph(artifact.graph)
    assert [(i.name, i.dtype, i.shape) for i in graph.inputs] == [
        ("input_ids", "int64", (12,)),
        ("attention_mask", "int64", (12,)),
        ("features", "float32", (4,)),
    ]
    assert [set(i) for i in json.loads(exported("mlp").graph)["inputs"]] == [{"dtype", "shape"}]


@pytest.mark.parametrize("slices", [1, 2])
def test_the_bits_are_the_same_however_they_are_computed(artifact: ModelArtifact, slices: int) -> None:
    _, inputs, targets = several_inputs()
    inputs, targets = tuple(x[:20] for x in inputs), targets[:20]
    graph = load_graph(artifact.graph)
    theirs = numpy_scoring.run(artifact.graph, artifact.weights, *(x.numpy() for x in inputs), slices=slices)
    found = {digest(theirs)}
    for make, batch, threads in zip(other_backends.ALL.values(), (3, 7, 20, 1, 20, 7), (1, 2, 1, 1, 1, 2), strict=True):
        torch.set_num_threads(threads)
        exact = exact_model(graph, artifact.weights, backend=make(), slices=slices)
        parts = [exact.run(*(x[i : i + batch] for x in inputs))[0] for i in range(0, 20, batch)]
        found.add(digest(torch.cat(parts)))
        torch.set_num_threads(1)
    assert len(found) == 1
    result = score(artifact, inputs, targets, "cross_entropy", slices=slices)
    values, total = numpy_scoring.scored("cross_entropy/1", theirs, targets.numpy())
    assert (result.transcript.values.tolist(), result.total) == (values, total)


def test_every_way_to_score_gives_the_same_score(artifact: ModelArtifact, tmp_path: Path) -> None:
    module, inputs, targets = several_inputs()
    wanted = score(module, inputs, targets, "cross_entropy")
    arrays = tuple(x.numpy() for x in inputs)
    assert score(artifact, arrays, targets.numpy(), "cross_entropy", batch_size=7) == wanted  # type: ignore[arg-type]
    files = written(tmp_path, artifact, inputs, targets)
    assert score_file(*files, "cross_entropy") == wanted
    for index in (0, 33, 69):
        one = score_example(artifact, inputs, targets, "cross_entropy", index=index)
        assert wanted.transcript.proof(index).verify(wanted.root, wanted.total, one.leaf(True))


@pytest.mark.slow
def test_workers_and_the_command_take_several_inputs(
    artifact: ModelArtifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, inputs, targets = several_inputs()
    files = written(tmp_path, artifact, inputs, targets)
    wanted = score(artifact, inputs, targets)
    options = ["--graph", str(files[0]), "--weights", str(files[1]), "--data", str(files[2])]
    assert cli.main(["score", *options, "--json", "--workers", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["root"] == wanted.root.hex()


def test_a_data_set_of_several_inputs_comes_back(tmp_path: Path) -> None:
    _, inputs, targets = several_inputs()
    data, path = pack_dataset(inputs, targets), tmp_path / "data.safetensors"
    save_dataset(path, inputs, targets)
    assert DatasetFile(path).root() == dataset_root(inputs, targets)
    for found in (unpack_dataset(data), unpack_dataset(path.read_bytes()), DatasetFile(path)):
        assert isinstance(found.inputs, tuple) and found.examples == 70
        assert all(map(torch.equal, found.inputs, inputs)) and torch.equal(found.targets, targets)


def test_the_root_names_all_inputs_of_every_example() -> None:
    _, (ids, mask, features), targets = several_inputs()
    inputs = ids, mask, features
    root = dataset_root(inputs, targets)
    assert dataset_proof(inputs, targets, 3).verify(root, example_leaf(inputs, targets, 3))
    moved = features.clone()
    moved[41, 2] += 1e-6
    others = [
        dataset_root((ids, mask, moved), targets),
        dataset_root((mask, ids, features), targets),
        dataset_root((ids, mask), targets),
        dataset_root(ids, targets),
        dataset_root(torch.stack([ids, mask], 1), targets),
    ]
    assert len({root, *others}) == 6


def test_a_tuple_of_one_is_that_one() -> None:
    inputs, targets = torch.randn(5, 20), torch.zeros(5, dtype=torch.int64)
    assert pack_dataset((inputs,), targets) == pack_dataset(inputs, targets)
    assert score(exported("mlp"), (inputs,), targets) == score(exported("mlp"), inputs, targets)


CHANGES: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], object], type[PotLabError], str]] = {
    "one is missing": (lambda i, m, f: (i, m), ShapeMismatch, "a tuple of 3: input_ids, attention_mask, features"),
    "one alone": (lambda i, m, f: i, ShapeMismatch, "another number of inputs"),
    "one too many": (lambda i, m, f: (i, m, f, f), ShapeMismatch, "number of inputs.*seen: 4"),
    "none": (lambda i, m, f: (), ShapeMismatch, "another number of inputs"),
    "in another order": (lambda i, m, f: (i, f, m), DtypeMismatch, "number 1, have another.*'attention_mask'"),
    "shorter": (lambda i, m, f: (i, m[:69], f), ShapeMismatch, r"inputs\.1 and targets.*69 and 70"),
    "another shape": (lambda i, m, f: (i, m, f[:, :3]), ShapeMismatch, "number 2.*'features'"),
    "not finite": (lambda i, m, f: (i, m, f / 0.0), BadDataset, r"inputs\.2.*not finite.*example 0"),
    "no tensor": (lambda i, m, f: (i, "mask", f), DtypeMismatch, "number 1, are no tensor"),
    "a list": (lambda i, m, f: [i, m, f], DtypeMismatch, "a tuple of them"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_inputs_that_do_not_fit_are_refused(kind: str, artifact: ModelArtifact) -> None:
    _, inputs, targets = several_inputs()
    change, error, text = CHANGES[kind]
    with pytest.raises(error, match=text):
        score(artifact, change(*inputs), targets)  # type: ignore[arg-type]


def test_several_inputs_for_a_model_of_one_are_refused() -> None:
    x = torch.randn(5, 20)
    with pytest.raises(ShapeMismatch, match="one tensor"):
        score(exported("mlp"), (x, x), torch.zeros(5, dtype=torch.int64))


ROWS = {"inputs.0": torch.zeros(4, 3), "inputs.1": torch.zeros(4, 2), "targets": torch.zeros(4)}
BAD_FILES: dict[str, dict[str, Tensor]] = {
    "one input with a number": {"inputs.0": ROWS["inputs.0"], "targets": ROWS["targets"]},
    "a number left out": {"inputs.0": ROWS["inputs.0"], "inputs.2": ROWS["inputs.1"], "targets": ROWS["targets"]},
    "numbers from 1": {"inputs.1": ROWS["inputs.0"], "inputs.2": ROWS["inputs.1"], "targets": ROWS["targets"]},
    "a number with a zero before": {
        "inputs.0": ROWS["inputs.0"],
        "inputs.01": ROWS["inputs.1"],
        "targets": torch.ones(4),
    },
    "with and without numbers": ROWS | {"inputs": torch.zeros(4, 3)},
    "no targets": {"inputs.0": ROWS["inputs.0"], "inputs.1": ROWS["inputs.1"]},
    "only targets": {"targets": ROWS["targets"]},
    "another name": ROWS | {"mask": torch.zeros(4)},
    "seventeen inputs": {f"inputs.{i}": torch.zeros(4, 1) for i in range(17)} | {"targets": torch.zeros(4)},
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_with_other_tensors_are_refused(kind: str, tmp_path: Path) -> None:
    data, path = write_tensors(BAD_FILES[kind]), tmp_path / "data.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadDataset, match="holds inputs and targets"):
        unpack_dataset(data)
    with pytest.raises(BadDataset, match="holds inputs and targets"):
        DatasetFile(path)


def test_inputs_of_different_lengths_are_refused_in_files(tmp_path: Path) -> None:
    data = write_tensors(ROWS | {"inputs.1": torch.zeros(3, 2)})
    (tmp_path / "data").write_bytes(data)
    for read in (lambda: unpack_dataset(data), lambda: DatasetFile(tmp_path / "data")):
        with pytest.raises(ShapeMismatch, match=r"inputs\.1 and targets"):
            read()
    with pytest.raises(BadDataset, match="one tensor of inputs or several"):
        pack_dataset(tuple(torch.zeros(4, 1) for _ in range(17)), torch.zeros(4))


def named(*names: object) -> list[dict]:
    return [entry((3,)) | ({} if n is None else {"name": n}) for n in names]


BAD_INPUTS = {
    "the only one has a name": named("x"),
    "one has none": named("x", None),
    "the same name": named("x", "x"),
    "an empty name": named("x", ""),
    "a name with a dot": named("x", "a.b"),
    "a name that begins with a digit": named("x", "1y"),
    "a Unicode name": named("x", "м"),
    "a name that is a number": named("x", 3),
    "a name that is long": named("x", "y" * 101),
    "too many": named(*(f"x{i}" for i in range(17))),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_hostile_inputs_of_a_graph_are_refused(kind: str) -> None:
    nodes = [{"op": "aten.relu.default", "args": [{"$": 2}], "kwargs": {}}]
    inputs = BAD_INPUTS[kind]
    with pytest.raises(HostileGraph):
        load_graph(encode_graph(document(inputs=inputs, nodes=nodes, outputs=[2 + len(inputs)])))


def test_examples_of_two_inputs_are_not_mixed() -> None:
    """What one input says of an example may not meet another example of the other input."""

    class Mixed(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x @ y.t() @ x

    with pytest.raises(PotLabError, match="depends on the examples too"):
        export_model(Mixed(), (torch.randn(5, 4), torch.randn(5, 4)))


def test_inputs_by_position_have_names_too() -> None:
    class Sum(nn.Module):
        def forward(self, *xs: Tensor) -> Tensor:
            return xs[0] + xs[1] * 2.0

    graph = load_graph(export_model(Sum(), (torch.randn(3, 4), torch.randn(3, 4))).graph)
    assert len({i.name for i in graph.inputs}) == 2 and all(i.name for i in graph.inputs)


def test_a_trainer_takes_several_inputs(tmp_path: Path) -> None:
    """Also after a stop: the second half of a training ends in the bits of a whole one."""
    module, (ids, mask, features), _ = several_inputs()
    targets = features[:, :3].argmax(1)
    artifact = export_model(module, (ids[:2], mask[:2], features[:2]))
    settings = TrainerSettings(learning_rate=1e-2, batch_size=16, seed=1, schedule="constant")

    def trainer(folder: Path) -> Trainer:
        return Trainer(
            artifact.graph, artifact.weights, (ids, mask, features), targets, settings=settings, checkpoint_dir=folder
        )

    whole = trainer(tmp_path / "whole").train_until(steps=40)
    trainer(tmp_path / "half").train_until(steps=20)
    again = trainer(tmp_path / "half")
    assert again.step == 20 and again.train_until(steps=40).weights == whole.weights
    before, after = (
        score((artifact.graph, w), (ids, mask, features), targets) for w in (artifact.weights, whole.weights)
    )
    assert after.better_than(before)
    with pytest.raises(ShapeMismatch, match="another number of inputs"):
        Trainer(artifact.graph, artifact.weights, ids, targets)


def test_a_graph_with_several_inputs_is_the_module(artifact: ModelArtifact) -> None:
    module, inputs, _ = several_inputs()
    twin = trainable(load_graph(artifact.graph), artifact.weights).eval()
    assert torch.equal(twin(*inputs), module(*inputs))
    with pytest.raises(ShapeMismatch, match="another number of inputs"):
        twin(inputs[0])
    (out,) = exact_model(load_graph(artifact.graph), artifact.weights).run(*inputs)
    assert np.allclose(out.numpy(), module(*inputs).detach().numpy(), atol=1e-5)
    assert F.cross_entropy(twin(*inputs), torch.zeros(70, dtype=torch.int64)).requires_grad
