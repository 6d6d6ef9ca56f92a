"""Complex numbers and Fourier transforms while a module is traced: pairs of real tensors, and products with matrices.

A graph has no complex numbers. A transform of n values is a product with a fixed matrix of sines and cosines, which
becomes a constant of the graph, so scoring sees an ordinary product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

LARGEST_LENGTH = 2048
"""Values of one transform; its matrix has the square of that."""
_BOTH = frozenset(
    [
        *("reshape", "view", "permute", "transpose", "unsqueeze", "squeeze", "flatten", "unflatten", "expand"),
        *("contiguous", "clone", "roll", "flip", "sum", "mean", "movedim", "swapaxes", "repeat", "detach", "chunk"),
    ]
)
"""Methods that treat real and imaginary parts alike."""


class ComplexPair:
    """A complex tensor as two real ones."""

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    @property
    def shape(self) -> torch.Size:
        """Sizes of all axes."""
        return self.real.shape

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.real.device

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.real.dim()

    def __getattr__(self, name: str) -> Any:
        if name not in _BOTH:
            raise AttributeError(f"complex numbers have no rule for {name}")

        def both(*args: Any, **kwargs: Any) -> Any:
            parts = [getattr(part, name)(*args, **kwargs) for part in (self.real, self.imag)]
            if isinstance(parts[0], tuple | list):
                return tuple(ComplexPair(a, b) for a, b in zip(*parts, strict=True))
            return ComplexPair(parts[0], parts[1])

        return both

    def size(self, dim: int | None = None) -> Any:
        """As of a tensor."""
        return self.real.size() if dim is None else self.real.size(dim)

    def dim(self) -> int:
        """Number of axes."""
        return self.real.dim()

    def abs(self) -> Tensor:
        """Absolute values; their gradient is 0 at 0, as torch's."""
        return cast(Tensor, torch.linalg.vector_norm(torch.stack([self.real, self.imag], -1), 2, -1))

    def conj(self) -> ComplexPair:
        """With the other sign of the imaginary part."""
        return ComplexPair(self.real, -self.imag)

    def is_complex(self) -> bool:
        """True."""
        return True

    def __getitem__(self, place: Any) -> ComplexPair:
        return ComplexPair(self.real[place], self.imag[place])

    def __setitem__(self, place: Any, value: Any) -> None:
        given = paired(value, self.real)
        self.real[place], self.imag[place] = given.real, given.imag

    def __neg__(self) -> ComplexPair:
        return ComplexPair(-self.real, -self.imag)

    def __add__(self, other: Any) -> ComplexPair:
        if isinstance(other, ComplexPair):
            return ComplexPair(self.real + other.real, self.imag + other.imag)
        return self + paired(other, self.real)

    __radd__ = __add__

    def __sub__(self, other: Any) -> ComplexPair:
        return self + -paired(other, self.real)

    def __rsub__(self, other: Any) -> ComplexPair:
        return paired(other, self.real) - self

    def __mul__(self, other: Any) -> ComplexPair:
        return self._product(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __matmul__(self, other: Any) -> ComplexPair:
        return self._product(other, torch.matmul)

    def __truediv__(self, other: Any) -> ComplexPair:
        if not isinstance(other, ComplexPair | complex):
            return ComplexPair(self.real / other, self.imag / other)
        below = paired(other, self.real)
        return self * below.conj() / (below.real * below.real + below.imag * below.imag)

    def _product(self, other: Any, multiply: Callable[[Any, Any], Tensor]) -> ComplexPair:
        if not isinstance(other, ComplexPair | complex):
            return ComplexPair(multiply(self.real, other), multiply(self.imag, other))
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return ComplexPair(multiply(a, c) - multiply(b, d), multiply(a, d) + multiply(b, c))

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = _FUNCTIONS.get(function)
        return NotImplemented if rule is None else rule(*args, **(kwargs or {}))


def paired(value: Any, like: Tensor) -> ComplexPair:
    """A number, a real tensor or a pair, as a pair."""
    if isinstance(value, ComplexPair):
        return value
    if isinstance(value, complex):
        return ComplexPair(torch.full_like(like, value.real), torch.full_like(like, value.imag))
    if isinstance(value, Tensor):
        return ComplexPair(value, torch.zeros_like(value))
    return ComplexPair(torch.full_like(like, value), torch.zeros_like(like))


def _einsum(equation: str, *operands: Any) -> Any:
    a, b = operands[0] if len(operands) == 1 else operands
    if not isinstance(a, ComplexPair):
        a, b = ComplexPair(a, torch.zeros_like(a)), b
    return a._product(b, lambda x, y: torch.einsum(equation, x, y))


def _both(name: str) -> Callable[..., Any]:
    return lambda pair, *args, **kwargs: getattr(pair, name)(*args, **kwargs)


def _joined(join: Callable[..., Tensor]) -> Callable[..., ComplexPair]:
    def rule(parts: Sequence[Any], *args: Any, **kwargs: Any) -> ComplexPair:
        pairs = [p if isinstance(p, ComplexPair) else paired(p, p) for p in parts]
        return ComplexPair(
            join([p.real for p in pairs], *args, **kwargs), join([p.imag for p in pairs], *args, **kwargs)
        )

    return rule


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.real: lambda pair: pair.real,
    torch.imag: lambda pair: pair.imag,
    torch.abs: ComplexPair.abs,
    torch.conj: ComplexPair.conj,
    torch.view_as_real: lambda pair: torch.stack([pair.real, pair.imag], -1),
    torch.is_complex: lambda pair: True,
    torch.einsum: _einsum,
    torch.cat: _joined(torch.cat),
    torch.stack: _joined(torch.stack),
    torch.mul: lambda a, b: a * b,
    torch.add: lambda a, b: a + b,
    torch.sub: lambda a, b: a - b,
    torch.matmul: lambda a, b: a @ b,
    Tensor.__mul__: lambda a, b: b * a,
    Tensor.mul: lambda a, b: b * a,
    Tensor.__add__: lambda a, b: b + a,
    Tensor.__sub__: lambda a, b: paired(a, a) - b,
    **{getattr(torch, name): _both(name) for name in sorted(_BOTH) if hasattr(torch, name)},
}


class Transforms:
    """The functions of `torch.fft`, with the matrices of one trace, each made once."""

    def __init__(self) -> None:
        self._matrices: dict[Any, tuple[Tensor, Tensor]] = {}
        fft = torch.fft
        self.table: dict[Any, Callable[..., Any]] = {
            fft.fft: lambda x, n=None, dim=-1, norm=None: self._over(x, [n], [dim], norm, 1),
            fft.ifft: lambda x, n=None, dim=-1, norm=None: self._over(x, [n], [dim], norm, -1),
            fft.fft2: lambda x, s=None, dim=(-2, -1), norm=None: self._over(x, s, dim, norm, 1),
            fft.ifft2: lambda x, s=None, dim=(-2, -1), norm=None: self._over(x, s, dim, norm, -1),
            fft.fftn: lambda x, s=None, dim=None, norm=None: self._over(x, s, dim, norm, 1),
            fft.ifftn: lambda x, s=None, dim=None, norm=None: self._over(x, s, dim, norm, -1),
            fft.rfft: lambda x, n=None, dim=-1, norm=None: self._half(x, [n], [dim], norm),
            fft.rfft2: lambda x, s=None, dim=(-2, -1), norm=None: self._half(x, s, dim, norm),
            fft.rfftn: lambda x, s=None, dim=None, norm=None: self._half(x, s, dim, norm),
            fft.irfft: lambda x, n=None, dim=-1, norm=None: self._back(x, [n], [dim], norm),
            fft.irfft2: lambda x, s=None, dim=(-2, -1), norm=None: self._back(x, s, dim, norm),
            fft.irfftn: lambda x, s=None, dim=None, norm=None: self._back(x, s, dim, norm),
            torch.complex: ComplexPair,
            torch.polar: lambda size, angle: ComplexPair(size * angle.cos(), size * angle.sin()),
            torch.view_as_complex: lambda x: ComplexPair(x[..., 0], x[..., 1]),
        }

    def _over(self, x: Any, sizes: Any, dims: Any, norm: str | None, sign: int) -> Any:
        """A whole transform along each of `dims`; `sign` is 1 forward, -1 back."""
        for dim, size in _pairs(x, sizes, dims):
            x = self._along(x, dim, size, norm, sign)
            if x is NotImplemented:
                return x
        return x

    def _half(self, x: Any, sizes: Any, dims: Any, norm: str | None) -> Any:
        """Of real values: the last transform first, of which the second half says nothing new."""
        *others, (dim, size) = _pairs(x, sizes, dims)
        length = x.shape[dim] if size is None else size
        found = self._along(x, dim, size, norm, 1, kept=length // 2 + 1 if type(length) is int else None)
        if found is NotImplemented:
            return found
        return self._over(found, [s for _, s in others], [d for d, _ in others], norm, 1) if others else found

    def _back(self, x: Any, sizes: Any, dims: Any, norm: str | None) -> Any:
        """Real values of half a transform."""
        *others, (dim, size) = _pairs(x, sizes, dims)
        if others:
            x = self._over(x, [s for _, s in others], [d for d, _ in others], norm, -1)
        if x is NotImplemented or type(x.shape[dim]) is not int:
            return NotImplemented
        length = 2 * (x.shape[dim] - 1) if size is None else size
        half = length // 2 + 1
        pair = _fitted(paired(x, x) if isinstance(x, Tensor) else x, dim, half)
        if not 0 < length <= LARGEST_LENGTH:
            return NotImplemented
        cosines, sines = self._matrix(length, half, pair.real, norm, inverse=True, folded=True)
        return _product(pair.real, cosines, dim) - _product(pair.imag, sines, dim)

    def _along(self, x: Any, dim: int, size: int | None, norm: str | None, sign: int, kept: int | None = None) -> Any:
        length = x.shape[dim] if size is None else size
        if type(length) is not int or not 0 < length <= LARGEST_LENGTH:
            return NotImplemented
        x = _fitted(x, dim, length)
        real = x if isinstance(x, Tensor) else x.real
        cosines, sines = self._matrix(length, kept or length, real, norm, inverse=sign < 0)
        if isinstance(x, Tensor):
            return ComplexPair(_product(x, cosines, dim), _product(x, sines, dim) * -sign)
        a, b = (_product(x.real, m, dim) for m in (cosines, sines))
        c, d = (_product(x.imag, m, dim) for m in (cosines, sines))
        return ComplexPair(a + d, c - b) if sign > 0 else ComplexPair(a - d, c + b)

    def _matrix(
        self, length: int, half: int, like: Tensor, norm: str | None, *, inverse: bool, folded: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines of 2 pi j k / length, [length, half], or [half, length] if `folded`, where the values that
        stand for two count twice."""
        key = length, half, like.dtype, norm, inverse, folded
        if key not in self._matrices:
            places = np.outer(np.arange(length), np.arange(half)) % length
            scale = 1.0 / length if (norm == "forward") != inverse else 1.0
            angles, factors = places * (2 * math.pi / length), np.full(half, length**-0.5 if norm == "ortho" else scale)
            if folded:
                factors *= np.where((np.arange(half) == 0) | (2 * np.arange(half) == length), 1.0, 2.0)
            found = [f(angles) * factors for f in (np.cos, np.sin)]
            self._matrices[key] = cast(
                tuple[Tensor, Tensor],
                tuple(
                    torch.tensor((m.T if folded else m).tolist(), dtype=like.dtype, device=like.device) for m in found
                ),
            )
        return self._matrices[key]


def _pairs(x: Any, sizes: Any, dims: Any) -> list[tuple[int, int | None]]:
    """Axes, from the front, and the lengths they are cut or filled to."""
    if dims is None:
        dims = range(-len(sizes), 0) if sizes is not None else range(-x.dim(), 0)
    lengths = [None] * len(dims) if sizes is None else sizes
    return [(d % x.dim(), None if n == -1 else n) for d, n in zip(dims, lengths, strict=True)]


def _fitted(x: Any, dim: int, length: int) -> Any:
    """x cut, or filled with zeros, to `length` along `dim`."""
    if isinstance(x, ComplexPair):
        return ComplexPair(_fitted(x.real, dim, length), _fitted(x.imag, dim, length))
    if x.shape[dim] == length:
        return x
    if x.shape[dim] > length:
        return x.narrow(dim, 0, length)
    return torch.nn.functional.pad(x, [0, 0] * (x.dim() - 1 - dim) + [0, length - x.shape[dim]])


def _product(x: Tensor, matrix: Tensor, dim: int) -> Tensor:
    last = x.dim() - 1
    if dim == last:
        return torch.matmul(x, matrix)
    return torch.matmul(x.transpose(dim, last), matrix).transpose(dim, last)
