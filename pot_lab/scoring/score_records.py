"""What a score function is: how it is named, what it takes, and how one example's value and the total are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pot_lab.errors import UnknownScoreFunction
from pot_lab.scoring.graph.model_graph import Output

MICRO = 10**6


@dataclass(frozen=True, kw_only=True)
class ScoreFunction:
    """A score function with the values of its parameters; made by `score_function`.

    Attributes:
        name, version: how orders name it, with its parameters.
        higher_is_better: direction of the total.
        unit: what one unit of the total is.
        largest: largest value of one example.
        evaluate: (outputs float64 [B, ...], targets [B, ...]) -> int64 [B]; outputs are finite.
        check: (output, target dtype, target shape for one example) -> None, or raises ShapeMismatch or DtypeMismatch.
        check_targets: (output, targets) -> a reason why the values cannot be targets, or None.
        parameters: those that differ from the usual.
        total: (values of all examples) -> the total of a valid score, where it is not their sum.
        slices: in how many slices of 20 to 26 bits products take their operands, 1 or 2.
    """

    name: str
    version: int
    higher_is_better: bool
    unit: str
    largest: int
    evaluate: Callable[[Tensor, Tensor], Tensor] = field(compare=False)
    check: Callable[[Output, torch.dtype, tuple[int, ...]], None] = field(compare=False)
    check_targets: Callable[[Output, Tensor], str | None] = field(compare=False)
    parameters: tuple[tuple[str, int], ...] = ()
    total: Callable[[NDArray[np.uint64]], int] | None = field(default=None, compare=False)
    slices: int = 1

    @property
    def full_name(self) -> str:
        """Name with parameters, as orders write it beside the version."""
        shown = sorted([*self.parameters, *([("slices", self.slices)] if self.slices != 1 else [])])
        return self.name + ("[" + ",".join(f"{name}={value}" for name, value in shown) + "]" if shown else "")

    @property
    def identifier(self) -> str:
        """`full_name/version`, the one way to name this function in an order."""
        return f"{self.full_name}/{self.version}"

    def total_of(self, values: NDArray[np.integer]) -> int:
        """Total of a valid score with these values."""
        return int(values.sum()) if self.total is None else self.total(values.astype(np.uint64))

    def with_slices(self, slices: int) -> ScoreFunction:
        """The same function of a model computed in `slices` slices. Raises: UnknownScoreFunction."""
        if slices not in (1, 2):
            raise UnknownScoreFunction("a score takes operands in one slice or two", seen=slices, wanted="1 or 2")
        return self if slices == self.slices else replace(self, slices=slices)


@dataclass(frozen=True)
class Bounds:
    """Of a parameter: lowest and highest value, and the usual one, which an identifier leaves out. `usual` None: an
    identifier must name a value."""

    low: int
    high: int
    usual: int | None


@dataclass(frozen=True)
class AcceptedData:
    """What a function takes, in words for readers.

    Attributes:
        outputs: what the model must give for one example.
        targets_dtype: number type of the targets.
        targets: shape of the targets for one example.
    """

    outputs: str
    targets_dtype: str
    targets: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """A name and version with its parameters.

    Attributes:
        make: builds the function for the parameters' values.
        parameters: bounds by name, `slices` apart.
        higher_is_better: direction of the total.
        accepted: outputs and targets.
        value: what one example's number is.
    """

    make: Callable[..., ScoreFunction]
    parameters: Mapping[str, Bounds] = field(default_factory=dict)
    higher_is_better: bool
    accepted: AcceptedData
    value: str
