"""All that an order checks, without a network: what a check tells, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pot_lab
from pot_lab.errors import PotLabError, UnknownScoreFunction
from pot_lab.notebook import order_checks
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.predictors import predictors, right_outputs
from pot_lab.scoring import ScoreFunction, export_model, score, score_function
from pot_lab.scoring.errors import ExportFailed, UnsupportedOperator
from pot_lab.scoring.graph.model_graph import Output

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
TRAIN, TEST = (X[:40], Y[:40]), (X[40:].clone(), Y[40:].clone())


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(x), self.second(x)


def test_a_check_tells_what_an_order_would_begin_with() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    report = pot_lab.check(net, TRAIN, TEST)
    own = score(net, *TEST)
    assert (report.start.weights_total, report.start.count) == (own.total, 20)
    assert report.start.constant_total == int(torch.bincount(TEST[1]).max())
    assert report.predictors.right == 20 > report.predictors.shuffled
    assert report.train_examples == 40
    text = str(report)
    assert "195 parameters" in text and "right answers         20 of 20" in text and "a training step ran" in text
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items()) and net.training


def test_what_an_order_refuses_a_check_refuses() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.linalg.svd(x.reshape(-1, 2, 4))[1].repeat(1, 4))

    with pytest.raises(UnsupportedOperator, match=r"linalg_svd.*test_check.py:\d+"):
        pot_lab.check(Sorted(), TRAIN, TEST)
    with pytest.raises(BadArgument, match=r"several tensors.*\('examples', 3\).*wanted: output=0 or output=1"):
        pot_lab.check(Heads(), TRAIN, TEST)
    with pytest.raises(BadArgument, match="exported already"):
        pot_lab.check(export_model(Heads(), X), TRAIN, TEST, output=0)
    with pytest.raises(ExportFailed, match="output=2, wanted: output=0 or output=1"):
        pot_lab.check(Heads(), TRAIN, TEST, output=2)
    assert pot_lab.check(Heads(), TRAIN, TEST, output=1).graph.outputs[0].shape == (5,)


TOKENS = torch.tensor([[1, 2, -100], [3, -100, -100], [0, 1, 2], [2, 2, 2]])


@pytest.mark.parametrize(
    ("function", "shape", "targets", "right"),
    [
        ("accuracy", (3,), TEST[1], 20),
        ("top_k_accuracy[k=2]", (3,), TEST[1], 20),
        ("cross_entropy", (3,), TEST[1], 0),
        ("macro_f1[classes=3]", (3,), TEST[1], 20_000_000 - 2),
        ("perplexity", (3, 4), TOKENS, 0),
        ("next_token_loss", (3, 4), TOKENS, 0),
        ("mse", (1,), TEST[0][:, :1], 0),
        ("mae", (2, 2), TEST[0][:, :4].reshape(-1, 2, 2), 0),
    ],
)
def test_right_answers_score_best_and_shuffled_ones_do_not(
    function: str, shape: tuple[int, ...], targets: Tensor, right: int
) -> None:
    chosen, output = score_function(function), Output("float32", shape)
    found = predictors(chosen, output, targets)
    assert (found.right, found.count) == (right, len(targets))
    sign = 1 if chosen.higher_is_better else -1
    assert (found.right - found.shuffled) * sign > 0


def test_a_score_that_no_right_answer_improves_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss whose every value is beyond its cap."""
    function, output = score_function("mse[decimals=12]"), Output("float32", (1,))
    targets = torch.ones(6, 1)
    with pytest.raises(BadArgument, match="no better for the right answers"):
        order_checks.check_order_matters(function, output, targets)
    order_checks.check_order_matters(function, output, torch.arange(6.0).reshape(6, 1))


def test_answers_of_many_words_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pot_lab.notebook.predictors._LARGEST_LOOK", 60)
    found = predictors(score_function("accuracy"), Output("float32", (5,)), torch.arange(60) % 5)
    assert (found.count, found.right) == (12, 12)


def test_right_outputs_name_the_target_at_every_place() -> None:
    function: ScoreFunction = score_function("perplexity")
    found = right_outputs(function, Output("float32", (3, 4)), TOKENS)
    counted = TOKENS >= 0
    assert torch.equal(found.argmax(-1)[counted], TOKENS[counted])


def test_a_check_notes_what_may_not_be_meant() -> None:
    known = pot_lab.check(
        nn.Linear(8, 3), TRAIN, (torch.cat([TEST[0][:10], X[:10]]), torch.cat([TEST[1][:10], Y[:10]]))
    )
    assert known.notes == ("10 of 20 test inputs are train inputs too: providers may know their answers by heart",)
    assert "note      10 of 20" in str(known)
    others = pot_lab.check(nn.Linear(8, 3), (X[:40], Y[:40].clamp(max=1)), (X[40:41].repeat(20, 1), TEST[1]))
    assert others.notes == (
        "all test inputs are the same, so no model can tell the examples apart",
        "classes that are in the test data only: 2",
    )
    assert pot_lab.check(nn.Linear(8, 3), TRAIN, TEST).notes == ()


@pytest.mark.parametrize(
    ("meant", "likely"),
    [("f1", "macro_f1"), ("roc_auc", "auc"), ("Accuracy", "accuracy"), ("acuracy", "accuracy"), ("MSE", "mse")],
)
def test_a_name_of_other_libraries_is_answered_with_ours(meant: str, likely: str) -> None:
    with pytest.raises(UnknownScoreFunction, match=rf"wanted: did you mean '{likely}'( or '\w+')?\? There are"):
        pot_lab.check(nn.Linear(8, 3), TRAIN, TEST, meant)


@pytest.mark.parametrize(
    ("targets", "how"),
    [
        (TRAIN[1].float(), r"\.long\(\)"),
        (TRAIN[1].int(), r"\.long\(\)"),
        (TRAIN[1][:, None], r"\.squeeze\(1\)"),
        (nn.functional.one_hot(TRAIN[1], 3), r"\.argmax\(1\)"),
        (TRAIN[1] + 1, "counted from 0"),
    ],
)
def test_targets_of_another_form_are_told_how_to_change(targets: Tensor, how: str) -> None:
    with pytest.raises(PotLabError, match=how):
        pot_lab.check(nn.Linear(8, 3), (TRAIN[0], targets), TEST)
