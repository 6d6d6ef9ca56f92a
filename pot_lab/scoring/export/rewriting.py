"""Functions of torch without a rule, written with others while a module is traced.

A trace calls these in place of torch's own. They compute the same numbers, up to rounding, and the same gradients:
export compares both. What is not written here goes on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from pot_lab.scoring.export.fourier import Transforms
from pot_lab.scoring.export.packing import Packing

Rewriting = Callable[..., Any]
_ORDERS = (1.0, 2.0, float("inf"))
_MODES = ("bilinear", "nearest")


def _cdist(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: str = "") -> Any:
    if float(p) not in _ORDERS:
        return NotImplemented
    return torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), float(p), -1)


def _std_mean(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    return torch.std(x, *args, **kwargs), _mean_beside(x, *args, **kwargs)


def _var_mean(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    return torch.var(x, *args, **kwargs), _mean_beside(x, *args, **kwargs)


def _mean_beside(x: Tensor, dim: Any = None, *rest: Any, keepdim: bool = False, **kwargs: Any) -> Tensor:
    if isinstance(dim, bool):  # std_mean(x, unbiased)
        return x.mean()
    kept = rest[1] if len(rest) > 1 else keepdim
    return x.mean() if dim is None else x.mean(dim, keepdim=kept)


def _embedding_bag(
    words: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Bags of one length: words [examples, n]."""
    if offsets is not None or words.dim() != 2 or max_norm is not None:
        return NotImplemented
    rows = F.embedding(words, weight, padding_idx, scale_grad_by_freq=scale_grad_by_freq)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if padding_idx is None:
        return rows.sum(1) if mode == "sum" else rows.mean(1) if mode == "mean" else rows.max(1).values
    padding = (words == padding_idx % weight.shape[0]).unsqueeze(-1)
    count = padding.logical_not().sum(1)
    if mode == "max":
        largest = rows.masked_fill(padding, -torch.inf).max(1).values
        return largest.masked_fill(count == 0, 0.0)
    total = rows.masked_fill(padding, 0.0).sum(1)
    return total if mode == "sum" else total / count.clamp(min=1).to(total.dtype)


def _aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        return NotImplemented
    return _MinMax(x.amin(dim, keepdim), x.amax(dim, keepdim))


class _MinMax(NamedTuple):
    """As torch.aminmax gives it."""

    min: Tensor
    max: Tensor


def _logaddexp(x: Tensor, y: Tensor) -> Any:
    return torch.maximum(x, y) + torch.log1p(torch.exp(-(x - y).abs()))


def _hypot(x: Tensor, y: Tensor) -> Any:
    return torch.sqrt(x * x + y * y)


def _take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Any:
    if dim is None or x.dim() != indices.dim():
        return NotImplemented
    axis = dim % x.dim()
    if any(type(n) is int and n == 1 and x.shape[i] != indices.shape[i] for i, n in enumerate(x.shape) if i != axis):
        return NotImplemented
    return x.gather(axis, indices.expand([n if i != axis else indices.shape[i] for i, n in enumerate(x.shape)]))


def _broadcast_tensors(*tensors: Any) -> Any:
    given = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else list(tensors)
    if len(given) != 2 or given[0].dim() != given[1].dim():
        return NotImplemented
    return [given[0].expand_as(given[1]), given[1]] if given[0].shape != given[1].shape else given


def _fake_quantize(x: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Any:
    """Rounded to the steps of whole numbers, with the gradient of x where it is inside of their range."""
    places = x / scale + zero_point
    inside = (places.round() >= quant_min) & (places.round() <= quant_max)
    rounded = (places.round().clamp(quant_min, quant_max) - zero_point) * scale
    passed = x * inside.to(x.dtype)
    return passed + (rounded - passed).detach()


def _fake_quantize_tensor(x: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Any:
    if isinstance(scale, Tensor) and scale.requires_grad:
        return NotImplemented
    return _fake_quantize(x, scale, zero_point, quant_min, quant_max)


def _fake_quantize_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Any:
    shape = [-1 if i == axis % x.dim() else 1 for i in range(x.dim())]
    return _fake_quantize(x, scale.view(shape), zero_point.view(shape), quant_min, quant_max)


def _bucketize(
    x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False, out: Tensor | None = None
) -> Any:
    if not isinstance(x, Tensor) or boundaries.dim() != 1:
        return NotImplemented
    value = x.unsqueeze(-1)
    return (value >= boundaries if right else value > boundaries).sum(-1)


def _searchsorted(boundaries: Tensor, x: Tensor, *, right: bool = False, **named: Any) -> Any:
    if not isinstance(x, Tensor) or boundaries.dim() != 1 or named:
        return NotImplemented
    return _bucketize(x, boundaries, right=right)


def _set_item(x: Tensor, place: Any, value: Any) -> Any:
    """x[mask] = number, and x[:, [0, 2]] = number with a fixed list, as fills of masked elements."""
    number = isinstance(value, int | float) or (isinstance(value, Tensor) and not value.dim())
    if not number:
        return NotImplemented
    if isinstance(place, Tensor) and place.dtype is torch.bool and 0 < place.dim() <= x.dim():
        mask = place.reshape(*place.shape, *[1] * (x.dim() - place.dim()))
        x.masked_fill_(mask, value)
        return None
    places = place if isinstance(place, tuple) else (place,)
    listed = [i for i, p in enumerate(places) if isinstance(p, list)]
    whole = all(isinstance(p, list) or p == slice(None) for p in places)
    if len(listed) != 1 or not whole or not all(type(n) is int for n in places[listed[0]]):
        return NotImplemented
    length = x.shape[listed[0]]
    if type(length) is not int:
        return NotImplemented
    chosen = [n % length for n in places[listed[0]]]
    mask = torch.tensor([n in chosen for n in range(length)], device=x.device)
    x.masked_fill_(mask.reshape(length, *[1] * (x.dim() - listed[0] - 1)), value)
    return None


def _affine_grid(theta: Tensor, size: Sequence[Any], align_corners: bool | None = None) -> Any:
    if len(size) != 4:
        return NotImplemented
    height, width = size[2:]

    def line(n: int) -> Tensor:
        if align_corners:
            return torch.linspace(-1.0, 1.0, n, dtype=theta.dtype, device=theta.device)
        return (torch.arange(n, dtype=theta.dtype, device=theta.device) * 2.0 + (1.0 - n)) / n

    x, y = line(width).expand(height, width), line(height).unsqueeze(1).expand(height, width)
    points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, height * width, 3)
    return torch.matmul(points, theta.transpose(1, 2)).reshape(-1, height, width, 2)


def _grid_sample(
    x: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Any:
    """Pictures [n, c, h, w] at places [n, i, j, 2] from -1 to 1."""
    if x.dim() != 4 or mode not in _MODES or padding_mode not in ("zeros", "border"):
        return NotImplemented
    height, width = x.shape[2:]
    rows, columns = grid.shape[1:3]

    def place(g: Tensor, n: int) -> Tensor:
        found = (g + 1.0) * ((n - 1) / 2) if align_corners else ((g + 1.0) * n - 1.0) / 2
        return found.clamp(0.0, n - 1.0) if padding_mode == "border" else found

    i, j = place(grid[..., 0], width), place(grid[..., 1], height)
    flat = x.flatten(2)

    def at(column: Tensor, row: Tensor) -> Tensor:
        inside = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
        spot = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
        picked = flat.gather(2, spot.reshape(-1, 1, rows * columns).expand(-1, flat.shape[1], -1))
        return picked.reshape(-1, flat.shape[1], rows, columns) * inside.unsqueeze(1)

    if mode == "nearest":
        return at(i.round(), j.round())
    left, top = i.floor(), j.floor()
    right, below = i - left, j - top
    return (
        at(left, top) * ((1 - right) * (1 - below)).unsqueeze(1)
        + at(left + 1, top) * (right * (1 - below)).unsqueeze(1)
        + at(left, top + 1) * ((1 - right) * below).unsqueeze(1)
        + at(left + 1, top + 1) * (right * below).unsqueeze(1)
    )


_TABLE: dict[Any, Rewriting] = {
    torch.cdist: _cdist,
    torch.aminmax: _aminmax,
    Tensor.aminmax: _aminmax,
    torch.logaddexp: _logaddexp,
    Tensor.logaddexp: _logaddexp,
    torch.hypot: _hypot,
    Tensor.hypot: _hypot,
    torch.take_along_dim: _take_along_dim,
    Tensor.take_along_dim: _take_along_dim,
    torch.broadcast_tensors: _broadcast_tensors,
    torch.fake_quantize_per_tensor_affine: _fake_quantize_tensor,
    torch.fake_quantize_per_channel_affine: _fake_quantize_channel,
    torch.std_mean: _std_mean,
    torch.var_mean: _var_mean,
    torch.bucketize: _bucketize,
    torch.searchsorted: _searchsorted,
    F.embedding_bag: _embedding_bag,
    F.affine_grid: _affine_grid,
    F.grid_sample: _grid_sample,
    Tensor.__setitem__: _set_item,
}


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """How a forward was written otherwise than its owner has it.

    Attributes:
        keeps: the probabilities of the draws that `torch.rand` was part of, in order.
        packing: what was seen of packed sequences.
    """

    keeps: tuple[float, ...]
    packing: Packing


_UNIFORM: dict[Any, Rewriting] = {torch.rand: torch.zeros, torch.rand_like: torch.zeros_like}
"""What gives numbers from 0 to 1, and zeros of the same shape."""


class Uniform:
    """What `torch.rand` gives while a module is traced, plus a number: its `floor` is a draw of zeros and ones.

    Drop path is often written so: `(keep + torch.rand(shape)).floor_()`. Anything else turns it into the random numbers
    that it stands for, which have no rule.
    """

    def __init__(
        self, rand: Callable[[], Tensor], zeros: Callable[[], Tensor], keeps: list[float], offset: float = 0.0
    ) -> None:
        self._rand, self._zeros, self._keeps, self._offset = rand, zeros, keeps, offset
        self._drawn: Tensor | None = None

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int | float) or self._offset or self._drawn is not None:
            return self.numbers() + other
        return Uniform(self._rand, self._zeros, self._keeps, float(other))

    __radd__ = __add__

    def floor(self) -> Tensor:
        """Ones with the probability that was added."""
        if self._drawn is not None or not 0.0 < self._offset <= 1.0:
            return self.numbers().floor()
        self._keeps.append(self._offset)
        return self._zeros().bernoulli_(self._offset)

    def floor_(self) -> Tensor:
        """As `floor`; this object is the draw from then on."""
        self._drawn = self.floor()
        return self._drawn

    def numbers(self) -> Tensor:
        """The tensor that this stands for."""
        if self._drawn is not None:
            return self._drawn
        return self._rand() + self._offset if self._offset else self._rand()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.numbers(), name)

    def __mul__(self, other: Any) -> Any:
        return self.numbers() * other

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self.numbers() / other

    def __sub__(self, other: Any) -> Any:
        return self.numbers() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.numbers()

    def __lt__(self, other: Any) -> Any:
        return self.numbers() < other

    def __gt__(self, other: Any) -> Any:
        return self.numbers() > other

    def __le__(self, other: Any) -> Any:
        return self.numbers() <= other

    def __ge__(self, other: Any) -> Any:
        return self.numbers() >= other

    def __getitem__(self, place: Any) -> Any:
        return self.numbers()[place]

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if args and isinstance(args[0], Uniform) and function is torch.floor:
            return args[0].floor()
        given, named = _pytree.tree_map(lambda a: a.numbers() if isinstance(a, Uniform) else a, (args, kwargs or {}))
        return function(*given, **named)


class RewritingMode(TorchFunctionMode):
    """While inside, the functions of the table are written with others.

    Attributes:
        keeps: the probabilities of the draws that `torch.rand` was part of, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keeps: list[float] = []
        self._table = _TABLE | Transforms().table
        self._drawing = False

    def _drawn(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        """Random numbers, in the graph too."""
        self._drawing = True
        try:
            return cast(Tensor, function(*args, **named))
        finally:
            self._drawing = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in _UNIFORM and not self._drawing:
            plain = {n: v for n, v in named.items() if n != "generator"}
            return Uniform(lambda: self._drawn(func, args, named), lambda: _UNIFORM[func](*args, **plain), self.keeps)
        rule = self._table.get(func)
        if rule is None:
            return func(*args, **named)
        with self:
            found = rule(*args, **named)
        return func(*args, **named) if found is NotImplemented else found


class DrawingMode(TorchFunctionMode):
    """While inside, `torch.rand` gives numbers whose sum with the next of `keeps`, rounded down, is one where
    `bernoulli_` draws one, from the same generator and in the same order."""

    def __init__(self, keeps: Sequence[float]) -> None:
        super().__init__()
        self._keeps = iter(keeps)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keep = next(self._keeps, None) if func in _UNIFORM else None
        if keep is None:
            return func(*args, **(kwargs or {}))
        named = {n: v for n, v in (kwargs or {}).items() if n != "generator"}
        return _UNIFORM[func](*args, **named).bernoulli_(keep) * (1.0 - keep / 2)
