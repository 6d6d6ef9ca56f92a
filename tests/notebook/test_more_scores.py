"""Orders that are scored by the functions of regression, calibration, segmentation, ranking and labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pot_lab
from pot_lab.cards.scores import score_text
from pot_lab.notebook.baselines import constant_total
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.predictors import predictors
from pot_lab.notebook.score_names import completed, depends_on_targets
from pot_lab.protocol.records import ScoreSpec
from pot_lab.scoring import score, score_function
from pot_lab.scoring.graph.model_graph import Output
from tests.scoring.function_cases import cases, numbers, whole

CASES = cases()


class Scaled(nn.Module):
    """Outputs of any shape, that training can change."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Constant(nn.Module):
    """One answer for all examples."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x: Tensor) -> Tensor:
        return x * 0 + self.answer


@pytest.mark.parametrize("name", CASES)
def test_right_answers_are_best_and_constant_ones_are_not(name: str) -> None:
    outputs, targets = CASES[name]
    function, output = score_function(name), Output("float32", tuple(outputs.shape[1:]))
    found = predictors(function, output, targets)
    constant = constant_total(ScoreSpec(name=function.full_name, version=1), targets)
    sign = 1 if function.higher_is_better else -1
    assert (found.right - found.shuffled) * sign > 0 and (found.right - constant) * sign > 0
    chance = score(Scaled(outputs.shape[1:]), outputs, targets, function).total
    assert (found.right - chance) * sign > 0
    assert score_text(ScoreSpec(name=function.full_name, version=1), found.right, found.count)


@pytest.mark.parametrize("name", ["brier", "weighted_accuracy", "weighted_cross_entropy", "auc", "multilabel_micro_f1"])
def test_no_other_constant_answer_is_better(name: str) -> None:
    outputs, targets = CASES[f"{name}/1"]
    function = score_function(name)
    best = constant_total(ScoreSpec(name=name, version=1), targets)
    for seed in range(20):
        answer = torch.randn(outputs.shape[1:], generator=torch.Generator().manual_seed(seed)) * 3
        total = function.total_of(function.evaluate(answer.double().expand_as(outputs), targets).numpy())
        assert total <= best if function.higher_is_better else total >= best


USABLE = [name for name in CASES if not name.startswith(("scaled", "quantile_loss[decimals=3"))]


@pytest.mark.parametrize("name", USABLE)
def test_an_order_with_it_can_be_placed(name: str) -> None:
    outputs, targets = CASES[name]
    report = pot_lab.check(Scaled(outputs.shape[1:]), (outputs, targets), (outputs.clone(), targets.clone()), name)
    assert f"{report.prepared.score.name}/1" == name
    assert "right answers" in str(report)


PRICES = 200_000 + 60_000 * numbers(1)


@pytest.mark.parametrize("word", ["r2", "scaled_mse", "scaled_mae"])
@pytest.mark.parametrize("factor", [1e-5, 1.0, 1e4])
def test_a_scaled_error_takes_its_scale_from_the_test_targets(word: str, factor: float) -> None:
    targets = PRICES * factor
    report = pot_lab.check(Scaled(torch.Size([1])), (targets * 1.1, targets), (targets * 1.1, targets), word)
    assert report.prepared.score.name == completed(word, targets).removesuffix("/1")
    each = report.start.constant_total / report.start.count / 1e6
    assert each == pytest.approx(1.0, abs=1e-4)
    assert depends_on_targets(word) and not depends_on_targets("mse")
    assert ("R2" in str(report)) == (word != "scaled_mae")


def test_targets_without_a_spread_have_no_scale() -> None:
    same = torch.ones(24, 1)
    with pytest.raises(BadArgument, match="no scale"):
        pot_lab.check(Scaled(torch.Size([1])), (numbers(1), numbers(1)), (numbers(1), same), "r2")
    with pytest.raises(BadArgument, match="no scale that a name can hold"):
        completed("r2", numbers(1) * 1e-12)


def test_a_score_that_one_answer_makes_best_is_refused() -> None:
    data = numbers(2), torch.ones(24, dtype=torch.int64)
    with pytest.raises(BadArgument, match="no better for the right answers"):
        pot_lab.check(Scaled(torch.Size([2])), data, data, "auc")
    places = numbers(3, 4), torch.ones(24, 4, dtype=torch.int64)
    with pytest.raises(BadArgument, match=r"no better for the right answers|best for a model that always gives one"):
        pot_lab.check(Scaled(torch.Size([3, 4])), places, places, "mean_iou")
    weights = torch.stack([whole(3), torch.zeros(24, dtype=torch.int64)], 1)
    with pytest.raises(BadArgument, match="no better for the right answers"):
        pot_lab.check(Scaled(torch.Size([3])), (numbers(3), weights), (numbers(3), weights), "weighted_accuracy")


@pytest.mark.parametrize("name", ["r2", "quantile_loss", "scaled_mae"])
def test_a_distance_that_outliers_would_rule_is_refused(name: str) -> None:
    targets = torch.randn(3000, 1, generator=torch.Generator().manual_seed(0))
    targets[0] = 3e9
    with pytest.raises(BadArgument, match="not of that size"):
        pot_lab.check(Scaled(torch.Size([1])), (targets[:99], targets[:99]), (targets, targets), name)
