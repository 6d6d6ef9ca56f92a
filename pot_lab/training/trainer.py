"""The default trainer: what a provider's notebook runs between the order and its deadline.

It trains a model graph on the order's train data, holds a part of them out, and reports each model that does better
there, so that the provider can commit to it at once and go on (paper, mining cycle step 3: a better model replaces
the one before). It resumes from its checkpoints to the same state. It is independent of the network.
"""

from __future__ import annotations

import functools
import math
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.scoring import ModelGraph, ScoreFunction, check_dataset, load_graph, score_function, trainable
from pot_lab.scoring.dataset import each_input
from pot_lab.scoring.given_data import InputsLike, TensorLike, as_inputs, as_tensor
from pot_lab.scoring.graph.weights import tensor_sha256
from pot_lab.training.background import Background
from pot_lab.training.devices import pick_device
from pot_lab.training.errors import BadSettings, TrainingDiverged
from pot_lab.training.keeping import Keeper
from pot_lab.training.memory import free_bytes, rows_of_a_look, rows_of_a_step
from pot_lab.training.pacing import FIRST_LOOK_SHARE, SIZING_STEPS, STEPS_IN_WINDOW, USUAL_BATCH, Pace, learning_rate
from pot_lab.training.records import Trained, TrainingProgress
from pot_lab.training.settings import TrainerSettings
from pot_lab.training.split import generator, split_data
from pot_lab.training.steps import Stepper, make_optimizer
from pot_lab.training.validation import Best, HeldOut

PROGRESS_EVERY_STEPS = 10
_LEAST_BATCH = 8
_FIRST_REPORT_BYTES_PER_S = 200e6


class Trainer:
    """The default trainer of a job; it resumes a checkpoint that it finds.

        >>> import torch
        >>> from pot_lab import Trainer, TrainerSettings, export_model
        >>> inputs = torch.randn(200, 4); targets = (inputs[:, 0] > 0).long()
        >>> artifact = export_model(torch.nn.Linear(4, 2), inputs[:2])
        >>> settings = TrainerSettings(batch_size=20, learning_rate=0.1)
        >>> trainer = Trainer(artifact.graph, artifact.weights, inputs, targets, settings=settings)
        >>> trained = trainer.train_until(steps=30)
        >>> trained.reason, trained.validation_score > 0.5
        ('steps', True)

    Args:
        graph: the order's model, checked or as bytes.
        weights: initial weights, safetensors bytes.
        train_inputs: the order's train data, float32, float64 or int64 [examples, ...], finite; a tuple of tensors or
            arrays where the model takes several inputs.
        train_targets: [examples, ...] of the type and shape that the score function takes, see `score_functions`.
        settings: None for the usual ones, see `TrainerSettings`.
        function: the order's score function, by name or identifier; what "better" means.
        device: a torch device name such as "cpu" or "cuda:0"; None picks CUDA where there is one.
        checkpoint_dir: folder for checkpoints; an existing one is resumed. None keeps none.
        clock: monotonic seconds.
    Raises:
        ShapeMismatch, DtypeMismatch, BadDataset: the data do not fit the model or the function.
        BadWeights, HostileGraph: the model is not usable.
        BadSettings: too few examples to hold some out, or a model without a parameter to train.
        BadCheckpoint: the folder holds a damaged checkpoint, or one of another training.
        UnknownScoreFunction: no such function.
    """

    def __init__(
        self,
        graph: ModelGraph | bytes,
        weights: bytes,
        train_inputs: InputsLike,
        train_targets: TensorLike,
        *,
        settings: TrainerSettings | None = None,
        function: str | ScoreFunction = "accuracy",
        device: str | None = None,
        checkpoint_dir: str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or TrainerSettings()
        self.graph = load_graph(graph) if isinstance(graph, bytes) else graph
        self.function = score_function(function)
        inputs, targets = as_inputs(train_inputs), as_tensor(train_targets, "targets")
        check_dataset(self.graph, inputs, targets, self.function)
        self.device = pick_device(device)
        self._clock = clock
        self._standing = _Standing()
        fingerprint = tagged_hash(
            "pot-lab/training/1",
            self.graph.sha256,
            weights,
            *(bytes.fromhex(tensor_sha256(x)) for x in each_input(inputs)),
            bytes.fromhex(tensor_sha256(targets)),
            repr(sorted(self.settings.as_dict().items())).encode(),
            self.function.identifier.encode(),
        ).hex()
        self._keeper = Keeper(Path(checkpoint_dir) if checkpoint_dir is not None else None, fingerprint)
        name = self.device.torch_name
        self._data = split_data(inputs, targets, self.settings, name)
        self.model = trainable(self.graph, weights).to(name)
        optimizer, free = make_optimizer(self.model, self.settings), free_bytes(name)
        self._stepper = Stepper(
            self.model,
            optimizer,
            self._data,
            self.function,
            self.settings,
            self.device,
            rows_of_a_step(self.graph, name, free),
        )
        self._held_out = HeldOut(self._data, self.function, rows_of_a_look(self.graph, name, free))
        self._random = self._first_random_state()
        self._resume()

    @property
    def step(self) -> int:
        """Steps so far, over all runs of this job."""
        return self._standing.step

    @property
    def best_score(self) -> float | None:
        """Score of the best model on the held-out part; None before the first validation."""
        return None if self._standing.best is None else self._standing.best.score

    @property
    def best_step(self) -> int | None:
        """The step that the best model was found at; None before the first validation."""
        return None if self._standing.best is None else self._standing.best.step

    @property
    def _usual_batch(self) -> int:
        return min(self.settings.batch_size or USUAL_BATCH, len(self._data.train_rows))

    @property
    def _batch(self) -> int:
        """Examples of the next step."""
        return self._standing.batch or self._usual_batch

    @property
    def _steps_per_epoch(self) -> int:
        """Whole batches in the train part; what is left over waits for another order."""
        return len(self._data.train_rows) // self._batch

    # ------------------------------------------------------------------------------------------ training

    def train_until(
        self,
        *,
        deadline_monotonic: float | None = None,
        steps: int | None = None,
        on_progress: Callable[[TrainingProgress], None] | None = None,
        on_improved: Callable[[bytes, float, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Trained:
        """Train until the deadline, the number of steps, the settings' epochs, or a call to stop, whichever comes
        first.

        Args:
            deadline_monotonic: on the trainer's clock; the last validation and report are done before it.
            steps: total number of steps, counted from the very first run.
            on_progress: called every few steps and after each validation.
            on_improved: called with (weights, validation score, step) for each model that does better on the held-out
                part than all before it, the initial weights among them; these are never reported. With a deadline it
                is called on another thread while the training goes on, and a model that was overtaken before it could
                be reported is not. The last call returns before `train_until` does.
            should_stop: called before each step; True ends the training.
        Returns: the best model. Where the time was over before anything could be scored it is the model as it is, with
            the score NaN.
        Raises: BadSettings (no end), TrainingDiverged, and what `on_improved` raises.
        """
        last_step = self._last_step(steps)
        if deadline_monotonic is None and last_step is None:
            raise BadSettings("a training needs a deadline, a number of steps or a number of epochs")
        pace = Pace(
            clock=self._clock,
            started=self._clock(),
            deadline=deadline_monotonic,
            last_step=last_step,
            elapsed_before_s=self._standing.elapsed_s,
        )
        pace.report_s = sum(p.numel() * p.element_size() for p in self.model.parameters()) / _FIRST_REPORT_BYTES_PER_S
        run = _Run(pace=pace, on_progress=on_progress, on_improved=on_improved, reports=Background("pot-lab-report"))
        self._keeper.open()
        cuda = [torch.device(self.device.torch_name)] if self.device.is_cuda else []
        try:
            with torch.random.fork_rng(cuda):
                self._set_random_state(self._random)
                reason = self._loop(run, should_stop or (lambda: False))
                self._random = self._random_state()
        finally:
            run.reports.finish()
        self._standing.elapsed_s = pace.elapsed_s()
        if reason == "deadline":
            self._keeper.close()
        else:
            self._save(beside=False)
        reason = reason if reason != "last" else self._end(steps)
        best = self.best(reason)
        if best is None:
            weights = self.model.to_weights()
            return Trained(weights=weights, validation_score=math.nan, step=self.step, reason=reason)
        return best

    def best(self, reason: str = "so far") -> Trained | None:
        """The best model so far, also after a divergence; None before the first validation."""
        best = self._standing.best
        if best is None:
            return None
        return Trained(weights=best.weights, validation_score=best.score, step=best.step, reason=reason)

    def _last_step(self, steps: int | None) -> int | None:
        per_epoch = len(self._data.train_rows) // self._usual_batch
        by_epochs = None if self.settings.epochs is None else self.settings.epochs * per_epoch
        wanted = [n for n in (steps, by_epochs) if n is not None]
        return min(wanted) if wanted else None

    def _end(self, steps: int | None) -> str:
        return "steps" if steps is not None and self.step >= steps else "epochs"

    def _loop(self, run: _Run, should_stop: Callable[[], bool]) -> str:
        pace = run.pace
        if self._standing.best is None:
            self._validate(run)
        else:
            pace.after_look(self._clock(), self.step)
        losses: list[Tensor] = []
        while True:
            if pace.last_step is not None and self.step >= pace.last_step:
                reason = "last"
            elif pace.must_end():
                reason = "deadline"
            elif should_stop():
                reason = "stopped"
            else:
                losses.append(self._train_step(run))
                looked = pace.look_is_due(self.step, self.settings.validate_every_steps, self._steps_per_epoch)
                if looked or len(losses) >= PROGRESS_EVERY_STEPS:
                    self._report(run, losses)
                if looked:
                    self._validate(run)
                if self._keeper.is_due(looked):
                    self._standing.elapsed_s = pace.elapsed_s()
                    self._random = self._random_state()
                    self._save(beside=pace.deadline is not None)
                continue
            if losses:
                self._report(run, losses)
            if pace.looked_step != self.step:
                self._validate(run)
            return reason

    def _train_step(self, run: _Run) -> Tensor:
        standing, pace = self._standing, run.pace
        sizing = pace.window_s is not None and self.settings.batch_size is None and standing.step < SIZING_STEPS
        usual_s = pace.window_s / STEPS_IN_WINDOW if sizing and pace.window_s is not None else math.inf
        began = self._clock()
        rows = self._next_rows(run)
        rate = learning_rate(self.settings, standing.step, pace.fraction(standing.step))
        loss, done = self._stepper.take(
            rows,
            rate,
            lambda so_far, coming: pace.must_cut(began, so_far, coming, usual_s),
            at_once=pace.most_at_once(),
        )
        pace.after_step(began, done)
        standing.step += 1
        standing.place += done
        if sizing:
            least = 1 if self._data.targets.dim() > 1 else _LEAST_BATCH
            standing.batch = pace.batch_for(self._usual_batch, least)
        if standing.place + self._batch > len(self._data.train_rows):
            standing.epoch, standing.place = standing.epoch + 1, 0
        return loss

    def _next_rows(self, run: _Run) -> Tensor:
        standing = self._standing
        if run.order is None or run.epoch != standing.epoch:
            run.epoch = standing.epoch
            run.order = torch.randperm(
                len(self._data.train_rows), generator=generator(self.settings.seed, standing.epoch)
            )
        return self._data.train_rows[run.order[standing.place : standing.place + self._batch]]

    def _report(self, run: _Run, losses: list[Tensor]) -> None:
        loss = float(torch.stack(losses).mean())
        losses.clear()
        run.loss = loss
        if not math.isfinite(loss):
            raise TrainingDiverged(
                "the training loss is no longer finite; try a smaller learning rate", seen=f"step {self.step}"
            )
        self._notify(run)

    def _notify(self, run: _Run) -> None:
        run.reports.check()
        if run.on_progress is not None:
            run.on_progress(
                TrainingProgress(
                    step=self.step,
                    epoch=self._standing.epoch,
                    loss=run.loss,
                    learning_rate=float(self._stepper.optimizer.param_groups[0]["lr"]),
                    validation_score=self._standing.validation_score,
                    best_score=self.best_score,
                    best_step=self.best_step,
                    elapsed_s=run.pace.elapsed_s(),
                )
            )

    # ---------------------------------------------------------------------------------------- validation

    def _validate(self, run: _Run) -> None:
        pace = run.pace
        began = self._clock()
        budget_s = math.inf if pace.window_s is None else FIRST_LOOK_SHARE * pace.window_s
        look = self._held_out.look(
            self.model, left_s=lambda: budget_s - (self._clock() - began), out_of_time=pace.out_of_time
        )
        if look is None:
            return
        self._standing.validation_score = look.score
        before = self._standing.best
        better = None
        if before is None or look.key > before.key:
            better = Best(key=look.key, score=look.score, step=self.step, weights=self.model.to_weights())
            self._standing.best = better
        pace.after_look(began, self.step)
        self._notify(run)
        if better is None or self.step == 0 or run.on_improved is None:
            return
        report = functools.partial(run.on_improved, better.weights, better.score, better.step)
        if pace.deadline is None:
            report()
        else:
            run.reports.put(report)
            pace.report_s = max(pace.report_s, run.reports.cost_s)

    # --------------------------------------------------------------------------------------- checkpoints

    def _first_random_state(self) -> dict[str, Tensor]:
        with torch.random.fork_rng([torch.device(self.device.torch_name)] if self.device.is_cuda else []):
            torch.manual_seed(self.settings.seed)
            return self._random_state()

    def _random_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self.device.is_cuda:
            state["cuda"] = torch.cuda.get_rng_state(self.device.torch_name)
        return state

    def _set_random_state(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if self.device.is_cuda and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device.torch_name)

    def _save(self, *, beside: bool) -> None:
        tensors = {f"model.{name}": t for name, t in self.model.canonical_tensors().items()}
        best = self._standing.best
        if best is not None:
            tensors["best"] = _as_tensor(best.weights)
        tensors |= {f"random.{name}": t for name, t in self._random.items()}
        for index, state in self._stepper.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": v for key, v in state.items() if isinstance(v, Tensor)}
        standing = self._standing
        values = {
            "step": standing.step,
            "epoch": standing.epoch,
            "place": standing.place,
            "batch": standing.batch,
            "best_key": None if best is None else best.key,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "validation_score": standing.validation_score,
            "elapsed_s": standing.elapsed_s,
            "resumed": standing.resumed,
            "part_rows": self._stepper.part_rows,
            "look_rows": self._held_out.rows,
        }
        self._keeper.save(tensors, values, beside=beside)

    def _resume(self) -> None:
        found = self._keeper.resume()
        if found is None:
            return
        tensors, values = found
        self.model.load_tensors({k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")})
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = tensor
        optimizer = self._stepper.optimizer
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self._random = {name: tensors[f"random.{name}"] for name in ("cpu", "cuda") if f"random.{name}" in tensors}
        best = None
        if "best" in tensors:
            first, second = values["best_key"]
            best = Best(
                key=(first, second),
                score=values["best_score"],
                step=values["best_step"],
                weights=tensors["best"].numpy().tobytes(),
            )
        self._stepper.part_rows, self._held_out.rows = values["part_rows"], values["look_rows"]
        self._standing = _Standing(
            step=values["step"],
            epoch=values["epoch"],
            place=values["place"],
            batch=values["batch"],
            best=best,
            validation_score=values["validation_score"],
            elapsed_s=values["elapsed_s"],
            resumed=values["resumed"] + 1,
        )

    # ------------------------------------------------------------------------------------------ evidence

    def evidence(self) -> dict[str, Any]:
        """What a provider states about how the model was made; JSON-ready. It is a statement, not a proof."""
        standing = self._standing
        return {
            "device": self.device.torch_name,
            "device_name": self.device.description,
            "precision": self.device.precision,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "seed": self.settings.seed,
            "settings": self.settings.as_dict(),
            "score_function": self.function.identifier,
            "graph_sha256": self.graph.sha256.hex(),
            "train_examples": len(self._data.train_rows),
            "held_out_examples": len(self._data.held_out_rows),
            "looked_at_examples": self._held_out.rows,
            "batch_size": self._batch,
            "part_size": min(self._batch, self._stepper.part_rows),
            "steps": self.step,
            "epochs": standing.epoch + standing.place / len(self._data.train_rows),
            "best_step": self.best_step,
            "best_validation_score": self.best_score,
            "wall_time_s": round(standing.elapsed_s, 3),
            "resumed": standing.resumed,
        }


@dataclass(kw_only=True)
class _Standing:
    """What a checkpoint keeps beside tensors: how far a training is, over all its runs.

    Attributes:
        step, epoch, place: steps and whole passes so far, and how many examples of this pass.
        batch: examples of a step where their number was left open; None until it is known.
        best, validation_score, elapsed_s: as in `TrainingProgress`.
        resumed: how often the job was resumed.
    """

    step: int = 0
    epoch: int = 0
    place: int = 0
    batch: int | None = None
    best: Best | None = None
    validation_score: float | None = None
    elapsed_s: float = 0.0
    resumed: int = 0


@dataclass(kw_only=True)
class _Run:
    """What belongs to one call of `train_until`."""

    pace: Pace
    on_progress: Callable[[TrainingProgress], None] | None
    on_improved: Callable[[bytes, float, int], None] | None
    reports: Background
    epoch: int = -1
    order: Tensor | None = None
    loss: float = math.nan


def _as_tensor(data: bytes) -> Tensor:
    """Bytes as a uint8 tensor that shares their memory; it must not be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bytes cannot be written to, and nobody does
        return torch.frombuffer(data, dtype=torch.uint8)
