"""A window of time on a clock of the test's own: looks, steps and reports in it, and its end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from pot_lab.scoring import export_model
from pot_lab.training import Trainer, TrainerSettings
from pot_lab.training.pacing import LOOK_SHARE, STEPS_IN_WINDOW, Pace
from tests.scoring.models import exported, family


class WorkClock:
    """A clock that goes on by what the model does: so many seconds for an example, three times in training."""

    def __init__(self, row_s: float) -> None:
        self.now, self.row_s = 0.0, row_s
        self.looked_s = 0.0

    def __call__(self) -> float:
        return self.now

    def watch(self, trainer: Trainer) -> None:
        def count(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _outputs: Any) -> None:
            took = self.row_s * len(inputs[0]) * (3 if model.training else 1)
            self.now += took
            self.looked_s += 0 if model.training else took

        trainer.model.register_forward_hook(count)


def decoder(row_s: float, **settings: Any) -> tuple[Trainer, WorkClock]:
    _, inputs, targets = family("gpt")
    artifact, clock = exported("gpt"), WorkClock(row_s)
    inputs, targets = (x.repeat(40, *[1] * (x.dim() - 1)) for x in (inputs, targets))
    chosen = TrainerSettings(**settings)
    trainer = Trainer(
        artifact.graph, artifact.weights, inputs, targets, function="perplexity", settings=chosen, clock=clock
    )
    clock.watch(trainer)
    return trainer, clock


@pytest.mark.parametrize("row_s", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("batch", [None, 4, 64])
def test_in_every_window_steps_are_trained_and_its_end_is_kept(row_s: float, batch: int | None) -> None:
    """Before, one look at all that is held out took the window, and no step was trained."""
    trainer, clock = decoder(row_s, batch_size=batch)
    claimed: list[int] = []
    trained = trainer.train_until(deadline_monotonic=25.0, on_improved=lambda _w, _s, step: claimed.append(step))
    assert trainer.step >= 1 and trained.reason == "deadline" and clock.now <= 25.0
    assert 0 not in claimed and (not claimed or claimed[-1] == trained.step)
    least = 5 * trainer._held_out.rows * row_s  # a few examples are looked at in any case
    assert clock.looked_s <= max(1.5 * LOOK_SHARE * 25.0, least)
    assert trainer._held_out.rows * row_s <= max(1.0, 8 * row_s)


def test_an_open_batch_leaves_time_for_many_steps_and_a_chosen_one_is_kept() -> None:
    open_, _ = decoder(0.05)
    open_.train_until(deadline_monotonic=25.0)
    chosen, _ = decoder(0.05, batch_size=32)
    chosen.train_until(deadline_monotonic=25.0)
    assert open_.step >= STEPS_IN_WINDOW // 2 and open_.evidence()["batch_size"] < 8
    assert chosen.evidence()["batch_size"] == 32 and 1 <= chosen.step <= 6
    quick, _ = decoder(0.0001)
    quick.train_until(deadline_monotonic=5.0)
    assert quick.evidence()["batch_size"] == 64


def test_one_long_step_is_cut_rather_than_left_out() -> None:
    trainer, clock = decoder(0.4, batch_size=64)
    trainer._stepper.part_rows = 4
    trainer.train_until(deadline_monotonic=25.0)
    assert trainer.step == 1 and clock.now <= 25.0
    assert trainer._standing.place < 64


def test_a_window_that_is_over_trains_and_claims_nothing() -> None:
    trainer, clock = decoder(0.1)
    clock.now = 30.0
    claimed: list[int] = []
    trained = trainer.train_until(deadline_monotonic=25.0, on_improved=lambda _w, _s, step: claimed.append(step))
    assert (trained.step, trained.reason, claimed, clock.now) == (0, "deadline", [], 30.0)
    assert trained.validation_score != trained.validation_score and trained.weights == trainer.model.to_weights()


def test_a_resumed_window_goes_on_where_the_schedule_was(tmp_path: Any) -> None:
    clock = WorkClock(0.0)
    pace = Pace(clock=clock, started=0.0, deadline=10.0, last_step=None, elapsed_before_s=30.0)
    assert pace.fraction(0) == 0.75
    clock.now = 10.0
    assert pace.fraction(0) == 1.0


def test_models_are_reported_beside_the_training_and_the_last_before_it_returns() -> None:
    trainer, _ = decoder(0.01)
    here, threads, steps = threading.get_ident(), set(), []

    def report(_weights: bytes, _score: float, step: int) -> None:
        threads.add(threading.get_ident())
        steps.append(step)

    trained = trainer.train_until(deadline_monotonic=25.0, on_improved=report)
    assert here not in threads and steps == sorted(steps) and steps[-1] == trained.step


def test_what_a_report_raises_ends_the_training() -> None:
    trainer, _ = decoder(0.01)

    def full(_weights: bytes, _score: float, _step: int) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        trainer.train_until(deadline_monotonic=25.0, on_improved=full)


def test_an_epoch_has_whole_batches_and_then_another_order() -> None:
    inputs = torch.randn(40, 4)
    artifact = export_model(torch.nn.Linear(4, 2), inputs[:2])
    settings = TrainerSettings(batch_size=8, validation_fraction=0.1)
    trainer = Trainer(artifact.graph, artifact.weights, inputs, (inputs[:, 0] > 0).long(), settings=settings)
    seen: list[int] = []
    take = trainer._stepper.take

    def watched(rows: torch.Tensor, *more: Any, **options: Any) -> Any:
        seen.extend(rows.tolist())
        return take(rows, *more, **options)

    trainer._stepper.take = watched  # type: ignore[method-assign]
    trainer.train_until(steps=9)
    first, second = seen[:32], seen[32:64]
    assert len(set(first)) == len(set(second)) == 32 and first != second
    assert trainer._standing.epoch == 2 and trainer.evidence()["epochs"] == pytest.approx(2 + 8 / 36)
