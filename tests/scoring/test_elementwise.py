"""Elementary functions are accurate to a few units in the last place, and right at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch

from pot_lab.scoring import elementwise
from tests.scoring import numpy_scoring

INF, NAN = math.inf, math.nan
GENERATOR = torch.Generator().manual_seed(5)
ANY = torch.cat(
    [
        torch.rand(400, generator=GENERATOR, dtype=torch.float64) * 60 - 30,
        torch.randn(400, generator=GENERATOR).double(),
    ]
)
POSITIVE = torch.cat(
    [ANY.abs() + 1e-9, 10.0 ** (torch.rand(200, generator=GENERATOR, dtype=torch.float64) * 590 - 295)]
)


@pytest.mark.parametrize(
    ("function", "reference", "x", "relative", "absolute"),
    [
        (elementwise.exp, mpmath.exp, ANY, 4e-16, 0),
        (elementwise.log, mpmath.log, POSITIVE, 1e-15, 1e-16),
        (elementwise.rsqrt, lambda v: 1 / mpmath.sqrt(v), POSITIVE, 6e-16, 0),
        (elementwise.sqrt, mpmath.sqrt, POSITIVE, 6e-16, 0),
        (elementwise.sigmoid, lambda v: 1 / (1 + mpmath.exp(-v)), ANY, 8e-16, 0),
        (elementwise.tanh, mpmath.tanh, ANY, 0, 3e-16),
        (elementwise.erf, mpmath.erf, ANY, 0, 4e-16),
        (elementwise.gelu, lambda v: v * mpmath.ncdf(v), ANY, 0, 4e-15),
        (elementwise.sin, mpmath.sin, ANY, 0, 2.3e-16),
        (elementwise.cos, mpmath.cos, ANY, 0, 2.3e-16),
        (elementwise.sin, mpmath.sin, ANY * 3e4, 0, 2.3e-16),
        (elementwise.expm1, mpmath.expm1, ANY.clamp(max=1.0), 0, 1e-15),
        (elementwise.log_sigmoid, lambda v: -mpmath.log(1 + mpmath.exp(-v)), ANY, 0, 8e-15),
        (elementwise.softplus, lambda v: mpmath.log(1 + mpmath.exp(v)), ANY, 0, 8e-15),
    ],
)
def test_a_function_is_accurate(
    function: Callable, reference: Callable, x: torch.Tensor, relative: float, absolute: float
) -> None:
    with mpmath.workdps(40):
        for argument, found in zip(x.tolist(), function(x).tolist(), strict=True):
            wanted = reference(mpmath.mpf(argument))
            assert abs(mpmath.mpf(found) - wanted) <= relative * abs(wanted) + absolute, argument


@pytest.mark.parametrize(
    ("function", "pairs"),
    [
        (elementwise.exp, [(0.0, 1.0), (-0.0, 1.0), (-INF, 0.0), (INF, INF), (NAN, NAN), (-701.0, 0.0), (701.0, INF)]),
        (elementwise.log, [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (INF, INF), (NAN, NAN), (5e-324, -INF)]),
        (elementwise.rsqrt, [(4.0, 0.5), (0.0, INF), (-0.0, INF), (-1.0, NAN), (INF, 0.0), (NAN, NAN), (5e-324, INF)]),
        (elementwise.sqrt, [(4.0, 2.0), (0.0, 0.0), (INF, INF), (-1.0, NAN), (NAN, NAN)]),
        (elementwise.sigmoid, [(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN)]),
        (elementwise.tanh, [(0.0, 0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN)]),
        (elementwise.erf, [(0.0, 0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN)]),
    ],
)
def test_a_function_is_right_at_the_edges(function: Callable, pairs: list[tuple[float, float]]) -> None:
    found = function(torch.tensor([x for x, _ in pairs], dtype=torch.float64)).tolist()
    for (argument, wanted), value in zip(pairs, found, strict=True):
        assert value == wanted or (math.isnan(value) and math.isnan(wanted)) or abs(value - wanted) < 1e-15, (
            argument,
            value,
        )


def test_tiles_change_no_bit() -> None:
    x = torch.randn(3 * elementwise.TILE_ELEMENTS + 17, dtype=torch.float64, generator=GENERATOR)
    for function in (elementwise.exp, elementwise.gelu, elementwise.tanh):
        assert torch.equal(function(x), torch.cat([function(x[i : i + 1000]) for i in range(0, len(x), 1000)]))


EDGES = [0.0, 5e-324, 1e-310, 2.0**-1022, 2.0**-1021, 2.0**-1000, 1e-300, 0.5, 1.0, 27.0, 700.0, 708.0, 1e300, INF]
EDGES += [math.nextafter(v, way) for v in (2.0**-1021, 2.0**-1000, 700.0) for way in (0.0, INF)]
BITS = torch.randint(-(2**63), 2**63 - 1, (20_000,), generator=GENERATOR).view(torch.float64)
FUNCTIONS = ["exp", "log", "sqrt", "rsqrt", "sigmoid", "tanh", "erf", "gelu"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_bits_at_all_give_the_second_implementations_bits(name: str) -> None:
    edges = torch.tensor([*EDGES, *[-v for v in EDGES], NAN], dtype=torch.float64)
    for x in (edges, BITS, ANY, POSITIVE, -POSITIVE, ANY * 40.0, -ANY.abs() * 60.0):
        with np.errstate(all="ignore"):
            wanted = torch.from_numpy(np.array(getattr(numpy_scoring, name)(x.numpy())))
        found = getattr(elementwise, name)(x)
        different = ~((found == wanted) | (found.isnan() & wanted.isnan()))
        assert not different.any(), (x[different][:5], found[different][:5], wanted[different][:5])


@pytest.mark.parametrize("name", [*FUNCTIONS, "gelu_tanh", "silu", "softplus", "mish"])
def test_a_value_has_the_same_bits_beside_an_edge_case(name: str) -> None:
    """The short way of a tile without edge cases is the general way's."""
    function = getattr(elementwise, name)
    for x in (ANY, ANY.abs() + 0.1, ANY * 20.0):
        alone = function(x)
        for edge in (NAN, INF, -INF, 0.0, 1e4):
            beside = function(torch.cat([x, torch.tensor([edge], dtype=torch.float64)]))[:-1]
            assert torch.equal(alone.nan_to_num(7.0), beside.nan_to_num(7.0)), edge


def test_gates_are_sigmoids_and_a_tanh() -> None:
    x = torch.cat([ANY, torch.tensor(EDGES + [-v for v in EDGES], dtype=torch.float64)])[:832].reshape(8, 104)
    wanted = elementwise.sigmoid(x)
    wanted[:, 52:78] = elementwise.tanh(x[:, 52:78])
    assert torch.equal(elementwise.gates(x, slice(52, 78)) + 0.0, wanted + 0.0)


def test_gates_are_sigmoids_and_tanhs() -> None:
    x = torch.cat([torch.randn(6, 12, dtype=torch.float64, generator=GENERATOR) * 9, torch.full((1, 12), NAN)])
    x[0, :4] = x[0, 4:8] = torch.tensor([INF, -INF, 0.0, -0.0])
    found = elementwise.gates(x, slice(4, 8)) + 0.0
    wanted = torch.cat([elementwise.sigmoid(x[:, :4]), elementwise.tanh(x[:, 4:8]), elementwise.sigmoid(x[:, 8:])], 1)
    assert torch.equal(found.nan_to_num(9.0), (wanted + 0.0).nan_to_num(9.0))


def test_angles_beyond_a_million_have_no_sine() -> None:
    x = torch.tensor([2.0**20, -(2.0**20), 2.0**20 + 1, INF, NAN], dtype=torch.float64)
    assert torch.isnan(elementwise.sin(x)).tolist() == [False, False, True, True, True]
    assert torch.isnan(elementwise.cos(x)).tolist() == [False, False, True, True, True]


def test_a_division_ignores_the_sign_of_a_zero() -> None:
    ones = torch.ones(2, dtype=torch.float64)
    assert elementwise.divide(ones, torch.tensor([0.0, -0.0], dtype=torch.float64)).tolist() == [INF, INF]
