"""Tables with a target column and folders of images, as orders take them, and refusals by row, column and file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pot_lab.errors import Oversize
from pot_lab.notebook.data import read_data
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.posting import prepare
from pot_lab.scoring import Limits, exact_model, load_graph, score, trainable, unpack_dataset
from pot_lab.scoring.errors import DtypeMismatch
from pot_lab.training import Trainer

TABLE = pd.DataFrame(
    {
        "width": np.linspace(0.0, 1.0, 40, dtype=np.float32),
        "kind": (np.arange(40) % 3).astype(np.int32),
        "height": np.linspace(2.0, 1.0, 40, dtype=np.float32),
    }
)


def test_a_pandas_table_gives_its_columns_in_order() -> None:
    data = read_data("train", (TABLE, "kind"))
    assert isinstance(data.inputs, Tensor) and data.inputs.dtype is torch.float32
    assert torch.equal(data.inputs, torch.tensor(TABLE[["width", "height"]].to_numpy()))
    assert data.targets.dtype is torch.int64 and data.targets[:4].tolist() == [0, 1, 2, 0]
    rows = TABLE.drop(index=[0, 7])  # an index with gaps
    assert torch.equal(read_data("train", (rows, "kind")).targets[:2], torch.tensor([1, 2]))


def test_columns_of_arrays_are_inputs_of_their_own() -> None:
    table = pd.DataFrame({"a": list(np.zeros((5, 2, 3), np.float32)), "y": range(5), "b": list(np.ones((5, 4)))})
    inputs, targets = read_data("train", (table, "y"))
    assert [x.shape for x in inputs] == [(5, 2, 3), (5, 4)] and targets.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(BadArgument, match=r"numbers: n; arrays: a, b.*a table of the columns"):
        read_data("train", (table.assign(n=1.0), "y"))


REFUSED: dict[str, tuple[Any, str]] = {
    "no such column": (
        TABLE,
        r"no column of the target's name \(seen: kinds, wanted: did you mean 'kind'.* There are width, kind, height",
    ),
    "a missing number": (TABLE.assign(width=[1.0, np.nan] * 20), r"no finite number \(seen: row 1, column 'width'"),
    "text": (TABLE.assign(width=["a"] * 40), r"seen: str 'a' in row 0, column 'width'"),
    "nothing": (TABLE.assign(width=[*[1.0] * 39, None], kinds=0).astype({"width": object}), "row 39, column 'width'"),
    "dates": (TABLE.assign(width=pd.Timestamp("2020-01-01"), kinds=0), "column 'width' of `train` hold dates"),
    "mixed types": (
        TABLE.assign(width=1, kinds=0).drop(columns="kind"),
        r"column 'width': torch.int64, wanted: torch.float32",
    ),
    "a large whole number": (
        pd.DataFrame({"a": [1 << 60, 1], "b": [0.5, 1.0], "kinds": [0, 1]}),
        r"column 'a': 1152921504606846976, wanted: whole numbers up to 2\^53",
    ),
    "arrays of two shapes": (
        pd.DataFrame({"a": [np.zeros(3), np.zeros(4)], "kinds": [0, 1]}),
        r"column 'a' of `train` have different shapes \(seen: row 1: \(4,\), wanted: \(3,\)",
    ),
    "lists of two lengths": (pd.DataFrame({"a": [[1, 2], [[1], [2, 3]]], "kinds": [0, 1]}), "row 1, column 'a'"),
    "a column twice": (pd.DataFrame([[1, 2, 3]], columns=["a", "a", "kinds"]), "has a column twice"),
    "the target alone": (pd.DataFrame({"kinds": [1]}), "no column beside the target"),
    "no rows": (TABLE.assign(kinds=0)[:0], "too few examples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_is_refused_by_row_and_column(name: str) -> None:
    table, reason = REFUSED[name]
    if name in ("a missing number", "text"):
        table = table.rename(columns={"kind": "kinds"})
    with pytest.raises(BadArgument, match=reason):
        read_data("train", (table, "kinds"))


def test_a_table_without_a_target_is_asked_for_one() -> None:
    for given in (TABLE, Path("data.parquet")):
        with pytest.raises(BadArgument, match=r'wanted: \(table, "target"\)'):
            read_data("train", given)
    with pytest.raises(Oversize, match="too many examples"):
        read_data("train", (TABLE, "kind"), Limits(examples=39))


def test_parquet_and_arrow_files_are_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    feather, parquet = pytest.importorskip("pyarrow.feather"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {"x": arrow.array([[1.0, 2.0], [3.0, 4.0]], arrow.list_(arrow.float32(), 2)), "y": arrow.array([0, 1])}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.arrow")
    for given in (tmp_path / "a.parquet", str(tmp_path / "a.arrow"), table):
        inputs, targets = read_data("train", (given, "y"))
        assert torch.equal(inputs, torch.tensor([[1.0, 2.0], [3.0, 4.0]])) and targets.tolist() == [0, 1]
    holes = arrow.table({"x": [1.0, None], "y": [0, 1]})
    with pytest.raises(BadArgument, match="row 1, column 'x'"):
        read_data("train", (holes, "y"))
    (tmp_path / "b.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(BadArgument, match="is no parquet file"):
        read_data("train", (tmp_path / "b.parquet", "y"))


def test_hugging_face_datasets_are_read() -> None:
    datasets = pytest.importorskip("datasets")
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"text": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "label": [0, 1, 0]})
    rows = datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint="words")  # some versions hash no table
    for given, first in ((rows, 1), (rows.select([1, 2]), 4)):
        inputs, targets = read_data("train", (given, "label"))
        assert inputs.dtype is torch.int64 and int(inputs[0, 0]) == first and len(targets) == len(given)


def painted(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for label, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = generator.integers(0, 100, (6, 8, 3), dtype=np.uint8) + 100 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:02}.png")
    (folder / ".hidden").mkdir()
    return folder


class Seen(nn.Module):
    """Bytes, cast in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.float() / 255)


def test_a_folder_of_images_is_ordered_trained_and_scored_as_bytes(tmp_path: Path) -> None:
    train, test = painted(tmp_path / "train"), painted(tmp_path / "test")
    pixels = np.asarray(Image.open(train / "dogs" / "03.png"))
    data = read_data("train", train)
    assert isinstance(data.inputs, Tensor) and data.inputs.dtype is torch.uint8 and data.inputs.shape == (24, 3, 6, 8)
    assert np.array_equal(data.inputs[15].permute(1, 2, 0), pixels) and data.targets.tolist() == [0] * 12 + [1] * 12
    torch.manual_seed(0)
    module = Seen()
    order = prepare(module, train, test, "accuracy")
    assert len(order.train) < 24 * 6 * 8 * 3 + 2000  # a byte a value
    inputs, targets = unpack_dataset(order.test)
    graph = load_graph(order.graph)
    assert graph.inputs[0].dtype == "uint8"
    (exact,) = exact_model(graph, order.weights).run(inputs)  # type: ignore[arg-type]
    assert torch.allclose(exact, module.eval()(inputs).double(), atol=1e-6)
    trainer = Trainer(order.graph, order.weights, *unpack_dataset(order.train))
    trainer.train_until(steps=300)
    won = trainable(graph, trainer.model.to_weights())
    first, last = (
        score(exact_model(graph, w), inputs, targets, "cross_entropy").total for w in (order.weights, won.to_weights())
    )
    assert last < first


def test_a_folder_of_images_is_refused_by_file(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="a folder without images"):
        read_data("train", tmp_path)
    folder = painted(tmp_path / "a")
    Image.new("RGB", (8, 7)).save(folder / "dogs" / "99.png")
    with pytest.raises(BadArgument, match=r"dogs/99.png: 8 x 7, wanted: 8 x 6, as cats/00.png has"):
        read_data("train", folder)
    Image.new("RGBA", (8, 6)).save(folder / "dogs" / "99.png")
    with pytest.raises(BadArgument, match=r"dogs/99.png: mode RGBA"):
        read_data("train", folder)
    (folder / "dogs" / "99.png").write_bytes(b"no picture")
    with pytest.raises(BadArgument, match=r"cannot be read \(seen: dogs/99.png"):
        read_data("train", folder)
    (folder / "dogs" / "99.png").unlink()
    (folder / "emus").mkdir()
    with pytest.raises(BadArgument, match=r"a class without images \(seen: .*: emus"):
        read_data("train", folder)
    with pytest.raises(Oversize, match="too many examples"):
        read_data("train", folder, Limits(examples=5)) if (folder / "emus").rmdir() is None else None


def test_grey_pictures_have_one_channel(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    Image.new("L", (4, 3), 7).save(tmp_path / "x" / "0.png")
    assert torch.equal(read_data("train", tmp_path).inputs, torch.full((1, 1, 3, 4), 7, dtype=torch.uint8))  # type: ignore[arg-type]


def test_memory_mapped_arrays_and_signed_bytes_are_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(-6, 6, dtype=np.int8).reshape(4, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = read_data("train", (mapped, np.array([0, 1, 0, 1])))
    assert isinstance(data.inputs, Tensor) and data.inputs.dtype is torch.int8

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.to(torch.float32) / 127)

    module = Small()
    assert score(module, data.inputs, data.targets, "cross_entropy").valid
    with pytest.raises(DtypeMismatch, match=r"targets have a number type that data may not have \(seen: torch.uint8"):
        prepare(module, (data.inputs, data.targets.to(torch.uint8)), (data.inputs, data.targets), "accuracy")
