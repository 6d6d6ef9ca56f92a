"""Second implementation of scoring specification version 1, in numpy alone: the oracle of the first.

Written from scoring-spec.md; slow and plain on purpose. It must not import
torch or `pot_lab.scoring`. Products are computed in int64.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
LOG2_E = float.fromhex("0x1.71547652b82fep+0")
ERFC = [
    float.fromhex(v)
    for v in [
        "0x1.3ccda0b5d5dc2p+0",
        "-0x1.1f367683f89a5p-3",
        "0x1.d5f294815a405p-9",
        "0x1.510169d09665bp-4",
        "-0x1.bda9309a2949ap-4",
        "0x1.7a14188a9ce2ap-4",
        "-0x1.e0d0fa6ddfe85p-5",
        "0x1.d0b0037d167adp-6",
        "-0x1.3f603c398c6c5p-7",
        "0x1.cc3a0e7d2150cp-10",
        "0x1.33fb2968decd9p-12",
        "-0x1.303fa4966bc38p-12",
        "0x1.b1439865f8d9ep-15",
        "0x1.778b933adcce7p-16",
        "-0x1.800077b775cf3p-17",
        "-0x1.055686d42aa63p-20",
        "0x1.d6339f66a50f8p-20",
        "-0x1.eb803840c0574p-25",
        "-0x1.15be4201dc721p-22",
        "0x1.8fa9fe49c359bp-26",
        "0x1.4c37f59c36e71p-25",
        "-0x1.014cd7201b5adp-28",
        "-0x1.638dcc665be8dp-28",
        "0x1.561b105822235p-32",
        "0x1.d3744857e262bp-32",
    ]
]
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def read_safetensors(data: bytes) -> dict[str, Array]:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    return {
        name: np.frombuffer(body[slice(*e["data_offsets"])], TYPES[e["dtype"]]).reshape(e["shape"])
        for name, e in header.items()
        if name != "__metadata__"
    }


# ---- elementary functions


def power_of_two(exponent: Array) -> Array:
    return ((exponent.astype(np.int64) + 1023) << 52).view(np.float64)


def horner(t: Array, c: Sequence[float]) -> Array:
    y = t * c[-1]
    for k in reversed(c[1:-1]):
        y = (y + k) * t
    return y + c[0]


def exp(x: Array) -> Array:
    z = np.clip(x, -700.0, 700.0)
    k = np.rint(z * LOG2_E)
    r = (z - k * LN2_HIGH) - k * LN2_LOW
    y = horner(r, [1.0 / math.factorial(n) for n in range(13)]) * power_of_two(np.nan_to_num(k))
    return np.where(np.isnan(x), np.nan, np.where(x > 700.0, np.inf, np.where(x < -700.0, 0.0, y)))


def log(x: Array) -> Array:
    b = np.ascontiguousarray(x).view(np.int64)
    upper = ((b & 0xFFFFFFFFFFFFF) > 0x6A09E667F3BCD).astype(np.int64)
    e = ((b >> 52) - 1023 + upper).astype(np.float64)
    m = ((b & 0xFFFFFFFFFFFFF) | ((1023 - upper) << 52)).view(np.float64)
    f = (m - 1.0) / (m + 1.0)
    y = e * LN2_HIGH + (e * LN2_LOW + f * horner(f * f, [2.0 / (2 * n + 1) for n in range(11)]))
    y = np.where(x < 2.0**-1021, -np.inf, y)
    y = np.where(x < 0, np.nan, y)
    return np.where(np.isnan(x), np.nan, np.where(x == np.inf, np.inf, y))


def rsqrt(x: Array) -> Array:
    x = np.asarray(x, dtype=np.float64)
    y = (0x5FE6EB50C7B537A9 - (np.ascontiguousarray(x).view(np.int64) >> 1)).view(np.float64)
    half = x * 0.5
    for _ in range(5):
        y = y * (1.5 - (half * y) * y)
    y = np.where(x < 2.0**-1000, np.inf, y)
    y = np.where(x < 0, np.nan, y)
    return np.where(np.isnan(x), np.nan, np.where(x == np.inf, 0.0, y))


def sqrt(x: Array) -> Array:
    return np.where((x == 0) | (x == np.inf), x, x * rsqrt(x))


def sigmoid(x: Array) -> Array:
    e = exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (e + 1.0)


def tanh(x: Array) -> Array:
    e = exp(np.abs(x) * -2.0)
    y = (1.0 - e) / (e + 1.0)
    return np.where(x < 0, -y, y)


def erfc_of_absolute(x: Array) -> Array:
    a = np.minimum(np.abs(x), 27.0)
    return horner((a - 3.75) / (a + 3.75), ERFC) * exp(-(a * a)) / (a * 2.0 + 1.0)


def erf(x: Array) -> Array:
    y = 1.0 - erfc_of_absolute(x)
    return np.where(x < 0, -y, y)


def gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return x * sigmoid((x + x * x * x * 0.044715) * float.fromhex("0x1.9884533d43651p+0"))
    v = x * float.fromhex("0x1.6a09e667f3bcdp-1")
    y = erfc_of_absolute(v) * 0.5
    return x * np.where(v < 0, y, 1.0 - y)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + log(exp(-np.abs(x)) + 1.0)


# ---- grids, products, sums


def to_grid(x: Array, axes: tuple[int, ...], bits: int) -> tuple[Array, Array]:
    largest = np.abs(x).max(axes, keepdims=True)
    e = ((np.ascontiguousarray(largest).view(np.int64) >> 52) & 0x7FF) - 1022
    bad = e > 200
    e = np.clip(e, -200, 200)
    with np.errstate(all="ignore"):
        q = np.rint(x * power_of_two(bits - e))
    return q, np.where(bad, np.nan, power_of_two(e - bits))


def whole(q: Array, bits: int) -> Array:
    return np.clip(np.nan_to_num(q, posinf=0, neginf=0), -(2.0**bits), 2.0**bits).astype(np.int64)


def product_bits(count: int) -> int:
    """Of sums of so many products."""
    return (52 - (count - 1).bit_length()) // 2


SLICES = 1
"""1 or 2; `run` sets it."""


def slices(x: Array, axes: tuple[int, ...], bits: int) -> tuple[list[Array], Array]:
    """(whole numbers of each slice, scale)"""
    q, scale = to_grid(x, axes, bits)
    if SLICES == 1:
        return [whole(q, bits)], scale
    with np.errstate(all="ignore"):
        e = ((np.ascontiguousarray(np.abs(x).max(axes, keepdims=True)).view(np.int64) >> 52) & 0x7FF) - 1022
        rest = np.rint((x * power_of_two(bits - np.clip(e, -200, 200)) - q) * 2.0 ** (bits + 1))
    return [whole(q, bits), whole(rest, bits)], scale


def multiplied(f: Callable[[Array, Array], Array], a: list[Array], b: list[Array], bits: int) -> Array:
    """f(a, b) of one chunk: exact integers, in binary64."""
    total: Array = f(a[0], b[0]).astype(np.float64)
    if SLICES == 2:
        total = total + (f(a[0], b[1]) + f(a[1], b[0])).astype(np.float64) * 2.0 ** -(bits + 1)
    return total


def chunked(length: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def matmul(a: Array, b: Array) -> Array:
    bits = product_bits(min(a.shape[-1], 1024))
    qa, sa = slices(a, (-1,), bits)
    qb, sb = slices(b, (-2,), bits)
    total: Any = None
    for s in chunked(a.shape[-1], 1024):
        part = multiplied(np.matmul, [q[..., s] for q in qa], [q[..., s, :] for q in qb], bits)
        total = part if total is None else total + part
    return total * sa * sb


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    y = matmul(x.reshape(-1, x.shape[-1]), w.T).reshape(*x.shape[:-1], w.shape[0])
    return y if b is None else y + b


def surrounded(q: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """Zeros around; a negative number of them cuts off."""
    for axis, (before, after) in enumerate(pads, 2):
        q = slice_(q, axis, max(-before, 0), q.shape[axis] - max(-after, 0))
        q = np.pad(q, [(max(before, 0), max(after, 0)) if i == axis else (0, 0) for i in range(q.ndim)])
    return q


def convolution(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Array:
    if w.ndim == 3:
        y = convolution(x[:, :, None], w[:, :, None], b, [1, *stride], [(0, 0), *pads], [1, *dilation], groups)
        return y[:, :, 0]
    n, (o, per_group, kh, kw) = x.shape[0], w.shape
    at_once = min(per_group, max(1, 1024 // (kh * kw)))
    bits = product_bits(at_once * kh * kw)
    qx, sx = slices(x, (1, 2, 3), bits)
    qw, sw = slices(w, (1, 2, 3), bits)
    qx = [surrounded(q, pads) for q in qx]
    oh, ow = ((qx[0].shape[2 + i] - dilation[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in (0, 1))

    def correlated(channels: slice, x: Array, w: Array) -> Array:
        part = np.zeros((n, o, oh, ow), dtype=np.int64)
        for group in range(groups):
            outs = slice(group * o // groups, (group + 1) * o // groups)
            for c in range(channels.start, channels.stop):
                for i in range(kh):
                    for j in range(kw):
                        rows = slice(i * dilation[0], i * dilation[0] + (oh - 1) * stride[0] + 1, stride[0])
                        columns = slice(j * dilation[1], j * dilation[1] + (ow - 1) * stride[1] + 1, stride[1])
                        window = x[:, group * per_group + c, rows, columns]
                        part[:, outs] += w[outs, c, i, j][None, :, None, None] * window[:, None]
        return part

    total: Any = None
    for channels in chunked(per_group, at_once):
        part = multiplied(functools.partial(correlated, channels), qx, qw, bits)
        total = part if total is None else total + part
    y = total * sx * sw.reshape(1, -1, 1, 1)
    return y if b is None else y + b.reshape(1, -1, 1, 1)


def sum_bits(count: int) -> int:
    return 52 - max(0, (count - 1).bit_length())


def exact_sum(x: Array, axes: Sequence[int] | None, keepdims: bool = False) -> Array:
    over = tuple(sorted({a % x.ndim for a in axes})) if axes else tuple(range(x.ndim))
    q, scale = to_grid(np.asarray(x, np.float64), over, sum_bits(math.prod(x.shape[a] for a in over)))
    total = q.sum(over, keepdims=True) * scale
    return total if keepdims else total.squeeze(over)


def exact_mean(x: Array, axes: Sequence[int] | None, keepdims: bool = False) -> Array:
    over = tuple(sorted({a % x.ndim for a in axes})) if axes else tuple(range(x.ndim))
    return exact_sum(x, over, keepdims) / float(math.prod(x.shape[a] for a in over))


def normalised(x: Array, axes: Sequence[int], eps: float) -> Array:
    d = x - exact_mean(x, axes, True)
    return d * rsqrt(exact_mean(d * d, axes, True) + eps)


def centred(x: Array, axis: int) -> Array:
    largest = x.max(axis, keepdims=True)
    return x - np.where(largest == -np.inf, 0.0, largest)


def softmax(x: Array, axis: int) -> Array:
    e = exp(centred(x, axis))
    s = exact_sum(e, (axis,), True)
    return e / np.where(s == 0, 1.0, s)


def log_softmax(x: Array, axis: int) -> Array:
    d = centred(x, axis)
    return d - log(exact_sum(exp(d), (axis,), True))


# ---- layers


def spread(values: Sequence[int], n: int) -> list[int]:
    return [values[0]] * n if len(values) == 1 else list(values)


def conv(
    x: Array, w: Array, b: Any = None, stride: Any = (1,), pad: Any = (0,), dilation: Any = (1,), groups: int = 1
) -> Array:
    n = w.ndim - 2
    return convolution(x, w, b, spread(stride, n), [(p, p) for p in spread(pad, n)], spread(dilation, n), groups)


def conv_same(
    x: Array, w: Array, b: Any = None, stride: Any = (1,), pad: str = "valid", dilation: Any = (1,), groups: int = 1
) -> Array:
    n = w.ndim - 2
    totals = [d * (k - 1) if pad == "same" else 0 for d, k in zip(spread(dilation, n), w.shape[2:], strict=True)]
    pads = [(t // 2, t - t // 2) for t in totals]
    return convolution(x, w, b, spread(stride, n), pads, spread(dilation, n), groups)


def per_channel(v: Array, ndim: int) -> Array:
    return v.reshape(1, -1, *[1] * (ndim - 2))


def affine(y: Array, w: Array | None, b: Array | None) -> Array:
    y = y if w is None else y * w
    return y if b is None else y + b


def batch_norm(
    x: Array, w: Any, b: Any, mean: Array, var: Array, training: bool, momentum: float, eps: float, _: bool
) -> Array:
    k = rsqrt(var + eps)
    y = (x - per_channel(mean, x.ndim)) * per_channel(k if w is None else k * w, x.ndim)
    return y if b is None else y + per_channel(b, x.ndim)


def group_norm(x: Array, groups: int, w: Any = None, b: Any = None, eps: float = 1e-5, _: bool = True) -> Array:
    y = normalised(x.reshape(x.shape[0], groups, -1), (-1,), eps).reshape(x.shape)
    return affine(y, None if w is None else per_channel(w, x.ndim), None if b is None else per_channel(b, x.ndim))


def windows(length: int, kernel: int, stride: int, pad: int, dilation: int, ceil: bool) -> int:
    span = length + 2 * pad - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil else span // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= length + pad else count


def max_pool(
    x: Array, kernel: Any, stride: Any = (), pad: Any = (0,), dilation: Any = (1,), ceil: bool = False
) -> Array:
    dims = x.ndim - 2
    k, p, d = spread(kernel, dims), spread(pad, dims), spread(dilation, dims)
    s = spread(stride or k, dims)
    n = [windows(x.shape[2 + i], k[i], s[i], p[i], d[i], ceil) for i in range(dims)]
    padded = np.full((*x.shape[:2], *(x.shape[2 + i] + 2 * p[i] + k[i] * d[i] + s[i] for i in range(dims))), -np.inf)
    padded[(slice(None), slice(None), *(slice(p[i], p[i] + x.shape[2 + i]) for i in range(dims)))] = x
    out = np.full((*x.shape[:2], *n), -np.inf)
    for place in itertools.product(*(range(v) for v in k)):
        seen = [slice(place[i] * d[i], place[i] * d[i] + (n[i] - 1) * s[i] + 1, s[i]) for i in range(dims)]
        out = np.maximum(out, padded[(slice(None), slice(None), *seen)])
    return out


def avg_pool(
    x: Array, kernel: Any, stride: Any = (), pad: Any = (0,), ceil: bool = False, count_pad: bool = True
) -> Array:
    dims = x.ndim - 2
    k, p = spread(kernel, dims), spread(pad, dims)
    s = spread(stride or k, dims)
    n = [windows(x.shape[2 + i], k[i], s[i], p[i], 1, ceil) for i in range(dims)]
    q, scale = to_grid(x, tuple(range(1, x.ndim)), sum_bits(math.prod(k)))
    out = np.zeros((*x.shape[:2], *n))
    for cell in itertools.product(*(range(v) for v in n)):
        first = [cell[i] * s[i] - p[i] for i in range(dims)]
        inside = q[(slice(None), slice(None), *(slice(max(f, 0), f + v) for f, v in zip(first, k, strict=True)))]
        low = [-v for v in p] if count_pad else [0] * dims
        high = [x.shape[2 + i] + p[i] if count_pad else x.shape[2 + i] for i in range(dims)]
        places = math.prod(min(first[i] + k[i], high[i]) - max(first[i], low[i]) for i in range(dims))
        total = inside.sum(tuple(range(2, x.ndim))) * scale.reshape(-1, 1)
        out[(slice(None), slice(None), *cell)] = total / float(places)
    return out


def edges(length: int, cells: int) -> list[tuple[int, int]]:
    return [((i * length) // cells, -(-((i + 1) * length) // cells)) for i in range(cells)]


def adaptive_avg_pool(x: Array, size: Sequence[int]) -> Array:
    sides = [edges(n, m) for n, m in zip(x.shape[2:], size, strict=True)]
    largest = math.prod(max(b - a for a, b in side) for side in sides)
    q, scale = to_grid(x, tuple(range(1, x.ndim)), sum_bits(largest))
    out = np.zeros((*x.shape[:2], *size))
    for cell in itertools.product(*(range(v) for v in size)):
        spans = [side[i] for side, i in zip(sides, cell, strict=True)]
        inside = q[(slice(None), slice(None), *(slice(a, b) for a, b in spans))]
        total = inside.sum(tuple(range(2, x.ndim))) * scale.reshape(-1, 1)
        out[(slice(None), slice(None), *cell)] = total / float(math.prod(b - a for a, b in spans))
    return out


def adaptive_max_pool(x: Array, size: Sequence[int]) -> tuple[Array, None]:
    sides = [edges(n, m) for n, m in zip(x.shape[2:], size, strict=True)]
    out = np.zeros((*x.shape[:2], *size))
    for cell in itertools.product(*(range(v) for v in size)):
        spans = [slice(*side[i]) for side, i in zip(sides, cell, strict=True)]
        out[(slice(None), slice(None), *cell)] = x[(slice(None), slice(None), *spans)].max(tuple(range(2, x.ndim)))
    return out, None


def power(x: Array, n: float) -> Array:
    if n == 0.5:
        return sqrt(x)
    if n == -0.5:
        return rsqrt(x)
    if n != int(n):
        return exp(log(x) * n)
    y = x
    for _ in range(int(abs(n)) - 1):
        y = y * x
    return 1.0 / y if n < 0 else y


def flatten(x: Array, start: int = 0, end: int = -1) -> Array:
    start, end = start % x.ndim, end % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def slice_(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


def split(x: Array, size: int, dim: int = 0) -> list[Array]:
    return [slice_(x, dim, i, i + size) for i in range(0, x.shape[dim], size)]


def pad(x: Array, pads: Sequence[int], mode: Any = "constant", value: Any = None) -> Array:
    fill = mode if not isinstance(mode, str) else value or 0.0
    width = [(0, 0)] * (x.ndim - len(pads) // 2) + [(pads[i], pads[i + 1]) for i in range(len(pads) - 2, -1, -2)]
    for axis, (before, after) in enumerate(width):
        x = slice_(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
    return np.pad(x, [(max(a, 0), max(b, 0)) for a, b in width], constant_values=fill)


def same(x: Array, *_: Any, **__: Any) -> Array:
    return x


def hard_sigmoid(x: Array) -> Array:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


# ---- sines, recurrent layers, attention, resizing


def quarter(x: Array, shift: int) -> Array:
    known = np.abs(x) <= 2.0**20
    x = np.where(known, x, 0.0)
    k = np.rint(x * float.fromhex("0x1.45f306dc9c883p-1"))
    a, b, c = (float.fromhex(v) for v in ("0x1.921fb544p+0", "0x1.0b4611a6p-34", "0x1.3198a2e037073p-69"))
    r = ((x - k * a) - k * b) - k * c
    q = (k.astype(np.int64) + shift) & 3
    z = r * r
    sine = horner(z, [(-1.0) ** n / math.factorial(2 * n + 1) for n in range(9)]) * r
    cosine = horner(z, [(-1.0) ** n / math.factorial(2 * n) for n in range(10)])
    y = np.where(q % 2 == 0, sine, cosine)
    return np.where(known, np.where(q >= 2, -y, y), np.nan)


def recurrent(kind: str) -> Callable[..., Any]:
    def run(
        x: Array,
        hx: Any,
        params: Sequence[Array],
        biases: bool,
        layers: int,
        dropout: float,
        train: bool,
        both_ways: bool,
        batch_first: bool,
    ) -> list[Array]:
        x = x.swapaxes(0, 1) if batch_first else x
        states = list(hx) if kind == "lstm" else [hx]
        each, ways = 4 if biases else 2, 2 if both_ways else 1
        last: list[list[Array]] = []
        for layer in range(layers):
            sides = []
            for way in range(ways):
                place = layer * ways + way
                wi, wh, *b = params[place * each : (place + 1) * each]
                bi, bh = b or (np.zeros(len(wi)), np.zeros(len(wi)))
                now = [s[place] for s in states]
                out: list[Any] = [None] * len(x)
                for t in reversed(range(len(x))) if way else range(len(x)):
                    now = steps[kind](x[t], now, wi, wh, bi, bh)
                    out[t] = now[0]
                sides.append(np.stack(out))
                last.append(now)
            x = np.concatenate(sides, -1)
        return [x.swapaxes(0, 1) if batch_first else x, *(np.stack([s[i] for s in last]) for i in range(len(states)))]

    return run


def lstm_step(x: Array, now: list[Array], wi: Array, wh: Array, bi: Array, bh: Array) -> list[Array]:
    i, f, g, o = np.split(linear(now[0], wh) + linear(x, wi, bi + bh), 4, -1)
    c = sigmoid(f) * now[1] + sigmoid(i) * tanh(g)
    return [tanh(c) * sigmoid(o), c]


def gru_step(x: Array, now: list[Array], wi: Array, wh: Array, bi: Array, bh: Array) -> list[Array]:
    xr, xz, xn = np.split(linear(x, wi, bi), 3, -1)
    hr, hz, hn = np.split(linear(now[0], wh, bh), 3, -1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(r * hn + xn)
    return [(now[0] - n) * z + n]


def rnn_step(activation: Callable[[Array], Array]) -> Callable[..., list[Array]]:
    return lambda x, now, wi, wh, bi, bh: [activation(linear(now[0], wh) + linear(x, wi, bi + bh))]


def cell(kind: str) -> Callable[..., Any]:
    def run(x: Array, hx: Any, wi: Array, wh: Array, bi: Any = None, bh: Any = None) -> Any:
        bi, bh = (np.zeros(len(wi)) if b is None else b for b in (bi, bh))
        now = steps[kind](x, list(hx) if kind == "lstm" else [hx], wi, wh, bi, bh)
        return now if kind == "lstm" else now[0]

    return run


steps: dict[str, Callable[..., list[Array]]] = {
    "lstm": lstm_step,
    "gru": gru_step,
    "rnn_tanh": rnn_step(tanh),
    "rnn_relu": rnn_step(lambda v: np.maximum(v, 0.0)),
}


def attention(
    q: Array,
    k: Array,
    v: Array,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Array:
    if enable_gqa:
        k, v = (np.repeat(t, q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    factor = rsqrt(np.array(float(q.shape[-1]))) if scale is None else scale
    scores = matmul(q, k.swapaxes(-1, -2)) * factor
    if is_causal:
        late = np.arange(k.shape[-2])[None, :] > np.arange(q.shape[-2])[:, None]
        scores = np.where(late, -np.inf, scores)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return matmul(softmax(scores, -1), v)


def targets_of(x: Array, sizes: Any, factors: Any) -> list[tuple[int, int, Any]]:
    if sizes is not None:
        return [(n, m, None) for n, m in zip(x.shape[2:], sizes, strict=True)]
    return [(n, math.floor(n * f), f) for n, f in zip(x.shape[2:], factors, strict=True)]


def upsample_nearest(x: Array, sizes: Any = None, factors: Any = None) -> Array:
    for axis, (n, m, f) in enumerate(targets_of(x, sizes, factors), 2):
        x = np.take(x, [min(i * n // m if f is None else math.floor(i / f), n - 1) for i in range(m)], axis)
    return x


def upsample_linear(x: Array, sizes: Any = None, corners: bool = False, factors: Any = None) -> Array:
    for axis, (n, m, f) in reversed(list(enumerate(targets_of(x, sizes, factors), 2))):
        step = ((n - 1) / (m - 1) if m > 1 else 0.0) if corners else n / m if f is None else 1.0 / f
        where = [i * step if corners else max((i + 0.5) * step - 0.5, 0.0) for i in range(m)]
        low = [min(math.floor(p), n - 1) for p in where]
        t = np.array([p - i for p, i in zip(where, low, strict=True)]).reshape([-1] + [1] * (x.ndim - 1 - axis))
        x = np.take(x, low, axis) * (1.0 - t) + np.take(x, [min(i + 1, n - 1) for i in low], axis) * t
    return x


def conv_transpose(
    x: Array,
    w: Array,
    b: Any = None,
    stride: Any = (1,),
    pad: Any = (0,),
    out_pad: Any = (0,),
    groups: int = 1,
    dilation: Any = (1,),
) -> Array:
    n = w.ndim - 2
    s, d, p, o = spread(stride, n), spread(dilation, n), spread(pad, n), spread(out_pad, n)
    apart = np.zeros((*x.shape[:2], *((x.shape[2 + i] - 1) * s[i] + 1 for i in range(n))))
    apart[(slice(None), slice(None), *(slice(None, None, v) for v in s))] = x
    q = w.reshape(groups, w.shape[0] // groups, *w.shape[1:]).swapaxes(1, 2)
    q = np.flip(q.reshape(groups * w.shape[1], -1, *w.shape[2:]), tuple(range(2, 2 + n)))
    around = [(d[i] * (w.shape[2 + i] - 1) - p[i], d[i] * (w.shape[2 + i] - 1) - p[i] + o[i]) for i in range(n)]
    return convolution(apart, np.ascontiguousarray(q), b, [1] * n, around, d, groups)


def conv3d(
    x: Array, w: Array, b: Any = None, stride: Any = (1,), pad: Any = (0,), dilation: Any = (1,), groups: int = 1
) -> Array:
    s, p, d, length = spread(stride, 3), spread(pad, 3), spread(dilation, 3), w.shape[2]
    padded = np.pad(x, [(0, 0), (0, 0), (p[0], p[0]), (0, 0), (0, 0)])
    count = (padded.shape[2] - d[0] * (length - 1) - 1) // s[0] + 1
    flat = w.reshape(w.shape[0], -1, *w.shape[3:])
    out = []
    for i in range(count):
        slices = padded[:, :, i * s[0] : i * s[0] + d[0] * (length - 1) + 1 : d[0]]
        image = slices.reshape(x.shape[0], -1, *x.shape[3:])
        out.append(convolution(image, flat, None, s[1:], [(v, v) for v in p[1:]], d[1:], groups))
    y = np.stack(out, 2)
    return y if b is None else y + b.reshape(1, -1, 1, 1, 1)


def einsum(equation: str, operands: Sequence[Array], path: Any = None) -> Array:
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) == 3:
        met = "".join(c for i, c in enumerate(terms[0] + terms[1]) if c in output + terms[2])
        met = "".join(c for i, c in enumerate(met) if c not in met[:i])
        front = einsum(f"{terms[0]},{terms[1]}->{met}", operands[:2])
        return einsum(f"{met},{terms[2]}->{output}", [front, operands[2]])
    kept = []
    for i, (term, x) in enumerate(zip(terms, operands, strict=True)):
        other = output + "".join(terms[:i] + terms[i + 1 :])
        gone = [n for n, c in enumerate(term) if c not in other]
        kept.append(("".join(c for c in term if c in other), exact_sum(x, gone) if gone else x))
    if len(kept) == 1:
        return kept[0][1].transpose([kept[0][0].index(c) for c in output])
    (left, a), (right, b) = kept
    size = dict(zip(left + right, a.shape + b.shape, strict=True))
    batch = [c for c in left if c in right and c in output]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]
    summed = [c for c in left if c in right and c not in output]
    a = a.transpose([left.index(c) for c in batch + rows + summed])
    b = b.transpose([right.index(c) for c in batch + summed + columns])

    def n(letters: list[str]) -> int:
        return math.prod(size[c] for c in letters)

    a, b = a.reshape(n(batch), n(rows), n(summed)), b.reshape(n(batch), n(summed), n(columns))
    order = batch + rows + columns
    return matmul(a, b).reshape([size[c] for c in order]).transpose([order.index(c) for c in output])


def instance_norm(
    x: Array, w: Any, b: Any, mean: Any, var: Any, stats: bool, momentum: float, eps: float, _: bool
) -> Array:
    if mean is not None:
        return batch_norm(x, w, b, mean, var, False, momentum, eps, True)
    return group_norm(x, x.shape[1], w, b, eps)


def variance(x: Array, axes: Any = None, correction: Any = None, keepdim: bool = False) -> Array:
    over = tuple(sorted({a % x.ndim for a in axes})) if axes else tuple(range(x.ndim))
    d = x - exact_mean(x, over, True)
    count = math.prod(x.shape[a] for a in over)
    return exact_sum(d * d, over, keepdim) / max(0.0, count - (1.0 if correction is None else correction))


def log_sum_exp(x: Array, axes: Sequence[int], keepdim: bool = False) -> Array:
    over = tuple(a % x.ndim for a in axes)
    m = x.max(over, keepdims=True)
    m = np.where(np.isinf(m), 0.0, m)
    y = log(exact_sum(exp(x - m), over, True)) + m
    return y if keepdim else y.squeeze(over)


def cosine_similarity(x: Array, y: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    x, y = (v / np.maximum(sqrt(exact_sum(v * v, (dim,), True)), eps) for v in np.broadcast_arrays(x, y))
    return exact_sum(x * y, (dim,))


def running_sum(x: Array, dim: int, dtype: Any = None) -> Array:
    if x.dtype != np.float64:
        return x.astype(np.int64).cumsum(dim)
    q, scale = to_grid(x, (dim,), sum_bits(x.shape[dim]))
    return q.cumsum(dim) * scale


def add_up(x: Array, axes: Any, keepdim: bool = False, dtype: Any = None) -> Array:
    if x.dtype == np.float64:
        return exact_sum(x, axes, keepdim)
    return x.astype(np.int64).sum(tuple(axes) if axes else None, keepdims=keepdim)


def top(x: Array, k: int, dim: int = -1, largest: bool = True, ordered: bool = True) -> tuple[Array, Array]:
    order = np.argsort(-x if largest else x, dim, kind="stable")
    order = np.take(order, range(k), dim)
    return np.take_along_axis(x, order, dim), order


def largest_place(x: Array, dim: Any = None, keepdim: bool = False) -> Array:
    return x.reshape(-1).argmax() if dim is None else x.argmax(dim, keepdims=keepdim)


def in_order_of_size(x: Array, dim: int = -1, descending: bool = False, stable: Any = None) -> tuple[Array, Array]:
    order = np.argsort(-x if descending else x, dim, kind="stable")
    return np.take_along_axis(x, order, dim), order


def median(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    middle = (x.shape[dim] - 1) // 2
    values, order = (np.take(t, [middle], dim) for t in in_order_of_size(x, dim))
    return (values, order) if keepdim else (values.squeeze(dim), order.squeeze(dim))


def products(x: Array, dim: int, dtype: Any = None) -> Array:
    y = x.astype(np.float64 if x.dtype == np.float64 or dtype in ("float32", "float64") else np.int64)
    return np.stack(list(itertools.accumulate(np.moveaxis(y, dim, 0), np.multiply)), dim)


def product_of_all(x: Array, dim: int, keepdim: bool = False, dtype: Any = None) -> Array:
    y = np.take(products(x, dim, dtype), [-1], dim)
    return y if keepdim else y.squeeze(dim)


def scatter(x: Array, dim: int, index: Array, src: Any) -> Array:
    """In the order of the places along `dim`; the last value stays."""
    y, given = x.copy(), np.broadcast_to(src, index.shape) if np.ndim(src) == 0 else src
    outside = (index < 0) | (index >= x.shape[dim])
    safe = np.where(outside, 0, index)
    for place in np.ndindex(*index.shape):
        at = list(place)
        at[dim] = safe[place]
        spoiled = outside[place] or (np.ndim(src) == 0 and np.isnan(y[tuple(at)]))
        y[tuple(at)] = np.nan if spoiled else given[place]
    return y


def scatter_add(x: Array, dim: int, index: Array, src: Array) -> Array:
    src = src[tuple(slice(n) for n in index.shape)]
    outside = (index < 0) | (index >= x.shape[dim])
    safe = np.where(outside, 0, index)
    whole_numbers = x.dtype != np.float64
    q, scale = (src, 1) if whole_numbers else to_grid(np.where(outside, np.nan, src), (dim,), sum_bits(src.shape[dim]))
    total = np.zeros(x.shape, q.dtype)
    for place in np.ndindex(*index.shape):
        at = list(place)
        at[dim] = safe[place]
        total[tuple(at)] += q[place]
    lines = tuple(slice(n) if i != dim % x.ndim else slice(None) for i, n in enumerate(src.shape))
    y = x.copy()
    y[lines] = x[lines] + total[lines] * scale
    return y


def index_add(x: Array, dim: int, index: Array, source: Array, alpha: float = 1) -> Array:
    spots = index.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    spots = np.broadcast_to(spots, source.shape)
    return scatter_add(x, dim, spots, source if alpha == 1 else source * alpha)


def im2col(x: Array, kernel: Any, dilation: Any, pad_: Any, stride: Any) -> Array:
    padded_ = np.pad(x, [(0, 0), (0, 0), (pad_[0], pad_[0]), (pad_[1], pad_[1])])
    n = [(padded_.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    parts = []
    for i, j in np.ndindex(*kernel):
        rows = slice(i * dilation[0], i * dilation[0] + (n[0] - 1) * stride[0] + 1, stride[0])
        columns = slice(j * dilation[1], j * dilation[1] + (n[1] - 1) * stride[1] + 1, stride[1])
        parts.append(padded_[:, :, rows, columns].reshape(*x.shape[:2], -1))
    return np.stack(parts, 2).reshape(x.shape[0], -1, n[0] * n[1])


def col2im(x: Array, size: Any, kernel: Any, dilation: Any, pad_: Any, stride: Any) -> Array:
    q, scale = to_grid(x, (1, 2), sum_bits(math.prod(kernel)))
    places = np.arange(1.0, math.prod(size) + 1).reshape(1, 1, *size)
    where = im2col(places, kernel, dilation, pad_, stride)[0].astype(np.int64)  # 0 is padding
    q = q.reshape(x.shape[0], -1, *where.shape)
    out = np.zeros((*q.shape[:2], math.prod(size) + 1))
    for i, j in np.ndindex(*where.shape):
        out[:, :, where[i, j]] += q[:, :, i, j]
    return out[:, :, 1:].reshape(*q.shape[:2], *size) * scale.reshape(-1, 1, 1, 1)


def unfold(x: Array, dim: int, size: int, step: int) -> Array:
    count = (x.shape[dim] - size) // step + 1
    return np.stack(
        [np.moveaxis(slice_(x, dim, i * step, i * step + size), dim, -1) for i in range(count)], dim % x.ndim
    )


def nearest_exact(x: Array, sizes: Any = None, factors: Any = None) -> Array:
    for axis, (n, m, f) in enumerate(targets_of(x, sizes, factors), 2):
        step = n / m if f is None else 1.0 / f
        x = np.take(x, [min(math.floor((i + 0.5) * step), n - 1) for i in range(m)], axis)
    return x


def cubic(x: Array, sizes: Any, corners: bool, factors: Any = None) -> Array:
    a = -0.75
    for axis, (n, m, f) in reversed(list(enumerate(targets_of(x, sizes, factors), 2))):
        step = ((n - 1) / (m - 1) if m > 1 else 0.0) if corners else n / m if f is None else 1.0 / f
        where = np.array([i * step if corners else (i + 0.5) * step - 0.5 for i in range(m)])
        low = np.floor(where)
        t = where - low
        d0, d2, d3 = t + 1.0, 1.0 - t, 2.0 - t
        weights = [
            ((a * d0 - 5.0 * a) * d0 + 8.0 * a) * d0 - 4.0 * a,
            ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0,
            ((a + 2.0) * d2 - (a + 3.0)) * d2 * d2 + 1.0,
            ((a * d3 - 5.0 * a) * d3 + 8.0 * a) * d3 - 4.0 * a,
        ]
        shape = [-1] + [1] * (x.ndim - 1 - axis)
        y: Any = None
        for i, w in enumerate(weights):
            part = np.take(x, np.clip(low.astype(int) - 1 + i, 0, n - 1), axis) * w.reshape(shape)
            y = part if y is None else y + part
        x = y
    return x


def bilinear(x: Array, y: Array, w: Array, b: Any = None) -> Array:
    z = linear(x, w.transpose(0, 2, 1).reshape(-1, w.shape[1])).reshape(*x.shape[:-1], w.shape[0], w.shape[2])
    z = exact_sum(z * y[..., None, :], (-1,))
    return z if b is None else z + b


def quotient(x: Array, y: Any, rounding_mode: Any = None) -> Array:
    if rounding_mode is None:
        return x / (y + 0.0)
    if np.asarray(x).dtype != np.float64 and not isinstance(y, float):
        low = x // y
        return low if rounding_mode == "floor" else low + ((x - low * y != 0) & (low < 0))
    z = x / (np.asarray(y, np.float64) + 0.0)
    return np.floor(z) if rounding_mode == "floor" else np.trunc(z)


def remainder(x: Array, y: Any) -> Array:
    if x.dtype != np.float64 and not isinstance(y, float):
        return np.remainder(x, y)
    return x - np.floor(x / (y + 0.0)) * y


LARGEST_FLOAT32 = (2.0 - 2.0**-23) * 2.0**127


def without_nan(x: Array, nan: Any = None, high: Any = None, low: Any = None) -> Array:
    high, low = LARGEST_FLOAT32 if high is None else high, -LARGEST_FLOAT32 if low is None else low
    y = np.where(x == np.inf, high, np.where(x == -np.inf, low, x))
    return np.where(np.isnan(y), 0.0 if nan is None else nan, y)


def pixel_shuffle(x: Array, r: int) -> Array:
    *front, c, h, w = x.shape
    y = x.reshape(*front, c // (r * r), r, r, h, w)
    n = len(front)
    return y.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*front, c // (r * r), h * r, w * r)


def pixel_unshuffle(x: Array, r: int) -> Array:
    *front, c, h, w = x.shape
    y = x.reshape(*front, c, h // r, r, w // r, r)
    n = len(front)
    return y.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*front, c * r * r, h // r, w // r)


def put_back(x: Array, part: Array, dim: int, place: Any) -> Array:
    y = x.copy()
    y[(slice(None),) * (dim % x.ndim) + (place,)] = part
    return y


def picked(x: Array, dim: int, places: Array) -> Array:
    inside = (places >= -x.shape[dim]) & (places < x.shape[dim])
    y = np.take(x, places % x.shape[dim], dim)
    if x.dtype != np.float64:
        return y
    return np.where(inside.reshape(*places.shape, *[1] * (x.ndim - 1 - dim % x.ndim)), y, np.nan)


def indexed(x: Array, places: Sequence[Any]) -> Array:
    used = [(i, p) for i, p in enumerate(places) if p is not None]
    dim = used[0][0]
    if len(used) == 1:
        return picked(x, dim, used[0][1])
    lengths = [x.shape[i] for i, _ in used]
    spots = np.broadcast_arrays(*(p for _, p in used))
    inside = np.all([(p >= -n) & (p < n) for p, n in zip(spots, lengths, strict=True)], 0)
    flat = np.ravel_multi_index([p % n for p, n in zip(spots, lengths, strict=True)], lengths)
    whole_ = x.reshape(*x.shape[:dim], -1, *x.shape[dim + len(used) :])
    return picked(whole_, dim, np.where(inside, flat, math.prod(lengths)))


def gather(x: Array, dim: int, index: Array, _: bool = False) -> Array:
    outside = (index < 0) | (index >= x.shape[dim])
    nothing = np.nan if x.dtype.kind == "f" else -1
    return np.where(outside, nothing, np.take_along_axis(x, np.where(outside, 0, index), dim))


def padded(x: Array, pads: Sequence[int], mode: str = "constant", value: Any = None) -> Array:
    if mode == "constant":
        return pad(x, pads, mode, value)
    width = [(0, 0)] * (x.ndim - len(pads) // 2) + [(pads[i], pads[i + 1]) for i in range(len(pads) - 2, -1, -2)]
    return np.pad(x, width, mode={"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])  # type: ignore[call-overload]


NUMBER_TYPES = {"bool": np.bool_, "int64": np.int64}


def cast(x: Array, dtype: str, *_: Any, **__: Any) -> Array:
    if x.dtype == np.float64 and dtype == "int64":
        return np.where(np.abs(x) < 2.0**53, np.trunc(x), -1.0).astype(np.int64)
    return x.astype(NUMBER_TYPES.get(dtype, np.float64))


def filled(sizes: Sequence[int], value: Any, dtype: Any = None, **_: Any) -> Array:
    if dtype is None and not isinstance(value, float):
        return np.full(sizes, value)
    return np.full(sizes, value, NUMBER_TYPES.get(dtype, np.float64))


def filled_like(x: Array, value: Any, dtype: Any = None, **_: Any) -> Array:
    return np.full(x.shape, value, x.dtype if dtype is None else NUMBER_TYPES.get(dtype, np.float64))


def in_order(*ends: Any, dtype: Any = None) -> Array:
    y = np.arange(*(int(e) for e in ends), dtype=np.int64)
    return y if dtype is None else y.astype(NUMBER_TYPES.get(dtype, np.float64))


def elu(x: Array, a: float = 1, s: float = 1, i: float = 1) -> Array:
    return np.where(x > 0, x * s, (exp(np.minimum(x, 0.0) * i) - 1.0) * (a * s))


def glu(x: Array, dim: int = -1) -> Array:
    a, b = np.split(x, 2, dim)
    return a * sigmoid(b)


def product_and_sum(x: Array, a: Array, b: Array, beta: float = 1, alpha: float = 1) -> Array:
    y = matmul(a, b)
    return (y if alpha == 1 else y * alpha) + (x if beta == 1 else x * beta)


SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


OPERATORS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "embedding": lambda w, i, *_: np.where(((i < 0) | (i >= len(w)))[..., None], np.nan, w[np.clip(i, 0, len(w) - 1)]),
    "batch_norm": batch_norm,
    "layer_norm": lambda x, sh, w=None, b=None, eps=1e-5, _=True: affine(normalised(x, range(-len(sh), 0), eps), w, b),
    "group_norm": group_norm,
    "rms_norm": lambda x, sh, w=None, eps=None: affine(
        x * rsqrt(exact_mean(x * x, range(-len(sh), 0), True) + (2.0**-23 if eps is None else eps)), w, None
    ),
    "softmax": lambda x, dim, dtype=None: softmax(x, dim),
    "log_softmax": lambda x, dim, dtype=None: log_softmax(x, dim),
    "max_pool1d": max_pool,
    "max_pool3d": max_pool,
    "avg_pool3d": avg_pool,
    "adaptive_avg_pool3d": adaptive_avg_pool,
    "adaptive_max_pool3d": adaptive_max_pool,
    "sort": in_order_of_size,
    "argsort": lambda x, dim=-1, descending=False, stable=None: in_order_of_size(x, dim, descending)[1],
    "median": median,
    "prod": product_of_all,
    "cumprod": products,
    "any": lambda x, dim, keepdim=False: np.any(x, dim, keepdims=keepdim),
    "all": lambda x, dim, keepdim=False: np.all(x, dim, keepdims=keepdim),
    "argmin": lambda x, dim=None, keepdim=False: x.argmin(dim, keepdims=keepdim),
    "slice_scatter": lambda x, part, dim=0, start=None, end=None, step=1: put_back(
        x, part, dim, slice(start, end, step)
    ),
    "select_scatter": lambda x, part, dim, index: put_back(x, part, dim, index),
    "copy": lambda x, src, _=False: np.broadcast_to(src, x.shape).astype(x.dtype),
    "fill": lambda x, value: np.full(x.shape, value, x.dtype),
    "scatter": scatter,
    "scatter_add": scatter_add,
    "index_add": index_add,
    "im2col": im2col,
    "col2im": col2im,
    "unfold": unfold,
    "upsample_nearest3d": upsample_nearest,
    "upsample_trilinear3d": upsample_linear,
    "upsample_bicubic2d": cubic,
    **{f"_upsample_nearest_exact{n}d": nearest_exact for n in (1, 2, 3)},
    "bilinear": bilinear,
    "remainder": remainder,
    "nan_to_num": without_nan,
    **{f"{kind}_cell": cell(kind) for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    "trunc": np.trunc,
    "frac": lambda x: x - np.trunc(x),
    "erfc": lambda x: 1.0 - erf(x),
    "sinh": lambda x: (exp(x) - exp(-x)) * 0.5,
    "cosh": lambda x: (exp(x) + exp(-x)) * 0.5,
    "tan": lambda x: quarter(x, 0) / (quarter(x, 1) + 0.0),
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "exp2": lambda x: exp(x * float.fromhex("0x1.62e42fefa39efp-1")),
    "log2": lambda x: log(x) * LOG2_E,
    "log10": lambda x: log(x) * float.fromhex("0x1.bcb7b1526e50ep-2"),
    "max_pool2d": max_pool,
    "avg_pool1d": avg_pool,
    "avg_pool2d": avg_pool,
    "adaptive_avg_pool1d": adaptive_avg_pool,
    "adaptive_avg_pool2d": adaptive_avg_pool,
    "adaptive_max_pool1d": adaptive_max_pool,
    "adaptive_max_pool2d": adaptive_max_pool,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "erf": erf,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * tanh(softplus(x)),
    "hardswish": lambda x: x * hard_sigmoid(x),
    "hardsigmoid": hard_sigmoid,
    "neg": lambda x: -x,
    "abs": np.abs,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / (x + 0.0),
    "gelu": gelu,
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, x * slope),
    "elu": elu,
    "softplus": lambda x, beta=1, threshold=20: np.where(x * beta > threshold, x, softplus(x * beta) / float(beta)),
    "hardtanh": lambda x, low=-1, high=1: np.clip(x, low, high),
    "clamp": lambda x, min=None, max=None: np.clip(x, min, max),
    "pow": power,
    "add": lambda x, y, alpha=1: x + (y if alpha == 1 else y * alpha),
    "sub": lambda x, y, alpha=1: x - (y if alpha == 1 else y * alpha),
    "rsub": lambda x, y, alpha=1: y - (x if alpha == 1 else x * alpha),
    "mul": lambda x, y: x * y,
    "div": quotient,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mean": lambda x, dims, keepdim=False, dtype=None: exact_mean(x, dims, keepdim),
    "sum": add_up,
    "lstm": recurrent("lstm"),
    "gru": recurrent("gru"),
    "rnn_tanh": recurrent("rnn_tanh"),
    "rnn_relu": recurrent("rnn_relu"),
    "scaled_dot_product_attention": attention,
    "upsample_nearest1d": upsample_nearest,
    "upsample_nearest2d": upsample_nearest,
    "upsample_linear1d": upsample_linear,
    "upsample_bilinear2d": upsample_linear,
    "conv_transpose1d": conv_transpose,
    "conv_transpose2d": conv_transpose,
    "conv3d": conv3d,
    "addmm": product_and_sum,
    "baddbmm": product_and_sum,
    "einsum": einsum,
    "instance_norm": instance_norm,
    "linalg_vector_norm": lambda x, ord=2, dims=None, keepdim=False, dtype=None: (
        np.abs(x).max(tuple(dims) if dims else None, keepdims=keepdim)
        if ord == math.inf
        else exact_sum(np.abs(x), dims, keepdim)
        if ord == 1
        else sqrt(exact_sum(x * x, dims, keepdim))
    ),
    "logsumexp": log_sum_exp,
    "cosine_similarity": cosine_similarity,
    "var": variance,
    "std": lambda *a, **k: sqrt(variance(*a, **k)),
    "cumsum": running_sum,
    "topk": top,
    "argmax": largest_place,
    "max": lambda x, dim, keepdim=False: (x.max(dim, keepdims=keepdim), x.argmax(dim, keepdims=keepdim)),
    "min": lambda x, dim, keepdim=False: (x.min(dim, keepdims=keepdim), x.argmin(dim, keepdims=keepdim)),
    "amin": lambda x, dims=(), keepdim=False: x.min(tuple(dims) or None, keepdims=keepdim),
    "sin": lambda x: quarter(x, 0),
    "cos": lambda x: quarter(x, 1),
    "expm1": lambda x: exp(x) - 1.0,
    "log1p": lambda x: log(x + 1.0),
    "log_sigmoid": lambda x: -softplus(-x),
    "selu": lambda x: elu(x, SELU[0], SELU[1], 1.0),
    "celu": lambda x, alpha=1.0: elu(x, alpha, 1.0, 1.0 / alpha),
    "prelu": lambda x, w: np.where(x > 0, x, x * (per_channel(w, x.ndim) if w.size > 1 else w.reshape(()))),
    "glu": glu,
    "hardshrink": lambda x, v=0.5: np.where((x >= -v) & (x <= v), 0.0, x),
    "softshrink": lambda x, v=0.5: np.where(x > v, x - v, np.where(x < -v, x + v, x * 0.0)),
    "threshold": lambda x, limit, value: np.where(x <= limit, value, x),
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sign": np.sign,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_not": np.logical_not,
    "bitwise_not": np.logical_not,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "bitwise_and": np.logical_and,
    "bitwise_or": np.logical_or,
    "masked_fill": lambda x, mask, value: np.where(mask, value, x),
    "where": np.where,
    "addcmul": lambda x, a, b, value=1: x + (a * b if value == 1 else a * b * value),
    "lerp": lambda x, end, weight: x + (end - x) * weight,
    "zeros": lambda sizes, dtype=None: filled(sizes, 0.0, dtype),
    "ones": lambda sizes, dtype=None: filled(sizes, 1.0, dtype),
    "full": filled,
    "zeros_like": lambda x, dtype=None: filled_like(x, 0, dtype),
    "ones_like": lambda x, dtype=None: filled_like(x, 1, dtype),
    "full_like": filled_like,
    "arange": in_order,
    "tril": np.tril,
    "triu": np.triu,
    "expand_as": lambda x, other: np.broadcast_to(x, other.shape),
    "repeat": np.tile,
    "repeat_interleave": lambda x, n, dim=None: np.repeat(x, n, dim),
    "flip": np.flip,
    "roll": lambda x, shifts, dims: np.roll(x, tuple(shifts), tuple(dims)),
    "unbind": lambda x, dim=0: [np.take(x, i, dim) for i in range(x.shape[dim])],
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": lambda x, g: x.reshape(len(x), g, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape),
    "index_select": picked,
    "index": indexed,
    "gather": gather,
    "one_hot": lambda x, n: (x[..., None] == np.arange(n)).astype(np.int64),
    "amax": lambda x, dims=(), keepdim=False: x.max(tuple(dims) or None, keepdims=keepdim),
    "view": lambda x, sizes: x.reshape(sizes),
    "reshape": lambda x, sizes: x.reshape(sizes),
    "flatten": flatten,
    "unflatten": lambda x, dim, sizes: x.reshape(*x.shape[: dim % x.ndim], *sizes, *x.shape[dim % x.ndim + 1 :]),
    "permute": lambda x, dims: x.transpose(dims),
    "transpose": np.swapaxes,
    "t": lambda x: x.T,
    "unsqueeze": np.expand_dims,
    "squeeze": lambda x, dims: x.squeeze(
        tuple(d for d in (dims if isinstance(dims, list) else [dims]) if x.shape[d] == 1)
    ),
    "expand": lambda x, sizes, implicit=False: np.broadcast_to(
        x, [x.shape[i - len(sizes)] if n == -1 else n for i, n in enumerate(sizes)]
    ),
    "cat": lambda parts, dim=0: np.concatenate(parts, dim),
    "stack": lambda parts, dim=0: np.stack(parts, dim),
    "chunk": lambda x, n, dim=0: split(x, -(-x.shape[dim] // n), dim),
    "split": split,
    "split_with_sizes": lambda x, sizes, dim=0: np.split(x, np.cumsum(sizes)[:-1], dim),
    "select": lambda x, dim, index: np.take(x, index, dim),
    "slice": slice_,
    "constant_pad_nd": pad,
    "pad": padded,
    "sym_size": lambda x, dim: x.shape[dim],
    "to": cast,
    **dict.fromkeys(
        [
            "contiguous",
            "clone",
            "detach",
            "alias",
            "lift_fresh_copy",
            "dropout",
            "feature_dropout",
            "alpha_dropout",
        ],
        same,
    ),
}
FULL_NAMES: dict[str, Callable[..., Any]] = {
    "aten.pow.Scalar": lambda x, n: exp(n * log(np.array(float(x)))),
    "aten.pow.Tensor_Tensor": lambda x, n: exp(log(x.astype(np.float64)) * n),
}
FULL_NAMES |= {f"aten.conv{n}d.{o}": f for n in (1, 2) for o, f in (("default", conv), ("padding", conv_same))}
WHOLE = {
    "int.add": lambda a, b: a + b,
    "int.sub": lambda a, b: a - b,
    "int.mul": lambda a, b: a * b,
    "int.floordiv": lambda a, b: a // b,
}


def run(graph: bytes, weights: bytes, *inputs: Array, slices: int = 1) -> Array:
    """The graph's first output, float64, for `inputs`, each [batch, ...]."""
    global SLICES
    SLICES = slices
    document, tensors = json.loads(graph), read_safetensors(weights)

    def entering(x: Array) -> Array:
        return x.astype(np.float64) if x.dtype.kind == "f" else x

    values: list[Any] = [entering(tensors[s["name"]]) for s in document["state"]] + [entering(x) for x in inputs]

    def decoded(v: Any) -> Any:
        if isinstance(v, dict):
            return values[v["$"]] if "$" in v else float(v["float"]) if "float" in v else v["dtype"]
        return [decoded(i) for i in v] if isinstance(v, list) else v

    with np.errstate(all="ignore"):
        for node in document["nodes"]:
            args = [decoded(a) for a in node["args"]]
            kwargs = {name: decoded(v) for name, v in node["kwargs"].items()}
            if node["op"] == "get":
                values.append(args[0][args[1]])
                continue
            function = WHOLE.get(node["op"]) or FULL_NAMES.get(node["op"]) or OPERATORS[node["op"].split(".")[1]]
            values.append(function(*args, **kwargs))
    out: Array = values[document["outputs"][0]]
    return out


def accuracy(outputs: Array, targets: Array) -> list[int]:
    return [int(v) for v in outputs.argmax(-1) == targets]


def cross_entropy(outputs: Array, targets: Array) -> list[int]:
    chosen = -log_softmax(outputs, -1)[np.arange(len(targets)), targets]
    return [int(v) for v in np.rint(np.clip(chosen, 0.0, 50.0) * 1e6)]


def top_k_accuracy(outputs: Array, targets: Array, k: int = 5) -> list[int]:
    return [int(t in np.argsort(-row, kind="stable")[:k]) for row, t in zip(outputs, targets, strict=True)]


def token_losses(outputs: Array, targets: Array) -> list[list[int]]:
    """Micro-nats of each token that counts, example by example."""
    rows, words = outputs.reshape(len(outputs), -1, outputs.shape[-1]), targets.reshape(len(targets), -1)
    found = []
    for row, word in zip(rows, words, strict=True):
        kept = word != -100
        chosen = -log_softmax(row, -1)[np.arange(len(word)), np.where(kept, word, 0)]
        found.append([int(v) for v in np.rint(np.clip(chosen[kept], 0.0, 50.0) * 1e6)])
    return found


def next_token_loss(outputs: Array, targets: Array) -> list[int]:
    return [sum(losses) for losses in token_losses(outputs, targets)]


def perplexity(outputs: Array, targets: Array) -> list[int]:
    return [(2 * sum(v) + len(v)) // (2 * len(v)) for v in token_losses(outputs, targets)]


def macro_f1(outputs: Array, targets: Array, classes: int) -> list[int]:
    return [int(v) for v in targets * classes + outputs.argmax(-1)]


def macro_f1_total(values: Sequence[int], classes: int) -> int:
    pairs = [divmod(v, classes) for v in values]
    total = 0
    for c in range(classes):
        right = sum(t == c and p == c for t, p in pairs)
        named = sum(t == c for t, _ in pairs) + sum(p == c for _, p in pairs)
        total += 2 * right * 10**6 * len(pairs) // (named * classes) if named else 0
    return total


def distance(outputs: Array, targets: Array, decimals: int, power_: int) -> list[int]:
    d = np.abs(outputs - targets.astype(np.float64)).reshape(len(outputs), -1)
    mean = exact_mean(d * d if power_ == 2 else d, (1,)) * 10.0**decimals
    return [int(v) for v in np.rint(np.clip(np.where(np.isnan(mean), np.inf, mean), 0.0, 1e10))]


def scored(identifier: str, outputs: Array, targets: Array) -> tuple[list[int], int]:
    """Values of the examples and the total of a score function."""
    from tests.scoring import numpy_more_scores

    more = numpy_more_scores.scored(identifier, outputs, targets)
    if more is not None:
        return more
    name, _, rest = identifier.partition("/")[0].partition("[")
    given = {k: int(v) for k, _, v in (part.partition("=") for part in rest.rstrip("]").split(",") if part)}
    if name == "macro_f1":
        values = macro_f1(outputs, targets, given["classes"])
        return values, macro_f1_total(values, given["classes"])
    if name in ("mse", "mae"):
        values = distance(outputs, targets, given.get("decimals", 6), 2 if name == "mse" else 1)
    elif name == "top_k_accuracy":
        values = top_k_accuracy(outputs, targets, given.get("k", 5))
    else:
        plain = {
            "accuracy": accuracy,
            "cross_entropy": cross_entropy,
            "next_token_loss": next_token_loss,
            "perplexity": perplexity,
        }
        values = plain[name](outputs, targets)
    return values, sum(values)
