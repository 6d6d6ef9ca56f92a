"""Looks at the held-out part: the score's own numbers, bounded by memory, rows and time."""

from __future__ import annotations

import pytest
import torch

from pot_lab.scoring import load_graph, score, score_function, trainable
from pot_lab.training import TrainerSettings, validation
from pot_lab.training.split import split_data
from pot_lab.training.validation import HeldOut
from tests.scoring.models import exported, family


def held_out(name: str, function: str, batch_rows: int = 3) -> tuple[HeldOut, torch.nn.Module]:
    _, inputs, targets = family(name)
    artifact = exported(name)
    data = split_data(inputs, targets, TrainerSettings(validation_fraction=0.5, seed=2), "cpu")
    model = trainable(load_graph(artifact.graph), artifact.weights)
    return HeldOut(data, score_function(function), batch_rows), model


@pytest.mark.parametrize(
    ("name", "function", "unit"),
    [
        ("mlp", "accuracy", 1),
        ("mlp", "cross_entropy", 1e6),
        ("vit", "top_k_accuracy[k=3]", 1),
        ("gru", "macro_f1[classes=4]", 1e6),
        ("gpt", "next_token_loss", 1e6),
        ("gpt", "perplexity", 1e6),
        ("unet", "mse", 1e6),
        ("unet", "mae[decimals=3]", 1e3),
    ],
)
def test_a_look_finds_what_the_exact_score_is(name: str, function: str, unit: float) -> None:
    looks, model = held_out(name, function)
    found = looks.look(model)
    artifact, rows = exported(name), looks._data.held_out_rows
    _, inputs, targets = family(name)
    exact = score(artifact, inputs[rows], targets[rows], function)
    assert found is not None and found.score == pytest.approx(exact.total / exact.count / unit, rel=1e-3, abs=1e-6)
    assert looks.rows == len(rows) and not model.training
    sign = 1 if score_function(function).higher_is_better else -1
    assert found.key[0] == pytest.approx(sign * found.score)


def test_no_result_depends_on_how_many_examples_go_at_once() -> None:
    scores = []
    for batch_rows in (1, 5, 64):
        looks, model = held_out("gpt", "perplexity", batch_rows)
        scores.append(looks.look(model).score)
    assert scores == pytest.approx([scores[0]] * 3)


def test_the_first_look_fixes_how_many_examples_all_take() -> None:
    looks, model = held_out("mlp", "accuracy", 2)
    left = iter([6.0, 5.0, 5.0, 4.0, 4.0, 2.5, 2.5, 1.0, 1.0, -0.5])  # 2 rows a second, then 1.3
    first = looks.look(model, left_s=lambda: next(left))
    assert first is not None and looks.rows == 9 < len(looks._data.held_out_rows)
    seen: list[int] = []
    model.register_forward_hook(lambda _model, inputs, _outputs: seen.append(len(inputs[0])))
    assert looks.look(model).score == first.score and sum(seen) == looks.rows and max(seen) == 2


def test_a_look_has_a_greatest_number_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_ROWS", 7)
    looks, model = held_out("mlp", "accuracy", 100)
    looks.look(model)
    assert looks.rows == 7


def test_a_look_that_runs_out_of_time_finds_nothing() -> None:
    looks, model = held_out("mlp", "accuracy", 2)
    left = iter([False, False, True])
    assert looks.look(model, out_of_time=lambda: next(left)) is None
    assert looks.rows is None  # and does not fix the number of examples


@pytest.mark.parametrize("function", ["accuracy", "cross_entropy"])
def test_outputs_that_are_no_numbers_rank_below_all_others(function: str) -> None:
    looks, model = held_out("mlp", function)
    before = looks.look(model)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    after = looks.look(model)
    assert before is not None and after is not None and after.key < before.key
    assert after.score == (-float("inf") if function == "accuracy" else float("inf"))


def test_equal_accuracy_is_told_apart_by_loss() -> None:
    looks, model = held_out("mlp", "accuracy")
    before = looks.look(model)
    with torch.no_grad():
        list(model.parameters())[-1].add_(0.0)
        for parameter in model.parameters():
            parameter.mul_(1.01)
    after = looks.look(model)
    assert before is not None and after is not None and before.key[1] != after.key[1]
