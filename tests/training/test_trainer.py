"""The default trainer: it learns, tells of better models, ends when it must, and resumes to the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from pot_lab.scoring import export_model, load_graph, score
from pot_lab.scoring.errors import BadDataset, ShapeMismatch
from pot_lab.training import (
    BadCheckpoint,
    BadSettings,
    Trainer,
    TrainerSettings,
    TrainingDiverged,
    TrainingProgress,
    pick_device,
)
from pot_lab.training.checkpoint import FILE_NAME
from tests.scoring.models import CNN, exported, family


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    found = load_digits()
    return torch.tensor(found.images / 16.0, dtype=torch.float32).unsqueeze(1), torch.tensor(found.target)


@pytest.fixture(scope="module")
def cnn(digits: tuple[torch.Tensor, torch.Tensor]) -> tuple[bytes, bytes]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        artifact = export_model(CNN(), digits[0][:2])
    return artifact.graph, artifact.weights


QUICK = TrainerSettings(learning_rate=5e-3, batch_size=64, validation_fraction=0.15, seed=3)


EAGER = TrainerSettings(learning_rate=1e-2, batch_size=16, validation_fraction=0.2, seed=3)


class Clock:
    """A clock that goes one second further each time it is looked at."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_trainer_learns_digits(digits: tuple, cnn: tuple) -> None:
    inputs, targets = digits
    improved: list[tuple[bytes, float, int]] = []
    progress: list[TrainingProgress] = []
    trainer = Trainer(*cnn, inputs[:1400], targets[:1400], settings=QUICK)
    trained = trainer.train_until(
        steps=150, on_improved=lambda *found: improved.append(found), on_progress=progress.append
    )
    assert trained.reason == "steps" and trainer.step == 150
    scores = [s for _, s, _ in improved]
    assert scores == sorted(scores) and improved[-1] == (trained.weights, trained.validation_score, trained.step)
    before, after = (score((cnn[0], w), inputs[1400:], targets[1400:]) for w in (cnn[1], trained.weights))
    assert before.total < 100 and after.total > 0.8 * 397
    assert progress[-1].step == 150 and progress[-1].best_score == trained.validation_score
    assert {p.step for p in progress} >= {10, 18, 36}


def test_a_resumed_training_ends_in_the_same_bits(digits: tuple, cnn: tuple, tmp_path: Path) -> None:
    inputs, targets = digits[0][:400], digits[1][:400]
    settings = TrainerSettings(learning_rate=5e-3, batch_size=32, seed=1, validate_every_steps=7, weight_decay=0.05)

    def run(directory: Path, stops: list[int]) -> tuple[bytes, bytes, dict]:
        for stop in stops:
            trainer = Trainer(*cnn, inputs, targets, settings=settings, checkpoint_dir=directory)
            trained = trainer.train_until(steps=40, should_stop=lambda at=stop, t=trainer: t.step >= at)
            torch.manual_seed(stop)  # what else the process draws must not matter
        return trainer.model.to_weights(), trained.weights, trainer.evidence()

    whole, whole_best, _ = run(tmp_path / "whole", [40])
    parts, parts_best, evidence = run(tmp_path / "parts", [3, 14, 17, 40])
    assert whole == parts and whole_best == parts_best
    assert evidence["resumed"] == 3 and evidence["steps"] == 40


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_resumes(optimizer: str, digits: tuple, cnn: tuple, tmp_path: Path) -> None:
    inputs, targets = digits[0][:200], digits[1][:200]
    settings = TrainerSettings(
        optimizer=optimizer, learning_rate=1e-2, batch_size=50, epochs=4, label_smoothing=0.1, warmup_steps=4
    )
    straight = Trainer(*cnn, inputs, targets, settings=settings)
    assert straight.train_until().reason == "epochs"
    for steps in (5, 9, 40):
        resumed = Trainer(*cnn, inputs, targets, settings=settings, checkpoint_dir=tmp_path)
        resumed.train_until(should_stop=lambda at=steps, t=resumed: t.step >= at)
    assert resumed.model.to_weights() == straight.model.to_weights()


def test_a_killed_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    program = """
import os, sys, torch
from pathlib import Path
from pot_lab.training import Trainer, TrainerSettings
torch.set_num_threads(1)
torch.manual_seed(0)
inputs = torch.randn(300, 20); targets = (inputs[:, 0] > 0).long()
kill_at = int(sys.argv[2])
files = [Path(name).read_bytes() for name in sys.argv[3:]]
trainer = Trainer(*files, inputs, targets, checkpoint_dir=sys.argv[1],
                  settings=TrainerSettings(batch_size=30, validate_every_steps=4))
trainer.train_until(steps=30, should_stop=lambda: os._exit(9) if trainer.step == kill_at else False)
Path(sys.argv[1], "final").write_bytes(trainer.model.to_weights())
"""
    artifact = exported("mlp")
    files = [tmp_path / "graph", tmp_path / "weights"]
    for path, data in zip(files, (artifact.graph, artifact.weights), strict=True):
        path.write_bytes(data)

    def run(directory: Path, kill_at: int) -> int:
        return subprocess.run(
            [sys.executable, "-c", program, str(directory), str(kill_at), *map(str, files)]
        ).returncode

    assert run(tmp_path / "killed", 13) == 9
    assert run(tmp_path / "killed", -1) == 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = torch.randn(300, 20)
    settings = TrainerSettings(batch_size=30, validate_every_steps=4)
    whole = Trainer(artifact.graph, artifact.weights, inputs, (inputs[:, 0] > 0).long(), settings=settings)
    whole.train_until(steps=30)
    assert (tmp_path / "killed" / "final").read_bytes() == whole.model.to_weights()


def test_a_deadline_is_kept_on_the_trainers_clock(digits: tuple, cnn: tuple) -> None:
    clock = Clock()
    trainer = Trainer(*cnn, digits[0][:200], digits[1][:200], settings=TrainerSettings(batch_size=50), clock=clock)
    trained = trainer.train_until(deadline_monotonic=300.0)
    assert trained.reason == "deadline" and trainer.step > 5
    assert clock.now <= 300.0 + 2.0  # evidence and saving look at the clock once more
    rates = trainer._stepper.optimizer.param_groups[0]["lr"]
    assert rates < 0.2 * trainer.settings.usual_rate  # the cosine went down with the time


def test_a_training_can_be_stopped(digits: tuple, cnn: tuple) -> None:
    trainer = Trainer(*cnn, digits[0][:200], digits[1][:200])
    assert trainer.train_until(steps=50, should_stop=lambda: trainer.step >= 3).reason == "stopped"
    assert trainer.step == 3


def test_no_other_random_numbers_are_disturbed(digits: tuple, cnn: tuple) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    Trainer(*cnn, digits[0][:200], digits[1][:200]).train_until(steps=4)
    assert torch.equal(torch.rand(3), expected)


def test_a_training_that_diverges_says_so_and_keeps_the_best(digits: tuple, cnn: tuple) -> None:
    settings = TrainerSettings(optimizer="sgd", learning_rate=100.0, clip_norm=None, weight_decay=50.0, batch_size=32)
    trainer = Trainer(*cnn, digits[0][:400], digits[1][:400], settings=settings)
    with pytest.raises(TrainingDiverged, match="smaller learning rate"):
        trainer.train_until(steps=400)
    best = trainer.best()
    assert best is not None and score((cnn[0], best.weights), digits[0][:50], digits[1][:50]).valid


def test_the_initial_weights_are_never_reported_as_an_improvement(digits: tuple, cnn: tuple) -> None:
    steps: list[int] = []
    trainer = Trainer(*cnn, digits[0][:400], digits[1][:400], settings=QUICK)
    trained = trainer.train_until(steps=0, on_improved=lambda _w, _s, step: steps.append(step))
    assert trained.step == 0 and steps == []
    trainer.train_until(steps=40, on_improved=lambda _w, _s, step: steps.append(step))
    assert steps and 0 not in steps


def test_loss_decides_where_the_order_asks_for_loss(digits: tuple, cnn: tuple) -> None:
    scores: list[float] = []
    trainer = Trainer(*cnn, digits[0][:600], digits[1][:600], settings=QUICK, function="cross_entropy")
    trainer.train_until(steps=60, on_improved=lambda _w, s, _n: scores.append(s))
    assert len(scores) > 2 and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("unet", "mse"),
        ("unet", "mae[decimals=3]"),
        ("gpt", "next_token_loss"),
        ("lstm", "perplexity"),
        ("gru", "macro_f1[classes=4]"),
        ("vit", "top_k_accuracy[k=3]"),
    ],
)
def test_every_score_function_has_something_to_train_for(name: str, function: str) -> None:
    _, inputs, targets = family(name)
    artifact = exported(name)
    trainer = Trainer(artifact.graph, artifact.weights, inputs, targets, settings=EAGER, function=function)
    best = trainer.train_until(steps=60)
    before = score(artifact, inputs, targets, function)
    after = score((artifact.graph, best.weights), inputs, targets, function)
    assert after.better_than(before)


def test_evidence_is_json_and_names_what_was_used(digits: tuple, cnn: tuple) -> None:
    trainer = Trainer(*cnn, digits[0][:200], digits[1][:200], settings=QUICK)
    trainer.train_until(steps=4)
    evidence = json.loads(json.dumps(trainer.evidence()))
    assert evidence["torch"] == torch.__version__ and evidence["seed"] == 3 and evidence["threads"] == 1
    assert evidence["device"] == pick_device().torch_name and evidence["precision"] == pick_device().precision
    assert evidence["held_out_examples"] == 30 and evidence["train_examples"] == 170
    assert evidence["graph_sha256"] == load_graph(cnn[0]).sha256.hex()


def test_checkpoints_of_other_jobs_and_broken_ones_are_refused(digits: tuple, cnn: tuple, tmp_path: Path) -> None:
    inputs, targets = digits[0][:200], digits[1][:200]
    Trainer(*cnn, inputs, targets, checkpoint_dir=tmp_path).train_until(steps=4)
    with pytest.raises(BadCheckpoint, match="another model"):
        Trainer(*cnn, inputs, targets.flip(0), checkpoint_dir=tmp_path)
    with pytest.raises(BadCheckpoint, match="another model"):
        Trainer(*cnn, inputs, targets, settings=QUICK, checkpoint_dir=tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        Trainer(*cnn, inputs, targets, checkpoint_dir=tmp_path)
    assert os.listdir(tmp_path) == [FILE_NAME]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", "lion"),
        ("schedule", "linear"),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", "0.1"),
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("epochs", 0),
        ("seed", -1),
        ("seed", True),
        ("label_smoothing", 1.0),
        ("validation_fraction", 0.0),
        ("clip_norm", -1.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: object) -> None:
    with pytest.raises(BadSettings, match=name):
        TrainerSettings(**{name: value})  # type: ignore[arg-type]


def test_data_that_do_not_fit_are_refused(digits: tuple, cnn: tuple) -> None:
    with pytest.raises(ShapeMismatch):
        Trainer(*cnn, digits[0].flatten(1), digits[1])
    with pytest.raises(BadDataset):
        Trainer(*cnn, digits[0], digits[1] + 1)
    with pytest.raises(BadSettings, match="too few"):
        Trainer(*cnn, digits[0][:1], digits[1][:1])
    with pytest.raises(BadSettings, match="deadline"):
        Trainer(*cnn, digits[0][:9], digits[1][:9]).train_until()


def test_training_knows_no_network() -> None:
    program = "import sys, pot_lab.training; print(*sorted(m for m in sys.modules if m[:4] in ('pot_', 'web3', 'zmq')))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not any(room in loaded for room in ("network", "chain", "consensus", "protocol", "web3", "zmq"))


@pytest.mark.gpu
def test_a_gpu_is_picked_and_trains() -> None:
    artifact = exported("mlp")
    inputs = torch.randn(300, 20)
    trainer = Trainer(artifact.graph, artifact.weights, inputs, (inputs[:, 0] > 0).long())
    assert trainer.device.is_cuda
    assert trainer.train_until(steps=60).validation_score > 0.7
