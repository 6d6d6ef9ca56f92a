"""Whether somebody's own code changes the gradients of a module: hooks, and functions with a backward of their own.

A graph's gradients are those of its operators. Such code may do nothing on one example and much on another, as
clipping does, so it is tried with small, large and missing gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pot_lab.scoring.errors import ExportFailed

_SCALES = (1e6, 1e-6)
_BOUND = 1e-2
_WANTED = (
    "gradients that operators alone give; clip or mask gradients in the training instead, or write with operators what "
    "the backward should be, such as x + (x.sign() - x).detach() for a straight-through sign"
)


def refuse_hooks(module: nn.Module) -> None:
    """Refuse hooks on parameters that change gradients.

    Raises: ExportFailed, naming the parameter.
    """
    for name, p in module.named_parameters():
        if getattr(p, "_post_accumulate_grad_hooks", None):
            raise ExportFailed(
                "a hook on a parameter acts on its gradient after it was added up, and a graph has no hooks: leave it "
                "to the training",
                seen=f"{name!r}, register_post_accumulate_grad_hook",
                wanted="parameters without such hooks",
            )
        for hook in (getattr(p, "_backward_hooks", None) or {}).values():
            if change := _changes(hook, p):
                raise ExportFailed(
                    f"a hook on the parameter {name!r} changes its gradient, so the model would be trained otherwise: "
                    "hooks are not exported",
                    seen=f"{getattr(hook, '__qualname__', type(hook).__name__)}, for {change}",
                    wanted=_WANTED,
                )


def _changes(hook: Callable[[Tensor], Tensor | None], p: Tensor) -> str:
    """For which gradients a hook gives others; "" if for none."""
    generator = torch.Generator().manual_seed(0)
    usual = torch.randn(p.shape, generator=generator).to(p.device, p.dtype)
    tried = {"usual gradients": usual, "large gradients": usual * 1e4, "small gradients": usual * 1e-6}
    for what, gradient in {**tried, "gradients that are not finite": torch.full_like(usual, torch.nan)}.items():
        own = gradient.clone()
        with torch.no_grad():
            found = hook(own)
        if not _same(gradient, own if found is None else found):
            return what
    return ""


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


@contextlib.contextmanager
def hooks_of_forward() -> Iterator[list[str]]:
    """While inside, notes the hooks that a forward puts on its own tensors."""
    found: list[str] = []
    before = Tensor.register_hook

    def register(self: Tensor, hook: Any) -> Any:
        found.append(getattr(hook, "__qualname__", type(hook).__name__))
        return before(self, hook)  # type: ignore[no-untyped-call]

    Tensor.register_hook = register  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Tensor.register_hook = before  # type: ignore[method-assign]


def own_steps(roots: Sequence[Tensor]) -> list[str]:
    """Names of the `torch.autograd.Function`s that results were made with."""
    waiting: list[Any] = [t.grad_fn for t in roots]
    seen: set[Any] = set()
    names: dict[str, None] = {}
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if isinstance(step, torch.autograd.function.BackwardCFunction):
            names[type(step).__name__.removesuffix("Backward")] = None
        waiting += [nearer for nearer, _ in step.next_functions]
    return list(names)


def has_hooks(module: nn.Module) -> bool:
    """Whether a part has hooks on gradients."""
    return any(part._backward_hooks or part._backward_pre_hooks for part in module.modules())


def check_proportion(
    gradients: Mapping[str, Tensor | None], again: Callable[[float], Mapping[str, Tensor | None]], whose: Sequence[str]
) -> None:
    """Refuse a backward whose gradients are not in proportion to those it is given, as those of operators are.

    Args:
        gradients: by parameter.
        again: the same for outputs whose gradients are so many times larger.
        whose: functions and hooks, for the message.
    Raises: ExportFailed, naming the parameter.
    """
    for scale in _SCALES:
        for name, found in again(scale).items():
            first = gradients.get(name)
            if first is None or found is None or not bool(torch.isfinite(first).all()):
                continue
            apart = float((found / scale - first).abs().max())
            if not apart <= _BOUND * float(first.abs().max()):
                raise ExportFailed(
                    f"the gradient of {name!r} is not in proportion to the loss, as it is where gradients are clipped "
                    "or rounded: a backward of one's own (torch.autograd.Function) and hooks are not exported",
                    seen=", ".join(whose[:5]),
                    wanted=_WANTED,
                )
