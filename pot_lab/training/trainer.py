"""The default trainer: what a provider's notebook runs between the order and its deadline.

It trains a model graph on the order's train data, holds a part of them out, and reports each model that does better
there, so that the provider can commit to it at once and go on (paper, mining cycle step 3: a better model replaces
the one before). It resumes from its checkpoints to the same state. It is independent of the network.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.errors import InvariantBroken
from pot_lab.scoring import ModelGraph, ScoreFunction, check_dataset, load_graph, score_function, trainable
from pot_lab.scoring.dataset import each_input
from pot_lab.scoring.given_data import InputsLike, TensorLike, as_inputs, as_tensor
from pot_lab.scoring.graph.weights import tensor_sha256
from pot_lab.scoring.target_checks import NO_TOKEN
from pot_lab.training.checkpoint import load_checkpoint, save_checkpoint
from pot_lab.training.devices import pick_device
from pot_lab.training.errors import BadCheckpoint, BadSettings, TrainingDiverged
from pot_lab.training.settings import TrainerSettings
from pot_lab.training.split import generator, split_data
from pot_lab.training.validation import Best, validate

CHECKPOINT_EVERY_S = 30.0
PROGRESS_EVERY_STEPS = 10
_LOWEST_RATE = 0.01


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """Where a training stands.

    Attributes:
        step, epoch: steps and whole passes so far.
        loss: mean training loss (nats) since the last report.
        validation_score: last score on the held-out part, None before the first: accuracy as a fraction, or mean nats.
        best_score, best_step: the best so far.
        elapsed_s: time spent training, over all runs of this job.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    validation_score: float | None
    best_score: float | None
    best_step: int | None
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training's best model. `reason`: why it ended: "deadline", "steps", "epochs" or "stopped"."""

    weights: bytes
    validation_score: float
    step: int
    reason: str


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
        self._directory = Path(checkpoint_dir) if checkpoint_dir is not None else None
        self._fingerprint = tagged_hash(
            "pot-lab/training/1",
            self.graph.sha256,
            weights,
            *(bytes.fromhex(tensor_sha256(x)) for x in each_input(inputs)),
            bytes.fromhex(tensor_sha256(targets)),
            repr(sorted(self.settings.as_dict().items())).encode(),
            self.function.identifier.encode(),
        ).hex()
        self._data = split_data(inputs, targets, self.settings, self.device.torch_name)
        self.model = trainable(self.graph, weights).to(self.device.torch_name)
        self._optimizer = self._make_optimizer()
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

    def _make_optimizer(self) -> torch.optim.Optimizer:
        parameters, s = [p for p in self.model.parameters() if p.requires_grad], self.settings
        if not parameters:
            raise BadSettings("the model has no parameter that training may change", seen=0, wanted="at least 1")
        if s.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, s.learning_rate, momentum=0.9, nesterov=True, weight_decay=s.weight_decay
            )
        kind = torch.optim.AdamW if s.optimizer == "adamw" else torch.optim.Adam
        return kind(parameters, s.learning_rate, weight_decay=s.weight_decay)

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
            deadline_monotonic: on the trainer's clock; the last validation is done before it.
            steps: total number of steps, counted from the very first run.
            on_progress: called every few steps and after each validation.
            on_improved: called with (weights, validation score, step) for each model that does better on the held-out
                part than all before it, the initial weights among them; these are never reported.
            should_stop: called before each step; True ends the training.
        Raises: BadSettings (no end), TrainingDiverged.
        """
        last_step = self._last_step(steps)
        if deadline_monotonic is None and last_step is None:
            raise BadSettings("a training needs a deadline, a number of steps or a number of epochs")
        run = _Run(
            started=self._clock(),
            elapsed_before_s=self._standing.elapsed_s,
            deadline=deadline_monotonic,
            last_step=last_step,
            on_progress=on_progress,
            on_improved=on_improved,
        )
        cuda = [torch.device(self.device.torch_name)] if self.device.is_cuda else []
        with torch.random.fork_rng(cuda):
            self._set_random_state(self._random)
            reason = self._loop(run, should_stop or (lambda: False))
            self._random = self._random_state()
        self._standing.elapsed_s = run.elapsed_s(self._clock())
        self._save()
        best = self.best(reason if reason != "last" else self._end(steps))
        if best is None:
            raise InvariantBroken("a training ended without a validation", seen=f"step {self.step}")
        return best

    def best(self, reason: str = "so far") -> Trained | None:
        """The best model so far, also after a divergence; None before the first validation."""
        best = self._standing.best
        if best is None:
            return None
        return Trained(weights=best.weights, validation_score=best.score, step=best.step, reason=reason)

    def _last_step(self, steps: int | None) -> int | None:
        by_epochs = None if self.settings.epochs is None else self.settings.epochs * self._data.steps_per_epoch
        wanted = [n for n in (steps, by_epochs) if n is not None]
        return min(wanted) if wanted else None

    def _end(self, steps: int | None) -> str:
        return "steps" if steps is not None and self.step >= steps else "epochs"

    def _loop(self, run: _Run, should_stop: Callable[[], bool]) -> str:
        every = self.settings.validate_every_steps or self._data.steps_per_epoch
        saved_at, validated_at = self._clock(), self.step if self._standing.best is not None else -1
        if validated_at < 0:
            self._validate(run)
            validated_at = self.step
        losses: list[Tensor] = []
        while True:
            now = self._clock()
            if run.last_step is not None and self.step >= run.last_step:
                reason = "last"
            elif run.deadline is not None and now + 1.5 * (run.step_s + run.validation_s) >= run.deadline:
                reason = "deadline"
            elif should_stop():
                reason = "stopped"
            else:
                losses.append(self._train_step(run, now))
                run.step_s = max(self._clock() - now, 0.9 * run.step_s)
                if self.step % every == 0:
                    self._report(run, losses)
                    self._validate(run)
                    validated_at = self.step
                elif len(losses) >= PROGRESS_EVERY_STEPS:
                    self._report(run, losses)
                if validated_at == self.step or self._clock() - saved_at >= CHECKPOINT_EVERY_S:
                    self._standing.elapsed_s = run.elapsed_s(self._clock())
                    self._random = self._random_state()
                    self._save()
                    saved_at = self._clock()
                continue
            if losses:
                self._report(run, losses)
            if validated_at != self.step:
                self._validate(run)
            return reason

    def _train_step(self, run: _Run, now: float) -> Tensor:
        epoch, place = divmod(self.step, self._data.steps_per_epoch)
        if run.order is None or run.epoch != epoch:
            run.epoch = epoch
            order = torch.randperm(len(self._data.targets), generator=generator(self.settings.seed, epoch))
            run.order = order.to(self._data.targets.device)
        chosen = run.order[place * self._data.batch_size : (place + 1) * self._data.batch_size]
        rate = self._learning_rate(run, now)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self.device.autocast():
            outputs = self.model(*(x[chosen] for x in self._data.inputs))
        loss = _loss(self.function, outputs.float(), self._data.targets[chosen], self.settings.label_smoothing)
        torch.autograd.backward(loss)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self._optimizer.step()
        self._standing.step += 1
        return loss.detach()

    def _learning_rate(self, run: _Run, now: float) -> float:
        s = self.settings
        rate = s.learning_rate
        if s.schedule == "cosine":
            fraction = run.fraction(self.step, now)
            rate *= _LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))
        if self.step < s.warmup_steps:
            rate *= (self.step + 1) / s.warmup_steps
        return rate

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
        if run.on_progress is not None:
            rate = float(self._optimizer.param_groups[0]["lr"])
            elapsed_s = run.elapsed_s(self._clock())
            epoch = self.step // self._data.steps_per_epoch
            run.on_progress(
                TrainingProgress(
                    step=self.step,
                    epoch=epoch,
                    loss=run.loss,
                    learning_rate=rate,
                    validation_score=self._standing.validation_score,
                    best_score=self.best_score,
                    best_step=self.best_step,
                    elapsed_s=elapsed_s,
                )
            )

    # ---------------------------------------------------------------------------------------- validation

    def _validate(self, run: _Run) -> None:
        began = self._clock()
        score, key = validate(self.model, self._data, self.function, self.device)
        self._standing.validation_score = score
        before = self._standing.best
        better = None
        if before is None or key > before.key:
            better = Best(key=key, score=score, step=self.step, weights=self.model.to_weights())
            self._standing.best = better
        run.validation_s = max(self._clock() - began, 0.9 * run.validation_s)
        self._notify(run)
        if better is not None and self.step > 0 and run.on_improved is not None:
            run.on_improved(better.weights, better.score, better.step)

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

    def _save(self) -> None:
        if self._directory is None:
            return
        tensors = {f"model.{name}": t for name, t in self.model.canonical_tensors().items()}
        best = self._standing.best
        if best is not None:
            tensors["best"] = torch.frombuffer(bytearray(best.weights), dtype=torch.uint8)
        tensors |= {f"random.{name}": t for name, t in self._random.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": v for key, v in state.items() if isinstance(v, Tensor)}
        values = {
            "fingerprint": self._fingerprint,
            "step": self.step,
            "best_key": None if best is None else best.key,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "validation_score": self._standing.validation_score,
            "elapsed_s": self._standing.elapsed_s,
            "resumed": self._standing.resumed,
        }
        save_checkpoint(self._directory, tensors, values)

    def _resume(self) -> None:
        found = load_checkpoint(self._directory) if self._directory is not None else None
        if found is None:
            return
        tensors, values = found
        if values["fingerprint"] != self._fingerprint:
            raise BadCheckpoint(
                "a checkpoint belongs to another model, other data or other settings; remove it to start again"
            )
        self.model.load_tensors({k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")})
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})
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
        self._standing = _Standing(
            step=values["step"],
            best=best,
            validation_score=values["validation_score"],
            elapsed_s=values["elapsed_s"],
            resumed=values["resumed"] + 1,
        )

    # ------------------------------------------------------------------------------------------ evidence

    def evidence(self) -> dict[str, Any]:
        """What a provider states about how the model was made; JSON-ready. It is a statement, not a proof."""
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
            "train_examples": len(self._data.targets),
            "held_out_examples": len(self._data.held_out_targets),
            "steps": self.step,
            "epochs": self.step / self._data.steps_per_epoch,
            "best_step": self.best_step,
            "best_validation_score": self.best_score,
            "wall_time_s": round(self._standing.elapsed_s, 3),
            "resumed": self._standing.resumed,
        }


@dataclass(kw_only=True)
class _Standing:
    """What a checkpoint keeps beside tensors: how far a training is, over all its runs."""

    step: int = 0
    best: Best | None = None
    validation_score: float | None = None
    elapsed_s: float = 0.0
    resumed: int = 0


@dataclass(kw_only=True)
class _Run:
    """What belongs to one call of `train_until`."""

    started: float
    elapsed_before_s: float
    deadline: float | None
    last_step: int | None
    on_progress: Callable[[TrainingProgress], None] | None
    on_improved: Callable[[bytes, float, int], None] | None
    epoch: int = -1
    order: Tensor | None = None
    step_s: float = 0.0
    validation_s: float = 0.0
    loss: float = math.nan

    def fraction(self, step: int, now: float) -> float:
        """How much of the training is over: of its steps where their number is known, else of its time."""
        if self.last_step is not None:
            return step / self.last_step
        if self.deadline is None:
            raise InvariantBroken("a training has neither a last step nor a deadline")
        return (now - self.started) / max(self.deadline - self.started, 1e-9)

    def elapsed_s(self, now: float) -> float:
        """Seconds of training over all runs."""
        return self.elapsed_before_s + now - self.started


def _loss(function: ScoreFunction, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """What training makes small for the sake of a score function."""
    if function.name == "mse":
        return F.mse_loss(outputs, targets.to(outputs.dtype))
    if function.name == "mae":
        return F.l1_loss(outputs, targets.to(outputs.dtype))
    if outputs.dim() > 2:  # rows of scores for each token
        outputs, targets = outputs.flatten(0, -2), targets.flatten()
    return F.cross_entropy(outputs, targets, ignore_index=NO_TOKEN, label_smoothing=smoothing)
