"""What the default trainer makes small improves the score that it trains for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pot_lab.scoring import export_model, score_function
from pot_lab.training import Trainer, TrainerSettings
from pot_lab.training.losses import summed_loss, weight_of
from pot_lab.training.other_losses import OTHERS
from tests.scoring.function_cases import cases

CASES = cases()


def test_every_other_function_has_a_case() -> None:
    assert set(OTHERS) == {score_function(name).name for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_every_function_has_a_gradient_that_improves_its_score(name: str) -> None:
    outputs, targets = CASES[name]
    function = score_function(name)
    answers = nn.Parameter(outputs.clone())
    optimizer = torch.optim.Adam([answers], 0.1 * float(outputs.std()))
    before = function.total_of(function.evaluate(answers.detach().double(), targets).numpy())
    for _ in range(60):
        optimizer.zero_grad()
        (summed_loss(function, answers, targets, 0.0) / weight_of(function, targets)).backward()
        assert answers.grad is not None and bool(torch.isfinite(answers.grad).all())
        optimizer.step()
    after = function.total_of(function.evaluate(answers.detach().double(), targets).numpy())
    assert after > before if function.higher_is_better else after < before


@pytest.mark.parametrize("name", ["auc/1", "mean_iou/1", "ndcg[k=3]/1", "multilabel_micro_f1/1", "weighted_accuracy/1"])
def test_the_trainer_trains_and_validates_by_it(name: str) -> None:
    outputs, targets = CASES[name]

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(outputs.shape[1:]))
            self.shift = nn.Parameter(torch.zeros(outputs.shape[1:]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale + self.shift

    artifact = export_model(Scaled(), outputs)
    settings = TrainerSettings(batch_size=8, validation_fraction=0.25)
    trainer = Trainer(
        artifact.graph, artifact.weights, outputs, targets, settings=settings, function=name, device="cpu"
    )
    trained = trainer.train_until(steps=3)
    assert trained.step <= 3 and trainer.best_score == trained.validation_score > 0
