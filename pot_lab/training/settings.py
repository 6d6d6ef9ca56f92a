"""Everything a provider may set on the default trainer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from pot_lab.errors import one_of
from pot_lab.training.errors import BadSettings

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "constant"]


USUAL_RATES = {"adamw": 1e-3, "adam": 1e-3, "sgd": 0.05}
"""Peak learning rates where the settings leave them open, by optimizer."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How the default trainer trains; every setting has a default. Checked when they are made.

        >>> TrainerSettings(learning_rate=3e-4, epochs=10).schedule
        'cosine'

    Raises: BadSettings, naming the setting, the value and the bounds.

    Attributes:
        optimizer: `adamw`, `adam` or `sgd` (with Nesterov momentum 0.9).
        learning_rate: peak learning rate. None tries a few for a short time where there is a deadline that leaves time
            for it, and is USUAL_RATES otherwise.
        batch_size: examples a step; at most all of them. None is 64, or fewer where a deadline would leave time for
            few steps only. What does not fit into memory at once goes through in parts.
        weight_decay: decoupled for `adamw`, L2 for the others.
        epochs: passes over the train part; None trains until the deadline or the wanted number of steps.
        seed: of the split, the order of examples and dropout.
        schedule: `cosine` falls to 1 % of the learning rate, over the steps where their number is known, else over the
            time; `constant` stays.
        warmup_steps: steps of linear rise; None is the first fiftieth of the training.
        label_smoothing: 0 to below 1.
        validation_fraction: part of the train data held out to see whether a model improved, above 0 and below 1.
        validate_every_steps: steps between looks at the held-out part; None is once an epoch, and sooner where a
            deadline is near. With a deadline, looks take at most a tenth of the time.
        clip_norm: bound of the gradient's norm; None leaves it.
        average: whether the average of the model over its last steps is what is looked at, and returned where it is
            better. It takes the memory of the weights once more.
        restarts: how often a training with a deadline that learns by heart (its loss falls, and that of the held-out
            part has risen for some time) goes back to its best model, with a third of the learning rate. One more time
            ends it. None never looks for it.
    """

    optimizer: Optimizer = "adamw"
    learning_rate: float | None = None
    batch_size: int | None = None
    weight_decay: float = 0.01
    epochs: int | None = None
    seed: int = 0
    schedule: Schedule = "cosine"
    warmup_steps: int | None = None
    label_smoothing: float = 0.0
    validation_fraction: float = 0.1
    validate_every_steps: int | None = None
    clip_norm: float | None = 1.0
    average: bool = True
    restarts: int | None = 3

    def __post_init__(self) -> None:
        self._choice("optimizer", get_args(Optimizer))
        self._choice("schedule", get_args(Schedule))
        self._between("learning_rate", 0, 100, open_low=True)
        self._between("batch_size", 1, 1 << 20)
        self._between("weight_decay", 0, 100)
        self._between("epochs", 1, 1 << 31)
        self._between("seed", 0, (1 << 31) - 1)
        self._between("warmup_steps", 0, 1 << 31)
        self._between("label_smoothing", 0, 0.999)
        self._between("validation_fraction", 0, 0.9, open_low=True)
        self._between("validate_every_steps", 1, 1 << 31)
        self._between("restarts", 0, 1000)
        self._between("clip_norm", 0, 1e9, open_low=True)

    @property
    def usual_rate(self) -> float:
        """The peak learning rate as far as no trial has found another."""
        return self.learning_rate or USUAL_RATES[self.optimizer]

    def _choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise BadSettings(
                f"{name} is not known", seen=getattr(self, name), wanted=one_of(getattr(self, name), choices)
            )

    def _between(self, name: str, low: float, high: float, *, open_low: bool = False) -> None:
        value = getattr(self, name)
        optional = type(None) in get_args(get_type_hints(type(self))[name])
        if value is None and optional:
            return
        whole = int in (get_type_hints(type(self))[name], *get_args(get_type_hints(type(self))[name]))
        number = type(value) is int or (type(value) is float and not whole)
        if not number or not low <= value <= high or (open_low and value == low):
            kind = "a whole number" if whole else "a number"
            raise BadSettings(
                f"{name} is out of range",
                seen=value,
                wanted=f"{kind} {'above' if open_low else 'from'} {low} to {high}",
            )

    def as_dict(self) -> dict[str, Any]:
        """All settings by name, JSON-ready."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
