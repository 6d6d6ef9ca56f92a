"""Ways to compute exact integer products: float64, int64, or int8 digits, and which is fastest on this machine.

All give the same integers (scoring-spec.md, "3. Products"), so a score does not depend on the choice.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring.errors import SelfTestFailed
from pot_lab.scoring.grids import CHUNK, SUM_BITS, product_bits

LARGE_WINDOWS = 1 << 18
"""Elements in all windows of a sample above which a convolution is taken sample by sample (speed only, no bit)."""


class Backend:
    """A way to compute exact integer products; all ways give the same integers.

    A backend with `whole` multiplies whole numbers, any other multiples of powers of two, which is the same in float64.
    `left` and `right` bring operands into the form that `matmul` takes, and leave what is in it already; forms keep the
    last two axes. Operands of more than `most_bits` are multiplied in float64. Convolutions are products with windows,
    unless a backend has a faster way.
    """

    name = "float64"
    whole = False
    most_bits = SUM_BITS

    def left(self, q: Tensor) -> Tensor:
        """The form of a left operand [..., M, K]."""
        return q

    def right(self, q: Tensor) -> Tensor:
        """The form of a right operand [..., K, N]."""
        return q

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """float64 [..., M, N] from [..., M, K] and [..., K, N], K at most a chunk."""
        return torch.matmul(a, b)

    def conv2d(self, x: Tensor, w: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> Tensor:
        """float64 [N, O, H', W'] from x [N, C, H, W] and w [O, C/groups, kh, kw], whole numbers, not padded."""
        out = output_size(x, w, stride, dilation)
        windows = F.unfold(x, tuple(w.shape[2:]), tuple(dilation), 0, tuple(stride))
        if groups == 1:  # one matrix for all samples, which is what libraries are fastest at
            columns = windows.transpose(0, 1).reshape(windows.shape[1], -1)
            flat = self.matmul(self.left(w.reshape(w.shape[0], -1)), self.right(columns))
            return flat.reshape(w.shape[0], x.shape[0], *out).transpose(0, 1)
        windows = windows.reshape(x.shape[0], groups, -1, out[0] * out[1])
        product = self.matmul(self.left(w.reshape(1, groups, w.shape[0] // groups, -1)), self.right(windows))
        return product.reshape(x.shape[0], w.shape[0], *out)

    def conv_transpose2d(
        self,
        x: Tensor,
        w: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        output_padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        """float64 [N, O, H', W'] from x [N, C, H, W] and w [O, C/groups, kh, kw], flipped already: a convolution
        of x with stride - 1 zeros between its places."""
        apart = x.new_zeros((*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True))))
        apart[:, :, :: stride[0], :: stride[1]] = x
        before = [d * (k - 1) - p for d, k, p in zip(dilation, w.shape[2:], padding, strict=True)]
        after = [n + more for n, more in zip(before, output_padding, strict=True)]
        around = F.pad(apart, [before[1], after[1], before[0], after[0]])
        return self.conv2d(around, w, [1, 1], dilation, groups)


def output_size(x: Tensor, w: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """[H', W'] of a convolution without padding."""
    return [(x.shape[2 + i] - dilation[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]


class Float64Backend(Backend):
    """float64 BLAS and convolutions over whole numbers."""

    def conv2d(self, x: Tensor, w: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> Tensor:
        """torch's own convolution, or for large windows one matrix product for each sample."""
        out = output_size(x, w, stride, dilation)
        if groups == 1 and x.device.type == "cpu" and w[0].numel() * out[0] * out[1] >= LARGE_WINDOWS:
            return self._by_sample(x, w, stride, dilation, out)
        # On the CPU float64 never goes to oneDNN; cuDNN might choose an inexact algorithm.
        with torch.backends.cudnn.flags(enabled=False) if x.is_cuda else contextlib.nullcontext():
            return F.conv2d(x, w, None, list(stride), [0, 0], list(dilation), groups)

    def conv_transpose2d(
        self,
        x: Tensor,
        w: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        output_padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        """torch's own, which multiplies no zeros; it adds the same whole numbers in another order."""
        turned = torch.unflatten(w, 0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(-1, -2)
        with torch.backends.cudnn.flags(enabled=False) if x.is_cuda else contextlib.nullcontext():
            return F.conv_transpose2d(
                x, turned, None, list(stride), list(padding), list(output_padding), groups, list(dilation)
            )

    @staticmethod
    def _by_sample(x: Tensor, w: Tensor, stride: Sequence[int], dilation: Sequence[int], out: Sequence[int]) -> Tensor:
        """One product for each sample over a copy of its windows: about twice as fast as torch's for large images."""
        x, (kh, kw) = x.contiguous(), w.shape[2:]
        along_n, along_c, along_h, along_w = x.stride()
        steps = (along_c, along_h * dilation[0], along_w * dilation[1], along_h * stride[0], along_w * stride[1])
        rows = w.reshape(w.shape[0], -1)
        result = torch.empty((x.shape[0], w.shape[0], out[0] * out[1]), dtype=x.dtype)
        windows = torch.empty((x.shape[1], kh, kw, out[0], out[1]), dtype=x.dtype)
        for sample in range(x.shape[0]):
            windows.copy_(x.as_strided(windows.shape, steps, x.storage_offset() + sample * along_n))
            torch.mm(rows, windows.reshape(rows.shape[1], -1), out=result[sample])
        return result.reshape(x.shape[0], w.shape[0], *out)


class Int64Backend(Backend):
    """int64 arithmetic: slow, obviously exact, used as the oracle."""

    name = "int64"
    whole = True

    def left(self, q: Tensor) -> Tensor:
        """int64 of whole numbers."""
        return bounded(q)

    right = left

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """float64 [..., M, N] from int64 [..., M, K] and [..., K, N]."""
        return torch.matmul(a, b).to(torch.float64)


class Int8Backend(Backend):
    """Three balanced base-256 digits a number, and int8 products of digits with int32 sums, as tensor cores have.

    Numbers of 22 bits have digits in [-128, 127], the highest in [-64, 64]. The nine products of digits are five: those
    of the same weight are one product over digits side by side, and a sum of 3 * 1024 products of digits stays within
    2**26. Products of many matrices at once, which int8 libraries do not offer, are taken in float64.
    """

    name = "int8"
    whole = True
    most_bits = 22

    def left(self, q: Tensor) -> Tensor:
        """int8 [3, ...]: the digits, highest first."""
        return torch.stack(self._digits(q)[::-1]) if q.dtype != torch.int8 else q

    def right(self, q: Tensor) -> Tensor:
        """int8 [3, ...]: the digits, lowest first."""
        return torch.stack(self._digits(q)) if q.dtype != torch.int8 else q

    @staticmethod
    def _digits(q: Tensor) -> list[Tensor]:
        rest = bounded(q).to(torch.int32)
        digits = []
        for _ in range(2):
            digit = ((rest + 128) & 255) - 128
            digits.append(digit.to(torch.int8))
            rest = (rest - digit) >> 8
        return [*digits, rest.to(torch.int8)]

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """float64 [..., M, N] from the digits of both operands, int8 [3, ..., M, K] and [3, ..., K, N]."""
        if not a.dim() == b.dim() == 3:
            return torch.matmul(self._numbers(a), self._numbers(b.flip(0)))
        length = a.shape[-1]
        wide, tall = torch.cat(a.unbind(), -1), torch.cat(b.unbind(), 0)
        total = torch.zeros((), dtype=torch.float64, device=a.device)
        for digits in (1, 2, 3):  # of the left from the highest down, of the right from the highest up
            total = total * 256.0 + self._matrices(wide[:, : digits * length], tall[(3 - digits) * length :])
        for digits in (2, 1):
            total.mul_(256.0).add_(self._matrices(wide[:, (3 - digits) * length :], tall[: digits * length]))
        return total

    @staticmethod
    def _matrices(a: Tensor, b: Tensor) -> Tensor:
        """int32 [M, N]; CUDA needs more than 16 rows, and multiples of 8."""
        rows, columns = a.shape[0], b.shape[1]
        if a.is_cuda:
            a = F.pad(a, (0, -a.shape[1] % 8, 0, max(-rows % 8, 24 - rows)))
            b = F.pad(b, (0, -columns % 8, 0, -b.shape[0] % 8))
        product: Tensor = torch._int_mm(a.contiguous(), b)
        return product[:rows, :columns]

    @staticmethod
    def _numbers(digits: Tensor) -> Tensor:
        """float64 of digits, highest first."""
        high, middle, low = digits.to(torch.float64).unbind()
        return high.mul_(256.0).add_(middle).mul_(256.0).add_(low)


def bounded(q: Tensor) -> Tensor:
    """int64 of whole numbers; those of bad rows are NaN, and become 0."""
    return q if not q.dtype.is_floating_point else q.nan_to_num(0.0, 0.0, 0.0).to(torch.int64)


BACKENDS: dict[str, Backend] = {b.name: b for b in (Float64Backend(), Int64Backend(), Int8Backend())}
_CANDIDATES = ("float64", "int8")
_TRIALS = ((32, 256, 128), (128, 512, 512), (512, 1024, 1024))
"""Shapes M, K, N of trial products."""
_LONGEST_TRIAL_S = 0.25


def forbid_emulation() -> None:
    """Tell cuBLAS, before its first use, not to emulate float64 products by narrower ones. Where it was told
    too late the self-test decides."""
    os.environ["CUBLAS_EMULATE_DOUBLE_PRECISION"] = "0"


@functools.cache
def fastest(device: str) -> Backend:
    """The fastest way on this machine to compute exact products, by trial; one that is not exact is not taken.

    The usual way, the first that is exact, is left only for one that wins the largest trial. A way that is five times
    slower in a smaller one, or would take long in the next, does not get there; so a busy machine costs little more
    than an idle one, and does not mislead.

    Raises: SelfTestFailed where none is exact.
    """
    if device == "meta":
        return BACKENDS["float64"]
    small = [_extreme_numbers(m, n, device) for m, n in _operands(_TRIALS[0])]
    exact = [name for name in _CANDIDATES if _is_exact(BACKENDS[name], *small)]
    if not exact:
        raise SelfTestFailed("no way to multiply is exact on this machine", seen=device, wanted=_CANDIDATES)
    left, times, before = exact, dict.fromkeys(exact, 0.0), 1
    for trial in _TRIALS:
        work = math.prod(trial)
        left = [name for name in left if times[name] * work / before <= _LONGEST_TRIAL_S]
        if len(left) < 2:
            return BACKENDS[exact[0]]
        a, b = (_extreme_numbers(m, n, device) for m, n in _operands(trial))
        times = {name: _seconds(BACKENDS[name], a, b) for name in left}
        left = [name for name in left if times[name] <= 5 * min(times.values())]
        before = work
    return BACKENDS[min(left, key=times.__getitem__)]


def _operands(trial: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    rows, length, columns = trial
    return (rows, length), (length, columns)


def _is_exact(backend: Backend, a: Tensor, b: Tensor) -> bool:
    found = backend.matmul(backend.left(a), backend.right(b)).cpu().to(torch.int64)
    return torch.equal(found, torch.matmul(a.cpu().to(torch.int64), b.cpu().to(torch.int64)))


def _extreme_numbers(rows: int, columns: int, device: str) -> Tensor:
    """Whole numbers near the bounds of numbers and digits."""
    place = torch.arange(rows * columns, dtype=torch.int64, device=device)
    bound = 1 << product_bits(CHUNK)
    extremes = [-bound, bound, -128 - 128 * 256, 127 + 127 * 256, 127 - bound, bound - 128 - 128 * 256]
    values = torch.tensor(extremes, dtype=torch.float64, device=device)
    return values[(place * place + (place >> 7)) % len(extremes)].reshape(rows, columns)


def _seconds(backend: Backend, a: Tensor, b: Tensor) -> float:
    """Least time of a few products."""
    right = backend.right(b)
    took = []
    for _ in range(3):
        began = time.perf_counter()
        backend.matmul(backend.left(a), right)[0, 0].item()  # waits for the device
        took.append(time.perf_counter() - began)
    return min(took)
