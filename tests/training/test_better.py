"""What makes the default trainer better than a plain loop: averages, rates that are tried, and going back in time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from pot_lab.scoring import export_model, load_graph, trainable
from pot_lab.training import Trainer, TrainerSettings, TrainingDiverged
from pot_lab.training.averaging import POWER, Average
from pot_lab.training.rates import RESTART_FACTOR, TRIED, learned_by_heart, learning_rate
from pot_lab.training.validation import Best, Look
from tests.scoring.models import CNN, exported
from tests.training.test_time import WorkClock


def model(name: str = "mlp") -> nn.Module:
    return trainable(load_graph(exported(name).graph), exported(name).weights)


# --- averages -----------------------------------------------------------------------------------------------------


def test_an_average_covers_the_last_part_of_all_steps() -> None:
    net = model()
    average, first = Average(net), next(net.parameters())
    for step in range(1, 201):
        with torch.no_grad():
            first.fill_(float(step))
        average.update(step)
    with average.in_place():
        mean = float(first.detach().mean())
    assert mean == pytest.approx(200 * (POWER + 1) / (POWER + 2), rel=0.02)  # the mean of a power of the step
    assert float(first.detach().mean()) == 200.0


def test_a_model_and_its_average_change_places_with_all_that_has_numbers() -> None:
    artifact = export_model(CNN(), torch.zeros(2, 1, 8, 8))  # with batch norm
    net = trainable(load_graph(artifact.graph), artifact.weights)
    average, before = Average(net), net.to_weights()
    with torch.no_grad():
        for tensor in (*net.parameters(), *(b for b in net.buffers() if b.dtype.is_floating_point)):
            tensor.add_(1.0)
    changed = net.to_weights()
    with average.in_place():
        assert net.to_weights() == before
    assert net.to_weights() == changed
    average.restart()
    with average.in_place():
        assert net.to_weights() == changed


def test_a_model_in_bfloat16_has_no_average() -> None:
    net = nn.Linear(4, 2).bfloat16()
    assert not Average.suits(net) and Average.suits(nn.Linear(4, 2))  # type: ignore[arg-type]


def test_an_average_outlives_the_process(tmp_path: Path) -> None:
    inputs = torch.randn(60, 4)
    artifact = export_model(nn.Linear(4, 2), inputs[:2])
    made = (artifact.graph, artifact.weights, inputs, (inputs[:, 0] > 0).long())
    first = Trainer(*made, checkpoint_dir=tmp_path)
    first.train_until(steps=9)
    again = Trainer(*made, checkpoint_dir=tmp_path)
    for ours, theirs in zip(
        again._stepper.average.tensors().values(), first._stepper.average.tensors().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


# --- learning rates -----------------------------------------------------------------------------------------------


def test_a_rate_rises_first_and_then_falls_with_the_cosine() -> None:
    open_ = TrainerSettings()
    rates = [learning_rate(open_, 1.0, 5, fraction) for fraction in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert rates[0] == pytest.approx(0.1) and rates[0] < rates[1] < rates[2] > rates[3] > rates[4]
    assert rates[3] == pytest.approx(0.505) and rates[4] == pytest.approx(0.01)
    chosen = TrainerSettings(warmup_steps=4, schedule="constant")
    assert [learning_rate(chosen, 2.0, step, 0.0) for step in (0, 1, 3, 4, 9)] == [0.5, 1.0, 2.0, 2.0, 2.0]


def quick() -> tuple[bytes, bytes, torch.Tensor, torch.Tensor]:
    """A model that learns faster at ten times the usual rate."""
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(400, 8, generator=random)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        artifact = export_model(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)), inputs[:2])
    return artifact.graph, artifact.weights, inputs, (inputs[:, 0] > 0).long()


def test_the_rate_that_learns_fastest_is_found_in_a_window() -> None:
    found, clock = Trainer(*quick(), clock=(clock := WorkClock(0.0001))), clock
    clock.watch(found)
    found.train_until(deadline_monotonic=20.0)
    usual, fixed_clock = TrainerSettings().usual_rate, WorkClock(0.0001)
    fixed = Trainer(*quick(), settings=TrainerSettings(learning_rate=usual), clock=fixed_clock)
    fixed_clock.watch(fixed)
    fixed.train_until(deadline_monotonic=20.0)
    assert found._standing.peak_rate == pytest.approx(usual * TRIED[-1])
    assert fixed._standing.peak_rate is None and fixed.evidence()["settings"]["learning_rate"] == usual
    assert found._standing.best is not None and fixed._standing.best is not None
    assert found._standing.best.loss < fixed._standing.best.loss


def test_nothing_is_tried_where_a_window_has_few_steps_or_none_is_given() -> None:
    short, clock = Trainer(*quick(), clock=(clock := WorkClock(0.01))), clock
    clock.watch(short)
    short.train_until(deadline_monotonic=20.0)
    assert short._standing.peak_rate is None
    steps = Trainer(*quick())
    steps.train_until(steps=100)
    assert steps._standing.peak_rate is None


# --- learning by heart --------------------------------------------------------------------------------------------


def by_heart() -> tuple[bytes, bytes, torch.Tensor, torch.Tensor]:
    """Labels that follow from nothing: what is learned of them is worth nothing on others."""
    random = torch.Generator().manual_seed(2)
    inputs, targets = torch.randn(80, 20, generator=random), torch.randint(2, (80,), generator=random)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        artifact = export_model(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)), inputs[:2])
    return artifact.graph, artifact.weights, inputs, targets


@pytest.mark.parametrize("restarts", [None, 0, 2])
def test_a_training_that_learns_by_heart_goes_back_and_at_last_ends(restarts: int | None) -> None:
    clock = WorkClock(0.0001)
    settings = TrainerSettings(restarts=restarts, learning_rate=3e-3, validation_fraction=0.3)
    trainer = Trainer(*by_heart(), settings=settings, function="cross_entropy", clock=clock)
    clock.watch(trainer)
    trained = trainer.train_until(deadline_monotonic=20.0)
    if restarts is None:
        assert trained.reason == "deadline" and trainer._standing.restarts == 0
        return
    assert trained.reason == "overfitted" and clock.now < 15.0
    assert trainer.evidence()["restarts"] == restarts
    assert trainer._peak == pytest.approx(3e-3 * RESTART_FACTOR**restarts)
    assert trained.validation_score == trainer.best_score < math.log(2)


def test_a_number_of_steps_is_trained_to_its_end() -> None:
    trainer = Trainer(*by_heart(), settings=TrainerSettings(learning_rate=3e-3), function="cross_entropy")
    assert trainer.train_until(steps=400).reason == "steps" and trainer.step == 400


def test_getting_worse_is_not_yet_learning_by_heart() -> None:
    best = Best(key=(-1.0, 0.0), score=1.0, loss=1.0, step=5, weights=b"")
    worse, same = Look(key=(-2.0, 0.0), score=2.0, loss=2.0), Look(key=(-1.0, 0.0), score=1.0, loss=1.01)
    assert learned_by_heart(worse, best, 0.5, 0.9)
    assert not learned_by_heart(worse, best, 0.95, 0.9)  # the training got worse too: the rate is too large
    assert not learned_by_heart(same, best, 0.5, 0.9)


def test_a_training_that_diverges_in_a_window_goes_on_from_its_best() -> None:
    clock = WorkClock(0.0001)
    settings = TrainerSettings(optimizer="sgd", learning_rate=100.0, clip_norm=None, weight_decay=5.0, average=False)
    trainer = Trainer(*by_heart(), settings=settings, clock=clock)
    clock.watch(trainer)
    try:
        trainer.train_until(deadline_monotonic=10.0)
    except TrainingDiverged:
        pass
    assert trainer._standing.restarts == 3 and trainer.best() is not None
