"""Checks of a node's arguments."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pot_lab.errors import InvariantBroken
from pot_lab.scoring.errors import (
    BatchMixing,
    HostileGraph,
)
from pot_lab.scoring.graph.batch_axis import UNBOUNDED
from pot_lab.scoring.graph.model_graph import (
    LARGEST_INT,
    Ref,
)
from pot_lab.scoring.operators import Parameter
from pot_lab.scoring.tensor_file import DTYPES

LARGEST_LIST = 4096
"""Entries of a list argument."""
LARGEST_EXPONENT = 64
"""Size of an exponent that `pow` may have."""

_EQUATION = re.compile(r"[a-zA-Z]+(, ?[a-zA-Z]+){0,2} ?-> ?[a-zA-Z]*")


def reference_index(value: Any, kinds: Sequence[str], kind: str, where: str) -> int:
    """The index in a reference `{"$": n}` (or a bare number among the outputs) to an earlier value of the wanted
    kind.

    Args:
        value: from the graph file.
        kinds: "tensor", "tensors" or "int" of each value that comes before.
        kind: the kind wanted.
        where: how error messages call the place.
    Raises: HostileGraph.
    """
    index = (
        value.get("$") if isinstance(value, dict) and set(value) == {"$"} else value if where == "an output" else None
    )
    if type(index) is not int:
        raise HostileGraph(f"{where} needs a reference to a {kind}", seen=value)
    if not 0 <= index < len(kinds):
        raise HostileGraph(
            f"{where} refers to a value that does not come before it", seen=index, wanted=f"0 to {len(kinds) - 1}"
        )
    if kinds[index] != kind:
        raise HostileGraph(f"{where} refers to a value of the wrong kind", seen=kinds[index], wanted=kind)
    return index


def check_argument(op: str, parameter: Parameter, value: Any, kinds: Sequence[str]) -> Any:
    """One argument against its parameter's annotation; returns it with references and literals decoded.

    Raises: HostileGraph.
    """
    where = f"{op}, argument {parameter.name!r}"
    kind, _, optional = parameter.kind.partition(" | ")
    if value is None and (optional or kind == "Ignored"):
        return None
    check = _CHECKS.get(kind)
    if check is None:
        raise InvariantBroken(f"{where} has no check for its kind", seen=parameter.kind)
    return check(where, value, kinds)


def _bad(where: str, value: Any, wanted: str) -> HostileGraph:
    return HostileGraph(f"{where} has the wrong type or value", seen=repr(value), wanted=wanted)


def _check_tensor(where: str, value: Any, kinds: Sequence[str]) -> Ref:
    return Ref(reference_index(value, kinds, "tensor", where))


def _check_tensors(where: str, value: Any, kinds: Sequence[str]) -> list[Ref]:
    if not isinstance(value, list) or not 0 < len(value) <= LARGEST_LIST:
        raise _bad(where, value, "a list of tensors")
    return [_check_tensor(where, v, kinds) for v in value]


def _check_number(where: str, value: Any, kinds: Sequence[str]) -> float | int:
    if isinstance(value, dict) and set(value) == {"float"} and value["float"] in ("inf", "-inf", "nan"):
        return float(value["float"])
    if type(value) not in (int, float) or not math.isfinite(value) or (type(value) is int and abs(value) > 1 << 53):
        raise _bad(where, value, "a finite number")
    number: float | int = value
    return number


def _check_operand(where: str, value: Any, kinds: Sequence[str]) -> Any:
    if not (isinstance(value, dict) and set(value) == {"$"}):
        return _check_number(where, value, kinds)
    index = value["$"]
    if type(index) is int and 0 <= index < len(kinds) and kinds[index] == "int":
        raise BatchMixing(f"{where}: the batch's size may only be used in shapes")
    return _check_tensor(where, value, kinds)


def _check_int(where: str, value: Any, kinds: Sequence[str], low: int = -LARGEST_INT) -> int:
    if isinstance(value, dict) and set(value) == {"$"}:
        raise BatchMixing(f"{where}: the batch's size may only be used in shapes")
    if type(value) is int and value == UNBOUNDED and low < 0:
        return value
    if type(value) is not int or not low <= value < LARGEST_INT:
        raise _bad(where, value, f"a whole number of at least {low}")
    return value


def _ints(low: int) -> Callable[[str, Any, Sequence[str]], list[int]]:
    def check(where: str, value: Any, kinds: Sequence[str]) -> list[int]:
        if not isinstance(value, list) or len(value) > LARGEST_LIST:
            raise _bad(where, value, "a list of whole numbers")
        return [_check_int(where, v, kinds, low) for v in value]

    return check


def _check_sizes(where: str, value: Any, kinds: Sequence[str]) -> list[int | Ref]:
    if not isinstance(value, list) or len(value) > 16:
        raise _bad(where, value, "a list of sizes")
    return [
        Ref(reference_index(v, kinds, "int", where)) if isinstance(v, dict) else _check_int(where, v, kinds, -1)
        for v in value
    ]


def _check_bool(where: str, value: Any, kinds: Sequence[str]) -> bool:
    if type(value) is not bool:
        raise _bad(where, value, "true or false")
    return value


def _check_dtype(where: str, value: Any, kinds: Sequence[str]) -> torch.dtype:
    dtype = _check_any_dtype(where, value, kinds)
    if not dtype.is_floating_point:
        raise _bad(where, value, "a floating-point type")
    return dtype


def _check_any_dtype(where: str, value: Any, kinds: Sequence[str]) -> torch.dtype:
    if not isinstance(value, dict) or set(value) != {"dtype"} or not isinstance(value["dtype"], str):
        raise _bad(where, value, "a number type")
    dtype = DTYPES.get(value["dtype"])
    if dtype is None or not (dtype.is_floating_point or dtype in (torch.int64, torch.bool)):
        raise _bad(where, value, "a floating-point type, int64 or bool")
    return dtype


_TEXTS = {
    "approximate": ("none", "tanh"),
    "padding": ("same", "valid"),
    "mode": ("constant", "reflect", "replicate", "circular"),
    "rounding_mode": ("floor", "trunc"),
}


def _check_equation(where: str, value: Any, kinds: Sequence[str]) -> str:
    if not isinstance(value, str) or len(value) > 100 or not _EQUATION.fullmatch(value):
        raise _bad(where, value, "an explicit equation of letters, such as 'bij,bjk->bik'")
    return value


def _check_text(where: str, value: Any, kinds: Sequence[str]) -> str:
    choices = _TEXTS[where.rsplit("'", 2)[1]]
    if not isinstance(value, str) or value not in choices:
        raise _bad(where, value, " or ".join(choices))
    return value


def _check_exponent(where: str, value: Any, kinds: Sequence[str]) -> float | int:
    number = _check_number(where, value, kinds)
    if not 0 < abs(number) <= LARGEST_EXPONENT:
        raise _bad(where, value, f"a number from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT} that is not 0")
    return number


def _check_whole(where: str, value: Any, kinds: Sequence[str]) -> int:
    if isinstance(value, dict) and set(value) == {"$"}:
        raise BatchMixing(f"{where}: the batch's size may only be used in shapes")
    number = _check_number(where, value, kinds)
    if not math.isfinite(number) or number != int(number) or abs(number) > 1 << 53:
        raise _bad(where, value, "a whole number")
    return int(number)


def _check_floats(where: str, value: Any, kinds: Sequence[str]) -> list[float]:
    if not isinstance(value, list) or not 0 < len(value) <= 3:
        raise _bad(where, value, "a list of numbers")
    numbers = [float(_check_number(where, v, kinds)) for v in value]
    if not all(0.0 < n < 1e6 for n in numbers):
        raise _bad(where, value, "numbers above 0")
    return numbers


def _check_places(where: str, value: Any, kinds: Sequence[str]) -> list[Ref | None]:
    if not isinstance(value, list) or not 0 < len(value) <= 8:
        raise _bad(where, value, "a list of tensors and nulls")
    return [None if v is None else _check_tensor(where, v, kinds) for v in value]


def _check_probability(where: str, value: Any, kinds: Sequence[str]) -> float | int:
    number = _check_number(where, value, kinds)
    if not 0 <= number <= 1:
        raise _bad(where, value, "0 to 1")
    return number


def _check_ignored(where: str, value: Any, kinds: Sequence[str]) -> None:
    raise _bad(where, value, "null")


_CHECKS: dict[str, Callable[[str, Any, Sequence[str]], Any]] = {
    "Tensor": _check_tensor,
    "Tensors": _check_tensors,
    "Operand": _check_operand,
    "float": _check_number,
    "int": _check_int,
    "Positive": lambda where, value, kinds: _check_int(where, value, kinds, 1),
    "Ints": _ints(-LARGEST_INT),
    "Positives": _ints(1),
    "Naturals": _ints(0),
    "Sizes": _check_sizes,
    "bool": _check_bool,
    "Dtype": _check_dtype,
    "AnyDtype": _check_any_dtype,
    "Whole": _check_whole,
    "Floats": _check_floats,
    "Places": _check_places,
    "Text": _check_text,
    "Equation": _check_equation,
    "Exponent": _check_exponent,
    "Probability": _check_probability,
    "Ignored": _check_ignored,
}
