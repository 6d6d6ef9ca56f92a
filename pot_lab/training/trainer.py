"""The default trainer: what a provider's notebook runs between the order and its deadline.

It trains a model graph on the order's train data, holds a part of them out, and reports each model that does better
there, so that the provider can commit to it at once and go on (paper, mining cycle step 3: a better model replaces
the one before). It resumes from its checkpoints to the same state. It knows the score functions, and no network.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.scoring import Inputs, ModelGraph, ScoreFunction, check_dataset, load_graph, score_function, trainable
from pot_lab.scoring.dataset import as_inputs, as_tensor, each_input
from pot_lab.scoring.functions import NO_TOKEN
from pot_lab.scoring.graph.weights import tensor_sha256
from pot_lab.training.checkpoint import load_checkpoint, save_checkpoint
from pot_lab.training.devices import Device, pick_device
from pot_lab.training.errors import BadCheckpoint, BadSettings, TrainingDiverged
from pot_lab.training.settings import TrainerSettings

CHECKPOINT_EVERY_S = 30.0
PROGRESS_EVERY_STEPS = 10
_VALIDATION_BATCH = 512
_LOWEST_RATE = 0.01


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Trained:
    """A training's best model. `reason`: why it ended: "deadline", "steps", "epochs" or "stopped"."""

    weights: bytes
    validation_score: float
    step: int
    reason: str


class Trainer:
    """Train a model graph on an order's data, and report each model that is better than the last.

    Args:
        graph: the order's model, checked or as bytes.
        weights: initial weights, safetensors bytes.
        train_inputs, train_targets: the order's train data; a tuple of inputs where the model takes several.
        settings: see `TrainerSettings`.
        function: the order's score function; what "better" means.
        device: a torch device name; None picks (`pick_device`).
        checkpoint_dir: where to keep checkpoints; an existing one is resumed. None keeps none.
        clock: monotonic seconds.
    Raises: BadSettings, BadCheckpoint, ShapeMismatch, DtypeMismatch, BadDataset, BadWeights, HostileGraph.
    """

    def __init__(
        self,
        graph: ModelGraph | bytes,
        weights: bytes,
        train_inputs: Inputs,
        train_targets: Tensor,
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
        train_inputs, train_targets = as_inputs(train_inputs), as_tensor(train_targets, "targets")
        check_dataset(self.graph, train_inputs, train_targets, self.function)
        self.device: Device = pick_device(device)
        self.step = 0
        self.best_score: float | None = None
        self.best_step: int | None = None
        self._best_key: tuple[float, float] | None = None
        self._best_weights: bytes | None = None
        self._validation_score: float | None = None
        self._elapsed_s = 0.0
        self._resumed = 0
        self._clock = clock
        self._directory = Path(checkpoint_dir) if checkpoint_dir is not None else None
        self._fingerprint = tagged_hash(
            "pot-lab/training/1",
            self.graph.sha256,
            weights,
            *(bytes.fromhex(tensor_sha256(x)) for x in each_input(train_inputs)),
            bytes.fromhex(tensor_sha256(train_targets)),
            repr(sorted(self.settings.as_dict().items())).encode(),
            self.function.identifier.encode(),
        ).hex()
        self._split(train_inputs, train_targets)
        self.model = trainable(self.graph, weights).to(self.device.torch_name)
        self._optimizer = self._make_optimizer()
        self._random = self._first_random_state()
        self._resume()

    def _split(self, inputs: Inputs, targets: Tensor) -> None:
        count = len(targets)
        held_out = min(max(1, round(count * self.settings.validation_fraction)), count - 1)
        if held_out < 1:
            raise BadSettings("there are too few examples to hold some out", seen=count, wanted="at least 2")
        order = torch.randperm(count, generator=self._generator(-1))
        device = self.device.torch_name
        train, validation = order[held_out:], order[:held_out]

        def there(examples: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            return tuple(x[examples].to(device) for x in each_input(inputs)), targets[examples].to(device)

        self._inputs, self._targets = there(train)
        self._validation_inputs, self._validation_targets = there(validation)
        self._batch = min(self.settings.batch_size, count - held_out)
        self._steps_per_epoch = (count - held_out) // self._batch

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch + 1)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        parameters, s = [p for p in self.model.parameters() if p.requires_grad], self.settings
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
                part.
            should_stop: asked before each step.
        Raises: BadSettings (no end), TrainingDiverged.
        """
        last_step = self._last_step(steps)
        if deadline_monotonic is None and last_step is None:
            raise BadSettings("a training needs a deadline, a number of steps or a number of epochs")
        run = _Run(self._clock(), self._elapsed_s, deadline_monotonic, last_step, on_progress, on_improved)
        cuda = [torch.device(self.device.torch_name)] if self.device.is_cuda else []
        with torch.random.fork_rng(cuda):
            self._set_random_state(self._random)
            reason = self._loop(run, should_stop or (lambda: False))
            self._random = self._random_state()
        self._elapsed_s = run.elapsed_s(self._clock())
        self._save()
        best = self.best(reason if reason != "last" else self._end(steps))
        assert best is not None
        return best

    def best(self, reason: str = "so far") -> Trained | None:
        """The best model so far, also after a divergence; None before the first validation."""
        if self._best_weights is None or self.best_score is None or self.best_step is None:
            return None
        return Trained(self._best_weights, self.best_score, self.best_step, reason)

    def _last_step(self, steps: int | None) -> int | None:
        by_epochs = None if self.settings.epochs is None else self.settings.epochs * self._steps_per_epoch
        wanted = [n for n in (steps, by_epochs) if n is not None]
        return min(wanted) if wanted else None

    def _end(self, steps: int | None) -> str:
        return "steps" if steps is not None and self.step >= steps else "epochs"

    def _loop(self, run: _Run, should_stop: Callable[[], bool]) -> str:
        every = self.settings.validate_every_steps or self._steps_per_epoch
        saved_at, validated_at = self._clock(), self.step if self._best_weights is not None else -1
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
                    self._elapsed_s = run.elapsed_s(self._clock())
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
        epoch, place = divmod(self.step, self._steps_per_epoch)
        if run.order is None or run.epoch != epoch:
            run.epoch = epoch
            order = torch.randperm(len(self._targets), generator=self._generator(epoch))
            run.order = order.to(self._targets.device)
        chosen = run.order[place * self._batch : (place + 1) * self._batch]
        rate = self._learning_rate(run, now)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self.device.autocast():
            outputs = self.model(*(x[chosen] for x in self._inputs))
        loss = _loss(self.function, outputs.float(), self._targets[chosen], self.settings.label_smoothing)
        torch.autograd.backward(loss)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self._optimizer.step()
        self.step += 1
        return loss.detach()

    def _learning_rate(self, run: _Run, now: float) -> float:
        s = self.settings
        rate = s.learning_rate
        if s.schedule == "cosine":
            if run.last_step is not None:
                fraction = self.step / run.last_step
            else:
                assert run.deadline is not None
                fraction = (now - run.started) / max(run.deadline - run.started, 1e-9)
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
        self._tell(run)

    def _tell(self, run: _Run) -> None:
        if run.on_progress is not None:
            rate = float(self._optimizer.param_groups[0]["lr"])
            elapsed_s = run.elapsed_s(self._clock())
            epoch = self.step // self._steps_per_epoch
            run.on_progress(
                TrainingProgress(
                    self.step, epoch, run.loss, rate, self._validation_score, self.best_score, self.best_step, elapsed_s
                )
            )

    # ---------------------------------------------------------------------------------------- validation

    def _validate(self, run: _Run) -> None:
        began = self._clock()
        score, key = self._validation()
        self._validation_score = score
        improved = self._best_key is None or key > self._best_key
        if improved:
            self._best_key, self.best_score, self.best_step = key, score, self.step
            self._best_weights = self.model.to_weights()
        run.validation_s = max(self._clock() - began, 0.9 * run.validation_s)
        self._tell(run)
        if improved and run.on_improved is not None:
            assert self._best_weights is not None
            run.on_improved(self._best_weights, score, self.step)

    def _validation(self) -> tuple[float, tuple[float, float]]:
        """(score, key): accuracy, mean nats, or what the score function gives an example on average; the key is larger
        for the better model, ties of accuracy go by loss."""
        correct, loss, count = 0, 0.0, len(self._validation_targets)
        classes = self.function.name in ("accuracy", "cross_entropy")
        values, finite = [], True
        self.model.eval()
        with torch.inference_mode(), self.device.autocast():
            for start in range(0, count, _VALIDATION_BATCH):
                rows = slice(start, start + _VALIDATION_BATCH)
                outputs = self.model(*(x[rows] for x in self._validation_inputs)).float()
                targets = self._validation_targets[rows]
                if classes:
                    correct += int((outputs.argmax(-1) == targets).sum())
                    loss += float(F.cross_entropy(outputs, targets, reduction="sum"))
                else:
                    finite = finite and bool(torch.isfinite(outputs).all())
                    values.append(self.function.evaluate(outputs.double().nan_to_num(), targets).cpu().numpy())
        sign = 1.0 if self.function.higher_is_better else -1.0
        if not classes:
            mean = self.function.total_of(np.concatenate(values)) / count if finite else -sign * math.inf
            return mean, (sign * mean, 0.0)
        mean_loss = loss / count if math.isfinite(loss) else math.inf
        if self.function.higher_is_better:
            return correct / count, (float(correct), -mean_loss)
        return mean_loss, (-mean_loss, float(correct))

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
        if self._best_weights is not None:
            tensors["best"] = torch.frombuffer(bytearray(self._best_weights), dtype=torch.uint8)
        tensors |= {f"random.{name}": t for name, t in self._random.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": v for key, v in state.items() if isinstance(v, Tensor)}
        values = {
            "fingerprint": self._fingerprint,
            "step": self.step,
            "best_key": self._best_key,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "validation_score": self._validation_score,
            "elapsed_s": self._elapsed_s,
            "resumed": self._resumed,
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
        if "best" in tensors:
            self._best_weights = tensors["best"].numpy().tobytes()
            key = values["best_key"]
            self._best_key, self.best_score, self.best_step = (
                (key[0], key[1]),
                values["best_score"],
                values["best_step"],
            )
        self.step, self._elapsed_s = values["step"], values["elapsed_s"]
        self._validation_score, self._resumed = values["validation_score"], values["resumed"] + 1

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
            "train_examples": len(self._targets),
            "held_out_examples": len(self._validation_targets),
            "steps": self.step,
            "epochs": self.step / self._steps_per_epoch,
            "best_step": self.best_step,
            "best_validation_score": self.best_score,
            "wall_time_s": round(self._elapsed_s, 3),
            "resumed": self._resumed,
        }


@dataclass
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

    def elapsed_s(self, now: float) -> float:
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
