"""Each kind of argument at its bounds: what a graph may write, and what is refused under which rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pot_lab.scoring.errors import BatchMixing, HostileGraph
from pot_lab.scoring.graph.arguments import (
    LARGEST_EXPONENT,
    LARGEST_LIST,
    check_argument,
    reference_index,
)
from pot_lab.scoring.graph.batch_axis import UNBOUNDED
from pot_lab.scoring.graph.model_graph import LARGEST_INT, Ref
from pot_lab.scoring.operators import Parameter

KINDS = ["tensor", "int", "tensors", "tensor"]
"""Kinds of the values 0 to 3 that stand before the call."""
WHOLE = 1 << 53
SAME = object()


def ref(index: Any) -> dict[str, Any]:
    return {"$": index}


def checked(kind: str, value: Any, name: str = "x") -> Any:
    return check_argument(
        "aten.some.default", Parameter(name=name, kind=kind, required=True, default=None), value, KINDS
    )


ACCEPTED: list[tuple[str, Any, Any]] = [
    ("Tensor", ref(0), Ref(0)),
    ("Tensor", ref(3), Ref(3)),
    ("Tensor | None", None, None),
    ("Tensor | None", ref(3), Ref(3)),
    ("Tensors", [ref(0)], [Ref(0)]),
    ("Tensors", [ref(0), ref(3)], [Ref(0), Ref(3)]),
    ("Tensors", [ref(0)] * LARGEST_LIST, [Ref(0)] * LARGEST_LIST),
    ("Operand", ref(3), Ref(3)),
    ("Operand", 2.5, SAME),
    ("Operand", 0, SAME),
    ("float", 0.5, SAME),
    ("float", WHOLE, SAME),
    ("float", -WHOLE, SAME),
    ("float", 1e300, SAME),
    ("float", {"float": "inf"}, math.inf),
    ("float", {"float": "-inf"}, -math.inf),
    ("float | None", None, None),
    ("int", 0, SAME),
    ("int", LARGEST_INT - 1, SAME),
    ("int", -LARGEST_INT, SAME),
    ("int", UNBOUNDED, SAME),
    ("int | None", None, None),
    ("Positive", 1, SAME),
    ("Positive", LARGEST_INT - 1, SAME),
    ("Ints", [], SAME),
    ("Ints", [-1, LARGEST_INT - 1, -LARGEST_INT, UNBOUNDED], SAME),
    ("Ints", [7] * LARGEST_LIST, SAME),
    ("Positives", [1, 2], SAME),
    ("Naturals", [0, 2], SAME),
    ("Sizes", [-1, 0, 3, ref(1)], [-1, 0, 3, Ref(1)]),
    ("Sizes", [], SAME),
    ("Sizes", [1] * 16, SAME),
    ("bool", True, SAME),
    ("bool", False, SAME),
    ("Dtype", {"dtype": "float32"}, torch.float32),
    ("Dtype", {"dtype": "bfloat16"}, torch.bfloat16),
    ("AnyDtype", {"dtype": "float64"}, torch.float64),
    ("AnyDtype", {"dtype": "int64"}, torch.int64),
    ("AnyDtype", {"dtype": "bool"}, torch.bool),
    ("Whole", 3, SAME),
    ("Whole", -3.0, -3),
    ("Whole", float(WHOLE), WHOLE),
    ("Whole", -float(WHOLE), -WHOLE),
    ("Floats", [0.5], SAME),
    ("Floats", [1, 2, 3], [1.0, 2.0, 3.0]),
    ("Floats", [1e-9, 999_999.0], SAME),
    ("Places", [ref(0)], [Ref(0)]),
    ("Places", [None, ref(0)], [None, Ref(0)]),
    ("Places", [ref(0)] * 8, [Ref(0)] * 8),
    ("Equation", "bij,bjk->bik", SAME),
    ("Equation", "ij, j -> i", SAME),
    ("Equation", "a,b,c->abc", SAME),
    ("Equation", "ij->", SAME),
    ("Equation", "a" * 97 + "->a", SAME),
    ("Exponent", LARGEST_EXPONENT, SAME),
    ("Exponent", -LARGEST_EXPONENT, SAME),
    ("Exponent", 0.5, SAME),
    ("Probability", 0, SAME),
    ("Probability", 1, SAME),
    ("Probability", 0.5, SAME),
    ("Ignored", None, None),
]

REFUSED: list[tuple[str, Any, type[Exception]]] = [
    ("Tensor", None, HostileGraph),
    ("Tensor", 0, HostileGraph),
    ("Tensor", ref(-1), HostileGraph),
    ("Tensor", ref(4), HostileGraph),
    ("Tensor", ref(1), HostileGraph),
    ("Tensor", ref(2), HostileGraph),
    ("Tensor", ref(True), HostileGraph),
    ("Tensor", ref(0.0), HostileGraph),
    ("Tensor", {"$": 0, "more": 1}, HostileGraph),
    ("Tensors", [], HostileGraph),
    ("Tensors", ref(2), HostileGraph),
    ("Tensors", [ref(1)], HostileGraph),
    ("Tensors", [None], HostileGraph),
    ("Tensors", [ref(0)] * (LARGEST_LIST + 1), HostileGraph),
    ("Operand", ref(1), BatchMixing),
    ("Operand", ref(2), HostileGraph),
    ("Operand", ref(4), HostileGraph),
    ("Operand", ref(-3), HostileGraph),
    ("Operand", "1", HostileGraph),
    ("Operand", {"$": 1, "more": 1}, HostileGraph),
    ("float", True, HostileGraph),
    ("float", math.inf, HostileGraph),
    ("float", WHOLE + 1, HostileGraph),
    ("float", -WHOLE - 1, HostileGraph),
    ("float", {"float": "1"}, HostileGraph),
    ("float", {"float": "inf", "more": 1}, HostileGraph),
    ("float", None, HostileGraph),
    ("float", ref(0), HostileGraph),
    ("int", 1.0, HostileGraph),
    ("int", True, HostileGraph),
    ("int", LARGEST_INT, HostileGraph),
    ("int", -LARGEST_INT - 1, HostileGraph),
    ("int", UNBOUNDED - 1, HostileGraph),
    ("int", ref(1), BatchMixing),
    ("int", {"$": 1, "more": 1}, HostileGraph),
    ("Positive", 0, HostileGraph),
    ("Positive", UNBOUNDED, HostileGraph),
    ("Positive", LARGEST_INT, HostileGraph),
    ("Positive", ref(1), BatchMixing),
    ("Ints", 1, HostileGraph),
    ("Ints", [1.0], HostileGraph),
    ("Ints", [LARGEST_INT], HostileGraph),
    ("Ints", [7] * (LARGEST_LIST + 1), HostileGraph),
    ("Ints", [ref(1)], BatchMixing),
    ("Positives", [0], HostileGraph),
    ("Positives", [UNBOUNDED], HostileGraph),
    ("Naturals", [-1], HostileGraph),
    ("Naturals", [UNBOUNDED], HostileGraph),
    ("Sizes", [-2], HostileGraph),
    ("Sizes", [LARGEST_INT], HostileGraph),
    ("Sizes", [ref(0)], HostileGraph),
    ("Sizes", [1] * 17, HostileGraph),
    ("Sizes", 3, HostileGraph),
    ("bool", 1, HostileGraph),
    ("bool", None, HostileGraph),
    ("Dtype", {"dtype": "int64"}, HostileGraph),
    ("Dtype", "float32", HostileGraph),
    ("Dtype", {"dtype": "float32", "more": 1}, HostileGraph),
    ("Dtype", {"dtype": ["float32"]}, HostileGraph),
    ("AnyDtype", {"dtype": "int32"}, HostileGraph),
    ("AnyDtype", {"dtype": "uint8"}, HostileGraph),
    ("AnyDtype", {"dtype": "complex64"}, HostileGraph),
    ("Whole", 0.5, HostileGraph),
    ("Whole", 2.0**53 + 2, HostileGraph),
    ("Whole", -(2.0**53) - 2, HostileGraph),
    ("Whole", {"float": "inf"}, HostileGraph),
    ("Whole", {"float": "nan"}, HostileGraph),
    ("Whole", ref(1), BatchMixing),
    ("Whole", {"$": 1, "more": 1}, HostileGraph),
    ("Floats", [], HostileGraph),
    ("Floats", [1.0] * 4, HostileGraph),
    ("Floats", [0.0], HostileGraph),
    ("Floats", [1.0, -1.0], HostileGraph),
    ("Floats", [1e6], HostileGraph),
    ("Floats", [{"float": "nan"}], HostileGraph),
    ("Floats", 1.0, HostileGraph),
    ("Places", [], HostileGraph),
    ("Places", [ref(0)] * 9, HostileGraph),
    ("Places", [ref(1)], HostileGraph),
    ("Places", None, HostileGraph),
    ("Equation", "bij,bjk", HostileGraph),
    ("Equation", "...i->i", HostileGraph),
    ("Equation", "->a", HostileGraph),
    ("Equation", "a,b,c,d->a", HostileGraph),
    ("Equation", "a" * 98 + "->a", HostileGraph),
    ("Equation", 3, HostileGraph),
    ("Exponent", 0, HostileGraph),
    ("Exponent", 0.0, HostileGraph),
    ("Exponent", LARGEST_EXPONENT + 1, HostileGraph),
    ("Exponent", -LARGEST_EXPONENT - 0.5, HostileGraph),
    ("Exponent", {"float": "nan"}, HostileGraph),
    ("Probability", -0.001, HostileGraph),
    ("Probability", 1.001, HostileGraph),
    ("Probability", {"float": "nan"}, HostileGraph),
    ("Probability", "0.5", HostileGraph),
    ("Ignored", 0, HostileGraph),
    ("Ignored", False, HostileGraph),
]


@pytest.mark.parametrize(("kind", "value", "wanted"), ACCEPTED)
def test_a_value_inside_the_bounds_is_decoded(kind: str, value: Any, wanted: Any) -> None:
    found = checked(kind, value)
    wanted = value if wanted is SAME else wanted
    assert found == wanted and type(found) is type(wanted)


def test_the_number_that_is_none_is_decoded() -> None:
    assert math.isnan(checked("float", {"float": "nan"}))


@pytest.mark.parametrize(("kind", "value", "error"), REFUSED)
def test_a_value_outside_the_bounds_is_refused(kind: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"aten\.some\.default, argument 'x'"):
        checked(kind, value)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("approximate", ("none", "tanh")),
        ("padding", ("same", "valid")),
        ("mode", ("constant", "reflect", "replicate", "circular")),
        ("rounding_mode", ("floor", "trunc")),
    ],
)
def test_a_text_is_one_of_its_arguments_choices(name: str, choices: tuple[str, ...]) -> None:
    assert [checked("Text", c, name) for c in choices] == list(choices)
    for other in ("", "up", ["same"], 1, None):
        with pytest.raises(HostileGraph):
            checked("Text", other, name)


def test_a_refusal_shows_the_value_and_what_would_have_passed() -> None:
    with pytest.raises(HostileGraph) as refusal:
        checked("Probability", 2)
    assert (refusal.value.seen, refusal.value.wanted) == ("2", "0 to 1")


def test_the_first_value_is_a_value_too() -> None:
    with pytest.raises(BatchMixing):
        check_argument("op", Parameter(name="x", kind="Operand", required=True, default=None), ref(0), ["int"])
    with pytest.raises(HostileGraph):
        check_argument("op", Parameter(name="x", kind="Operand", required=True, default=None), ref(-1), ["int"])


def test_the_bounds_are_those_of_version_1() -> None:
    assert (LARGEST_LIST, LARGEST_EXPONENT, LARGEST_INT) == (4096, 64, 1 << 31)


def test_a_kind_without_a_check_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        checked("Unheard", 1)


def test_only_outputs_refer_by_bare_numbers() -> None:
    assert reference_index(3, KINDS, "tensor", "an output") == 3
    for value, kind, where in ((3, "tensor", "node 1"), (1, "tensor", "an output"), (True, "int", "an output")):
        with pytest.raises(HostileGraph):
            reference_index(value, KINDS, kind, where)
    assert reference_index(ref(1), KINDS, "int", "node 1") == 1
