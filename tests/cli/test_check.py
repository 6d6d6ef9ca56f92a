"""`pot-lab check`: a model of one's own file, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pot_lab import pack_dataset
from pot_lab.cli.main import main

FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return {"scores": self.out(x), "double": self.out(x) * 2}

def sized():
    return nn.Linear(4, 3)

def data():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(50) % 3

def broken():
    return nn.Linear(4, undefined)

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "own_model.py"
    path.write_text(FILE)
    return str(path)


def test_a_check_prints_a_table_or_json(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", file, "--data", f"{file}:data", "--output", "scores"]) == 0
    assert "40 train examples, 10 test examples" in capsys.readouterr().out
    x = torch.randn(30, 4)
    (tmp_path / "train").write_bytes(pack_dataset(x, torch.arange(30) % 3))
    (tmp_path / "test").write_bytes(pack_dataset(x[:9], torch.arange(9) % 3))
    given = ["check", f"{file}:sized", "--data", str(tmp_path / "train"), "--test", str(tmp_path / "test")]
    assert main([*given, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["train_examples"], facts["test_examples"]) == (30, 9)
    assert (facts["right_total"], facts["constant_total"], facts["parameters"]) == (9, 3, 15)


@pytest.mark.parametrize(
    ("model", "data", "reason"),
    [
        ("{}", "{}:data", "wanted: output='scores' or output='double'"),
        ("{}:sized", "{}:nothing", "there is no such name"),
        ("{}:sized", "{}:number", "`data` is not a pair"),
        ("{}:sized", "missing.safetensors", "No such file"),
        ("{}:broken", "{}:data", "own_model.py:21: return nn.Linear(4, undefined)"),
        ("{}:number", "{}:data", "`model` is not a module"),
        ("missing.py:Net", "{}:data", "FILE.py:NAME"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_a_line(
    file: str, model: str, data: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", model.format(file), "--data", data.format(file)]) == 1
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
