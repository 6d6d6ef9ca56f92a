"""Score functions: what clients may choose. They never supply code.

Each turns a model's exact outputs and the targets into one whole number of at least 0 for each example; a score is
their sum. Names and versions are part of an order, so what a released version computes never changes.

An identifier is `name/version`, or with parameters that differ from the usual `name[parameter=value,...]/version`,
parameters in alphabetical order: one function has one identifier. Every function has the parameter `slices`: 1 (usual)
computes the model about as accurately as float32, 2 close to float64.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pot_lab.scoring import reductions
from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch, UnknownScoreFunction
from pot_lab.scoring.graph import Output

MICRO = 10**6
LOSS_CAP_NATS = 50
_IDENTIFIER = re.compile(r"([a-z0-9_]{1,64})(?:\[([a-z0-9_=,]{1,128})\])?(?:/([0-9]{1,9}))?")


@dataclass(frozen=True)
class ScoreFunction:
    """
    Attributes:
        name, version: how orders name it, together `name/version`.
        higher_is_better: direction of the total.
        unit: what one unit of the total is.
        largest: largest value of one example.
        evaluate: (outputs float64 [B, ...], targets [B, ...]) -> int64 [B]; outputs are finite.
        check: (output, target dtype, target shape for one example) -> None, or raises ShapeMismatch or DtypeMismatch.
        check_targets: (output, targets) -> a reason why the values cannot be targets, or None.
        slices: in how many slices of 20 bits products take their operands, 1 or 2.
    """

    name: str
    version: int
    higher_is_better: bool
    unit: str
    largest: int
    evaluate: Callable[[Tensor, Tensor], Tensor]
    check: Callable[[Output, torch.dtype, tuple[int, ...]], None]
    check_targets: Callable[[Output, Tensor], str | None]
    slices: int = 1

    @property
    def identifier(self) -> str:
        parameters = "" if self.slices == 1 else f"[slices={self.slices}]"
        return f"{self.name}{parameters}/{self.version}"

    def with_slices(self, slices: int) -> ScoreFunction:
        """The same function of a model computed in `slices` slices. Raises: UnknownScoreFunction."""
        if slices not in (1, 2):
            raise UnknownScoreFunction("a score takes operands in one slice or two", seen=slices, wanted="1 or 2")
        return self if slices == self.slices else replace(self, slices=slices)


def _check_classes(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if len(output.shape) != 1:
        raise ShapeMismatch(
            "the model's output must be one row of class scores an example", seen=output.shape, wanted="(classes,)"
        )
    if dtype != torch.int64:
        raise DtypeMismatch("targets must be class numbers", seen=dtype, wanted="torch.int64")
    if shape != ():
        raise ShapeMismatch(
            "targets must be one class number an example", seen=("examples", *shape), wanted="(examples,)"
        )


def _check_class_range(output: Output, targets: Tensor) -> str | None:
    if targets.numel() and not (int(targets.min()) >= 0 and int(targets.max()) < output.shape[0]):
        return (
            f"class numbers from {int(targets.min())} to {int(targets.max())}, for a model of {output.shape[0]} classes"
        )
    return None


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (reductions.lowest_argmax(outputs, -1) == targets).to(torch.int64)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    chosen = reductions.log_softmax(outputs, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return torch.round((-chosen).clamp(0.0, float(LOSS_CAP_NATS)) * float(MICRO)).to(torch.int64)


ACCURACY = ScoreFunction(
    "accuracy", 1, True, "examples classified rightly", 1, _accuracy, _check_classes, _check_class_range
)
CROSS_ENTROPY = ScoreFunction(
    "cross_entropy",
    1,
    False,
    "micro-nats, at most 50 nats an example",
    LOSS_CAP_NATS * MICRO,
    _cross_entropy,
    _check_classes,
    _check_class_range,
)

FUNCTIONS: dict[str, ScoreFunction] = {f.identifier: f for f in (ACCURACY, CROSS_ENTROPY)}


def score_function(name: str | ScoreFunction) -> ScoreFunction:
    """The function of an identifier, or the newest version where it names none.

    Raises: UnknownScoreFunction.
    """
    if isinstance(name, ScoreFunction):
        return name
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    match = _IDENTIFIER.fullmatch(name)
    versions = [f for f in FUNCTIONS.values() if match and f.name == match[1] and match[3] in (None, str(f.version))]
    if match is None or not versions:
        raise UnknownScoreFunction("no such score function", seen=name, wanted=", ".join(sorted(FUNCTIONS)))
    found = max(versions, key=lambda f: f.version)
    if match[2] is not None:
        if match[2] != "slices=2":
            raise UnknownScoreFunction("a score function has no such parameter", seen=name, wanted="slices=2")
        found = found.with_slices(2)
    return found
