"""The default trainer: what a provider's notebook runs between the order and its deadline.

It trains a model graph on the order's train data, holds a part of them out, and reports each model that does better
there, so that the provider can commit to it at once and go on (paper, mining cycle step 3: a better model replaces
the one before). It resumes from its checkpoints to the same state. It is independent of the network.
"""

from __future__ import annotations

import contextlib
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.scoring import ModelGraph, ScoreFunction, check_dataset, load_graph, score_function, trainable
from pot_lab.scoring.dataset import each_input
from pot_lab.scoring.given_data import InputsLike, TensorLike, as_inputs, as_tensor
from pot_lab.scoring.graph.weights import tensor_sha256
from pot_lab.training.devices import pick_device
from pot_lab.training.errors import BadSettings, TrainingDiverged
from pot_lab.training.keeping import Keeper
from pot_lab.training.memory import free_bytes, rows_of_a_look, rows_of_a_step
from pot_lab.training.pacing import FIRST_LOOK_SHARE, SIZING_STEPS, STEPS_IN_WINDOW, USUAL_BATCH, Pace
from pot_lab.training.rates import (
    HOPELESS,
    LEAST_LOOKS,
    LEAST_SHARE,
    LEAST_TRIAL_STEPS,
    RESTART_FACTOR,
    TRIAL_SHARE,
    TRIED,
    learned_by_heart,
    learning_rate,
)
from pot_lab.training.records import Trained, TrainingProgress
from pot_lab.training.run import TrainingRun
from pot_lab.training.settings import TrainerSettings
from pot_lab.training.split import generator, split_data
from pot_lab.training.standing import (
    TrainingStanding,
    bytes_as_tensor,
    first_random_state,
    gpus_of,
    load_optimizer,
    optimizer_tensors,
    random_state,
    set_random_state,
    some,
)
from pot_lab.training.steps import Stepper, make_optimizer
from pot_lab.training.validation import Best, HeldOut, Look

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
        train_inputs: the order's train data [examples, ...], as `pack_dataset` takes it; a tuple of tensors or
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
        self._standing = TrainingStanding()
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
        self._random = first_random_state(self.device, self.settings.seed)
        self._resume()

    @property
    def step(self) -> int:
        """Steps so far, over all runs of this job."""
        return self._standing.step

    @property
    def best_score(self) -> float | None:
        """Score of the best model on the held-out part; None before the first validation."""
        return self._standing.best_score

    @property
    def best_step(self) -> int | None:
        """The step that the best model was found at; None before the first validation."""
        return self._standing.best_step

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
            last_looks=1 if self._stepper.average is None else 2,
        )
        pace.report_s = sum(p.numel() * p.element_size() for p in self.model.parameters()) / _FIRST_REPORT_BYTES_PER_S
        run = TrainingRun(pace=pace, on_progress=on_progress, on_improved=on_improved)
        self._keeper.open()
        try:
            with torch.random.fork_rng(gpus_of(self.device)):
                set_random_state(self.device, self._random)
                reason = self._loop(run, should_stop or (lambda: False))
                self._random = random_state(self.device)
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

    def _loop(self, run: TrainingRun, should_stop: Callable[[], bool]) -> str:
        pace = run.pace
        if self._standing.best is None:
            self._validate(run)
        else:
            pace.after_look(self._clock(), self.step)
        if self.step:
            self._find_rate(run)
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
                if self.step == SIZING_STEPS:
                    self._find_rate(run)
                looked = pace.look_is_due(self.step, self.settings.validate_every_steps, self._steps_per_epoch)
                if looked or len(losses) >= PROGRESS_EVERY_STEPS:
                    self._report(run, losses)
                if looked and self._validate(run) == "overfitted":
                    return "overfitted"
                if self._keeper.is_due(looked):
                    self._standing.elapsed_s = pace.elapsed_s()
                    self._random = random_state(self.device)
                    self._save(beside=pace.deadline is not None)
                continue
            if losses:
                self._report(run, losses)
            if pace.looked_step != self.step:
                self._validate(run)
                if self._stepper.average is not None:
                    self._validate(run, averaged=False)
            return reason

    def _train_step(self, run: TrainingRun, peak: float | None = None) -> Tensor:
        """One step, with the learning rate `peak` as it is, or as the schedule wants it."""
        standing, pace = self._standing, run.pace
        sizing = pace.window_s is not None and self.settings.batch_size is None and standing.step < SIZING_STEPS
        usual_s = pace.window_s / STEPS_IN_WINDOW if sizing and pace.window_s is not None else math.inf
        began = self._clock()
        rows = self._next_rows(run)
        rate = peak
        if rate is None:
            rate = learning_rate(self.settings, self._peak, standing.step, pace.fraction(standing.step))
        loss, done = self._stepper.take(
            rows,
            rate,
            lambda so_far, coming: pace.must_cut(began, so_far, coming, usual_s),
            at_once=pace.most_at_once(),
        )
        pace.after_step(began, done)
        standing.step += 1
        standing.place += done
        if self._stepper.average is not None:
            self._stepper.average.update(standing.step)
        if sizing:
            least = 1 if self._data.targets.dim() > 1 else _LEAST_BATCH
            standing.batch = pace.batch_for(self._usual_batch, least)
        if standing.place + self._batch > len(self._data.train_rows):
            standing.epoch, standing.place = standing.epoch + 1, 0
        return loss

    @property
    def _peak(self) -> float:
        """The largest learning rate of the schedule."""
        rate = self._standing.peak_rate or self.settings.usual_rate
        return rate * RESTART_FACTOR**self._standing.restarts

    def _find_rate(self, run: TrainingRun) -> None:
        """Try a few learning rates from where the model is, and go on from the best."""
        pace, standing, stepper = run.pace, self._standing, self._stepper
        if self.settings.learning_rate is not None or standing.peak_rate is not None or pace.window_s is None:
            return
        trial_s = TRIAL_SHARE * pace.window_s
        if trial_s < LEAST_TRIAL_STEPS * self._batch * pace.row_s or pace.fraction(standing.step) > 0.5:
            return
        start, found = self.model.to_weights(), None
        for multiple in TRIED:
            rate = multiple * self.settings.usual_rate
            stepper.go_back(start)
            until, loss = self._clock() + trial_s, torch.zeros(())
            while self._clock() < until and not pace.must_end():
                loss = self._train_step(run, rate)
            look = self._look(run) if math.isfinite(float(loss)) else None
            if look is None or (found is not None and look.loss > HOPELESS * found[0].loss):
                break
            if found is not None and look.loss >= found[0].loss:
                continue
            if standing.best is not None and standing.best.step == self.step:
                found = look, rate, standing.best.weights
                continue
            with stepper.averaged():
                found = look, rate, self.model.to_weights()
        if found is not None:
            standing.peak_rate = found[1]
        stepper.go_back(start if found is None else found[2])

    def _next_rows(self, run: TrainingRun) -> Tensor:
        standing = self._standing
        if run.order is None or run.epoch != standing.epoch:
            run.epoch = standing.epoch
            run.order = torch.randperm(
                len(self._data.train_rows), generator=generator(self.settings.seed, standing.epoch)
            )
        return self._data.train_rows[run.order[standing.place : standing.place + self._batch]]

    def _report(self, run: TrainingRun, losses: list[Tensor]) -> None:
        loss = float(torch.stack(losses).mean())
        losses.clear()
        run.loss = loss
        if not math.isfinite(loss) and not (run.pace.deadline is not None and self._go_back(run)):
            raise TrainingDiverged(
                "the training loss is no longer finite; try a smaller learning rate", seen=f"step {self.step}"
            )
        self._notify(run)

    def _notify(self, run: TrainingRun) -> None:
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

    def _look(self, run: TrainingRun, averaged: bool = True) -> Look | None:
        """Score the model, or its average, on the held-out part; None where the time was over. A better one is kept."""
        pace, standing = run.pace, self._standing
        began = self._clock()
        budget_s = math.inf if pace.window_s is None else FIRST_LOOK_SHARE * pace.window_s
        with self._stepper.averaged() if averaged else contextlib.nullcontext():
            look = self._held_out.look(
                self.model, left_s=lambda: budget_s - (self._clock() - began), out_of_time=pace.out_of_time
            )
            if look is None:
                return None
            standing.validation_score = look.score
            better = standing.best is None or look.key > standing.best.key
            if better:
                weights = self.model.to_weights()
                standing.best = Best(key=look.key, score=look.score, loss=look.loss, step=self.step, weights=weights)
                standing.best_loss, run.looks = run.loss if math.isfinite(run.loss) else math.inf, 0
        pace.after_look(began, self.step)
        run.looks += 1
        self._notify(run)
        if better and self.step > 0 and standing.best is not None:
            run.tell(standing.best)
        return look

    def _validate(self, run: TrainingRun, *, averaged: bool = True) -> str:
        """Look at the held-out part; go back to the best where the model learns by heart. Returns "overfitted" where
        that has happened too often."""
        standing, pace = self._standing, run.pace
        look = self._look(run, averaged)
        if look is None or standing.best is None or pace.window_s is None or self.settings.restarts is None:
            return ""
        since = max(standing.best.step, standing.restarted)
        if run.looks < LEAST_LOOKS or (self.step - since) * pace.mean_step_s < LEAST_SHARE * pace.window_s:
            return ""
        if not learned_by_heart(look, standing.best, run.loss, standing.best_loss):
            return ""
        return "" if self._go_back(run) else "overfitted"

    def _go_back(self, run: TrainingRun) -> bool:
        """Go on from the best model with a smaller learning rate; returns whether that is still to be tried."""
        standing, allowed = self._standing, self.settings.restarts
        if allowed is None or standing.best is None or standing.restarts >= allowed:
            return False
        standing.restarts, standing.restarted, run.looks = standing.restarts + 1, self.step, 0
        self._stepper.go_back(standing.best.weights)
        return True

    # --------------------------------------------------------------------------------------- checkpoints

    def _save(self, *, beside: bool) -> None:
        stepper, standing = self._stepper, self._standing
        tensors = {f"model.{name}": t for name, t in self.model.canonical_tensors().items()}
        tensors |= {f"random.{name}": t for name, t in self._random.items()}
        tensors |= {f"optimizer.{name}": t for name, t in optimizer_tensors(stepper.optimizer).items()}
        if stepper.average is not None:
            tensors |= {f"average.{name}": t for name, t in stepper.average.tensors().items()}
        if standing.best is not None:
            tensors["best"] = bytes_as_tensor(standing.best.weights)
        values = {
            "standing": standing.values(),
            "part_rows": stepper.part_rows,
            "look_rows": self._held_out.rows,
        }
        self._keeper.save(tensors, values, beside=beside)

    def _resume(self) -> None:
        found = self._keeper.resume()
        if found is None:
            return
        tensors, values = found
        stepper = self._stepper
        self.model.load_tensors(some(tensors, "model"))
        load_optimizer(stepper.optimizer, some(tensors, "optimizer"))
        if stepper.average is not None:
            stepper.average.load(some(tensors, "average"))
        self._random = some(tensors, "random")
        stepper.part_rows, self._held_out.rows = values["part_rows"], values["look_rows"]
        self._standing = TrainingStanding.of(values["standing"], tensors.get("best"))
        self._standing.resumed += 1

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
            "peak_learning_rate": self._peak,
            "restarts": standing.restarts,
            "resumed": standing.resumed,
        }
