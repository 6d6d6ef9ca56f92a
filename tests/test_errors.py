"""A mistyped name is answered with the one that was meant."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from pot_lab.errors import PotLabError, near_names, one_of
from pot_lab.network.genesis import parameters_of
from pot_lab.notebook.offers import check_labels_and_score
from pot_lab.notebook.posting import windows_for
from pot_lab.protocol.parameters import Parameters
from pot_lab.scoring import export_model, score_function
from pot_lab.simulator.profiles import profile_of
from pot_lab.training.settings import TrainerSettings

NAMES = ["accuracy", "macro_f1", "mse", "top_k_accuracy"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("acurracy", ["accuracy"]),
        ("acc", ["accuracy"]),
        ("Macro-F1", ["macro_f1"]),
        ("top_k", ["top_k_accuracy"]),
        ("beauty", []),
        ("a", []),
        (7, []),
    ],
)
def test_the_nearest_names_are_meant(given: object, meant: list[str]) -> None:
    assert near_names(given, NAMES)[:1] == meant


def test_all_names_are_told_after_what_was_meant() -> None:
    assert one_of("beauty", NAMES) == "accuracy, macro_f1, mse, top_k_accuracy"
    assert one_of("MSE", ["mse"]) == "did you mean 'mse'? There are mse"
    assert one_of("x", ["mse"], near=["r2"]) == "did you mean 'r2'? There are mse"
    assert one_of("x" * 100_000, ["mse"]) == "mse"


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": self.layer(x), "double": self.layer(x) * 2}


MISTYPED: dict[str, tuple[Callable[[], object], str]] = {
    "a score": (lambda: score_function("acc"), "'accuracy'"),
    "a score of another library": (lambda: score_function("roc_auc"), "'auc'"),
    "an argument": (lambda: check_labels_and_score({"rewrad": 3}), "'reward'"),  # type: ignore[typeddict-unknown-key]
    "a window": (lambda: windows_for(5_000, Parameters(), {"chalenge": 7_000}), "'challenge'"),
    "a parameter": (lambda: parameters_of({"min_fee": 3}), "'min_fee_grains'"),
    "an optimizer": (lambda: TrainerSettings(optimizer="adam_w"), "'adamw'"),  # type: ignore[arg-type]
    "a profile": (lambda: profile_of("partition"), "'partitions'"),
    "an output": (lambda: export_model(Named(), torch.randn(3, 4), output="score"), "output='scores'"),
}


@pytest.mark.parametrize("name", MISTYPED)
def test_a_mistyped_name_is_answered_with_what_was_meant(name: str) -> None:
    call, meant = MISTYPED[name]
    with pytest.raises(PotLabError, match=rf"did you mean {meant}"):
        call()


def test_a_mistyped_command_is_answered_too() -> None:
    ran = subprocess.run([sys.executable, "-m", "pot_lab.cli", "tesnet"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and "Did you mean 'testnet'?" in ran.stderr
