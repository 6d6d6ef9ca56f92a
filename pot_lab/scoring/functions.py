"""Score functions: what clients may choose. They never supply code.

Each turns a model's exact outputs and the targets into one whole number of at least 0 for each example; a score's total
is their sum, or for some functions a number made of them all. Names and versions are part of an order, so what
a released version computes never changes.

An identifier is `name/version`, or with parameters that differ from the usual `name[parameter=value,...]/version`,
parameters in alphabetical order and whole numbers: one function has one identifier. Every function has the parameter
`slices`: 1 (usual) computes the model about as accurately as float32, 2 close to float64.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pot_lab.errors import UnknownScoreFunction, one_of
from pot_lab.scoring import reductions
from pot_lab.scoring.class_scores import CLASS_SCORES
from pot_lab.scoring.distances import DISTANCES
from pot_lab.scoring.errors import ShapeMismatch
from pot_lab.scoring.graph.model_graph import Output
from pot_lab.scoring.losses import LOSS_CAP_NATS, micro_nats
from pot_lab.scoring.rankings import RANKINGS
from pot_lab.scoring.score_records import MICRO, AcceptedData, Bounds, Family, ScoreFunction
from pot_lab.scoring.target_checks import (
    LARGEST_TOKENS,
    NO_TOKEN,
    check_class_range,
    check_classes,
    check_token_range,
    check_tokens,
)

_IDENTIFIER = re.compile(r"([a-z0-9_]{1,64})(?:\[([a-z0-9_=,]{1,128})\])?(?:/([1-9][0-9]{0,8}))?")
_PARAMETER = re.compile(r"([a-z0-9_]{1,32})=(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, kw_only=True)
class ScoreFunctionInfo:
    """One row of `score_functions`.

    Attributes:
        name, version: how `score` and orders name it, `name/version`, or `name` for the newest version.
        parameters: bounds and usual value by name, written `name[parameter=value,...]/version`.
        higher_is_better: direction of the total.
        outputs: what the model must give for one example.
        targets_dtype: number type of the targets, as torch calls it.
        targets: shape of the targets for one example.
        value: what one example's number is; a score's total is their sum, or for macro_f1 a number made of them all.
    """

    name: str
    version: int
    parameters: Mapping[str, Bounds]
    higher_is_better: bool
    outputs: str
    targets_dtype: str
    targets: str
    value: str


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (reductions.lowest_argmax(outputs, -1) == targets).to(torch.int64)


def _top_k_accuracy(k: int) -> ScoreFunction:
    def evaluate(outputs: Tensor, targets: Tensor) -> Tensor:
        own = outputs.gather(-1, targets.unsqueeze(-1))
        places = torch.arange(outputs.shape[-1], device=outputs.device)
        ahead = (outputs > own) | ((outputs == own) & (places < targets.unsqueeze(-1)))
        return (ahead.sum(-1) < k).to(torch.int64)

    return ScoreFunction(
        name="top_k_accuracy",
        version=1,
        higher_is_better=True,
        unit=f"examples whose class is among the best {k}",
        largest=1,
        evaluate=evaluate,
        check=check_classes,
        check_targets=check_class_range,
    )


def _token_loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the losses of an example's tokens in micro-nats, and how many count: int64 [B], int64 [B]."""
    outputs, targets = outputs.reshape(len(outputs), -1, outputs.shape[-1]), targets.reshape(len(targets), -1)
    counted = targets != NO_TOKEN
    losses = micro_nats(outputs, targets.masked_fill(~counted, 0)).masked_fill(~counted, 0)
    return losses.sum(-1), counted.sum(-1)


def _perplexity(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of an example's tokens, halves rounded up: (2 sum + n) // (2 n)."""
    total, count = _token_loss(outputs, targets)
    return torch.div(total * 2 + count, count * 2, rounding_mode="floor")


def _macro_f1(classes: int) -> ScoreFunction:
    def evaluate(outputs: Tensor, targets: Tensor) -> Tensor:
        return targets * classes + reductions.lowest_argmax(outputs, -1)

    def check(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        check_classes(output, dtype, shape)
        if output.shape != (classes,):
            raise ShapeMismatch("macro_f1 names another number of classes", seen=output.shape[0], wanted=classes)

    def total(values: NDArray[np.uint64]) -> int:
        """Sum over classes of floor(2 TP 10^6 n / ((2 TP + FP + FN) classes)), 0 for a class without either."""
        target, found = (part.astype(np.int64) for part in np.divmod(values, np.uint64(classes)))
        named = np.bincount(target, minlength=classes) + np.bincount(found, minlength=classes)
        right = np.bincount(target[target == found], minlength=classes)
        return sum(
            2 * int(r) * MICRO * len(values) // (int(n) * classes) for r, n in zip(right, named, strict=True) if n
        )

    return ScoreFunction(
        name="macro_f1",
        version=1,
        higher_is_better=True,
        unit="millionths of the mean F1 of the classes, times the number of examples",
        largest=classes * classes - 1,
        evaluate=evaluate,
        check=check,
        check_targets=check_class_range,
        total=total,
    )


ACCURACY = ScoreFunction(
    name="accuracy",
    version=1,
    higher_is_better=True,
    unit="examples classified rightly",
    largest=1,
    evaluate=_accuracy,
    check=check_classes,
    check_targets=check_class_range,
)
CROSS_ENTROPY = ScoreFunction(
    name="cross_entropy",
    version=1,
    higher_is_better=False,
    unit="micro-nats, at most 50 nats an example",
    largest=LOSS_CAP_NATS * MICRO,
    evaluate=micro_nats,
    check=check_classes,
    check_targets=check_class_range,
)
NEXT_TOKEN_LOSS = ScoreFunction(
    name="next_token_loss",
    version=1,
    higher_is_better=False,
    unit="micro-nats of all tokens, at most 50 nats each",
    largest=LOSS_CAP_NATS * MICRO * LARGEST_TOKENS,
    evaluate=lambda outputs, targets: _token_loss(outputs, targets)[0],
    check=check_tokens,
    check_targets=check_token_range,
)
PERPLEXITY = ScoreFunction(
    name="perplexity",
    version=1,
    higher_is_better=False,
    unit="micro-nats a token, the mean of an example; perplexity is exp(total / count / 10^6)",
    largest=LOSS_CAP_NATS * MICRO,
    evaluate=_perplexity,
    check=check_tokens,
    check_targets=check_token_range,
)

_CLASSES = AcceptedData("(classes,)", "int64", "(), a class number")
_TOKENS = AcceptedData(
    "(tokens, words) or (words,)", "int64", f"(tokens,) or (), token numbers; {NO_TOKEN} does not count"
)
FUNCTIONS: dict[tuple[str, int], Family] = {
    ("accuracy", 1): Family(
        make=lambda: ACCURACY, higher_is_better=True, value="1 if the largest output is the target's", accepted=_CLASSES
    ),
    ("top_k_accuracy", 1): Family(
        make=_top_k_accuracy,
        parameters={"k": Bounds(2, 1000, 5)},
        higher_is_better=True,
        value="1 if the target is among the k largest outputs",
        accepted=_CLASSES,
    ),
    ("cross_entropy", 1): Family(
        make=lambda: CROSS_ENTROPY,
        higher_is_better=False,
        value="loss in micro-nats, at most 50 nats",
        accepted=_CLASSES,
    ),
    ("perplexity", 1): Family(
        make=lambda: PERPLEXITY, higher_is_better=False, value="mean loss of its tokens in micro-nats", accepted=_TOKENS
    ),
    ("next_token_loss", 1): Family(
        make=lambda: NEXT_TOKEN_LOSS,
        higher_is_better=False,
        value="summed loss of its tokens in micro-nats",
        accepted=_TOKENS,
    ),
    ("macro_f1", 1): Family(
        make=_macro_f1,
        parameters={"classes": Bounds(2, 4096, None)},
        higher_is_better=True,
        value="target * classes + answer; the total is 10^6 times the mean F1 of the classes, times the examples",
        accepted=_CLASSES,
    ),
    **DISTANCES,
    **CLASS_SCORES,
    **RANKINGS,
}
"""All score functions by name and version; `score_functions` lists them for readers."""
SLICES = Bounds(1, 2, 1)
"""Every function's parameter `slices`."""


def score_functions() -> list[ScoreFunctionInfo]:
    """The score functions that an order or `score` may name, with what they take.

    | name | parameters (usual) | outputs of one example | targets of one example | better |
    | --- | --- | --- | --- | --- |
    | accuracy/1 | | (classes,) | int64 (), a class number | higher |
    | top_k_accuracy/1 | k 2..1000 (5) | (classes,) | int64 (), a class number | higher |
    | cross_entropy/1 | | (classes,) | int64 (), a class number | lower |
    | perplexity/1 | | (tokens, words) or (words,) | int64 (tokens,) or () | lower |
    | next_token_loss/1 | | (tokens, words) or (words,) | int64 (tokens,) or () | lower |
    | macro_f1/1 | classes 2..4096, required | (classes,) | int64 (), a class number | higher |
    | mse/1 | decimals 0..12 (6) | any | a number for each output | lower |
    | mae/1 | decimals 0..12 (6) | any | a number for each output | lower |
    | scaled_mse/1 | exponent 0..40, scale 100000..999999, required | any | a number for each output | lower |
    | scaled_mae/1 | exponent 0..40, scale 100000..999999, required | any | a number for each output | lower |
    | quantile_loss/1 | decimals 0..12 (6), permille 1..999 (500) | any | a number for each output | lower |
    | brier/1 | | (classes,) | int64 (), a class number | lower |
    | weighted_accuracy/1 | | (classes,) | int64 (2,), class number and weight | higher |
    | weighted_cross_entropy/1 | | (classes,) | int64 (2,), class number and weight | lower |
    | token_accuracy/1 | | (tokens, words) or (words,) | int64 (tokens,) or () | higher |
    | mean_iou/1 | | (classes, places, ...) | int64 (places, ...) | higher |
    | auc/1 | | (2,) or (1,) | int64 (), 0 or 1 | higher |
    | ndcg/1 | k 1..1000 (10) | (items,) | int64 (items,) | higher |
    | multilabel_micro_f1/1 | threshold 1..999 (500) | (labels,) | int64 (labels,) | higher |
    | multilabel_macro_f1/1 | labels 2..18, required; threshold 1..999 (500) | (labels,) | int64 (labels,) | higher |

    Every function has the parameter `slices` too: 1 (usual) computes the model about as accurately as float32, 2 close
    to float64 at about three times the cost. scoring-spec.md, "8. Score functions" defines the numbers.

    Returns: one record for each name and version, in the order of the table.

        >>> [f.name for f in score_functions() if not f.higher_is_better][:5]
        ['cross_entropy', 'perplexity', 'next_token_loss', 'mse', 'mae']
        >>> score_functions()[0].targets_dtype
        'int64'
    """
    return [
        ScoreFunctionInfo(
            name=name,
            version=version,
            parameters={**family.parameters, "slices": SLICES},
            higher_is_better=family.higher_is_better,
            outputs=family.accepted.outputs,
            targets_dtype=family.accepted.targets_dtype,
            targets=family.accepted.targets,
            value=family.value,
        )
        for (name, version), family in FUNCTIONS.items()
    ]


def score_function(name: str | ScoreFunction) -> ScoreFunction:
    """The function of an identifier, or the newest version where it names none.

        >>> score_function("top_k_accuracy[k=3]").identifier
        'top_k_accuracy[k=3]/1'

    Raises: UnknownScoreFunction.
    """
    if isinstance(name, ScoreFunction):
        return name
    given: object = name
    if not isinstance(given, str):
        known = ", ".join(dict.fromkeys(n for n, _ in FUNCTIONS))
        raise UnknownScoreFunction(
            "a score function is chosen by its name, for all must compute the same",
            seen=getattr(given, "__name__", type(given).__name__),
            wanted=f"one of {known}",
        )
    return _function(given)


@functools.lru_cache(maxsize=256)
def _function(name: str) -> ScoreFunction:
    match = _IDENTIFIER.fullmatch(name)
    versions = [v for n, v in FUNCTIONS if match and n == match[1] and match[3] in (None, str(v))]
    if match is None or not versions:
        raise UnknownScoreFunction("no such score function", seen=name, wanted=_likely(name))
    version = max(versions)
    family = FUNCTIONS[match[1], version]
    values = _values(name, match[2], {**family.parameters, "slices": SLICES})
    slices = values.pop("slices")
    shown = tuple(sorted((k, v) for k, v in values.items() if v != family.parameters[k].usual))
    made = family.make(**values)
    return (replace(made, parameters=shown) if shown else made).with_slices(slices)


_OTHER_NAMES = {
    "f1": "macro_f1",
    "f1_macro": "macro_f1",
    "f1_micro": "accuracy",
    "f1_score": "macro_f1",
    "roc_auc": "auc",
    "auroc": "auc",
    "iou": "mean_iou",
    "miou": "mean_iou",
    "jaccard": "mean_iou",
    "log_loss": "cross_entropy",
    "nll": "cross_entropy",
    "nll_loss": "cross_entropy",
    "bce": "multilabel_micro_f1",
    "ece": "brier",
    "calibration": "brier",
    "rmse": "mse",
    "l1": "mae",
    "l2": "mse",
    "r2_score": "r2",
    "acc": "accuracy",
    "pinball": "quantile_loss",
    "top5": "top_k_accuracy",
}
"""What other libraries call a score, and the nearest function."""
_USUAL = ("r2",)
"""Names that an order completes by its test targets."""


def _likely(name: str) -> str:
    """The functions that a name may have meant, first, then all others."""
    known = list(dict.fromkeys(n for n, _ in FUNCTIONS))
    plain = re.sub(r"[^a-z0-9]+", "_", re.split(r"[\[/]", name)[0].lower()).strip("_")
    return one_of(plain, sorted([*known, *_USUAL]), near=[_OTHER_NAMES[plain]] if plain in _OTHER_NAMES else ())


def _values(name: str, text: str | None, bounds: Mapping[str, Bounds]) -> dict[str, int]:
    """Values of all parameters; the text must be the one way to write them.

    Raises: UnknownScoreFunction.
    """
    values = {parameter: b.usual for parameter, b in bounds.items()}
    before = ""
    for part in text.split(",") if text is not None else []:
        match = _PARAMETER.fullmatch(part)
        if match is None or match[1] not in bounds or match[1] <= before:
            wanted = ", ".join(sorted(f"{k}={b.low}..{b.high}" for k, b in bounds.items()))
            raise UnknownScoreFunction("parameters of a score function are wrong", seen=name, wanted=wanted)
        before, b, value = match[1], bounds[match[1]], int(match[2])
        if not b.low <= value <= b.high or value == b.usual:
            wanted = f"{before} from {b.low} to {b.high}" + (f", {b.usual} left out" if b.usual is not None else "")
            raise UnknownScoreFunction("a parameter of a score function is wrong", seen=name, wanted=wanted)
        values[before] = value
    missing = sorted(parameter for parameter, value in values.items() if value is None)
    if missing:
        wanted = ",".join(f"{p}=..." for p in missing)
        raise UnknownScoreFunction("a score function lacks parameters", seen=name, wanted=f"[{wanted}]")
    return {parameter: value for parameter, value in values.items() if value is not None}
