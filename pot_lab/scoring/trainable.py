"""The trainable face of a model graph: an ordinary `torch.nn.Module` that runs ATen operators on any device.

It behaves as the module it was exported from: the same `state_dict` keys, the same numbers in eval mode, dropout and
batch-norm updates in train mode, under autocast, DDP or an optimizer as usual. Python is interpreted node by node;
nothing is generated or evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pot_lab.scoring.errors import ShapeMismatch
from pot_lab.scoring.graph.model_graph import ModelGraph, Node, Ref, StateTensor, resolve
from pot_lab.scoring.graph.tracing import operator_keyword
from pot_lab.scoring.graph.weights import load_weights
from pot_lab.scoring.operators import WHOLE_NUMBERS, Operator
from pot_lab.scoring.tensor_file import DTYPES, write_tensors

Step = Callable[[list[Any]], Any]


class _Scope(nn.Module):
    """A level of dotted names."""

    def _get_name(self) -> str:
        return "Weights"

    def extra_repr(self) -> str:
        """The tensors that stand here, by their shapes."""
        own = [*self.named_parameters(recurse=False), *self.named_buffers(recurse=False)]
        return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in own)


class TrainableModel(nn.Module):
    """A graph with weights, to be trained; made by `trainable`.

    Attributes:
        graph: the checked graph.
    """

    def __init__(self, graph: ModelGraph, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph = graph
        self._owners: list[tuple[dict[str, Any], str]] = []
        for state in graph.state:
            tensor = tensors.get(state.name)
            if tensor is None:
                tensor = torch.zeros(state.shape, dtype=DTYPES[state.dtype])
            self._owners.append(self._register(state.name, state, tensor))
        self._share_aliases()
        floating = [
            (o, DTYPES[s.dtype])
            for s, o in zip(graph.state, self._owners, strict=True)
            if s.kind in ("parameter", "frozen") and DTYPES[s.dtype].is_floating_point
        ]
        self._floating = floating[:1]
        """Where the first parameter lies, and its type at export; empty without one."""
        self._counters = [(o, s.step) for s, o in zip(graph.state, self._owners, strict=True) if s.kind == "counter"]
        self._steps = [self._step(node) for node in graph.nodes]

    def extra_repr(self) -> str:
        """How large it is; what it computes stands in the graph, not in the names below."""
        weights = sum(tensor.numel() for tensor in self.parameters())
        return f"an exported graph of {len(self.graph.nodes)} operations, {weights:,} weights"

    def _share_aliases(self) -> None:
        owners = {s.name: o for s, o in zip(self.graph.state, self._owners, strict=True)}
        for alias, target in self.graph.aliases.items():
            table, key = owners[target]
            scope, leaf = self._scope(alias)
            if isinstance(table[key], nn.Parameter):
                scope.register_parameter(leaf, table[key])
            else:
                scope.register_buffer(leaf, table[key])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TrainableModel:
        """As in torch, which moves every name of a shared tensor by itself: here they stay one."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._share_aliases()
        return self

    def _scope(self, name: str) -> tuple[nn.Module, str]:
        *path, leaf = name.split(".")
        scope: nn.Module = self
        for part in path:
            if part not in scope._modules:
                scope.add_module(part, _Scope())
            scope = scope.get_submodule(part)
        return scope, leaf

    def _register(self, name: str, state: StateTensor, tensor: Tensor) -> tuple[dict[str, Any], str]:
        """Put a tensor under its dotted name; returns the table it lies in, so that later replacements are seen."""
        scope, leaf = self._scope(name)
        if state.kind in ("parameter", "frozen"):
            scope.register_parameter(leaf, nn.Parameter(tensor, requires_grad=state.kind == "parameter"))
            return scope._parameters, leaf
        scope.register_buffer(leaf, tensor, persistent=state.kind != "constant")
        return scope._buffers, leaf

    def _step(self, node: Node) -> Step:
        if node.op == "get":
            return lambda values: values[node.args[0].index][node.args[1]]
        if node.operator is None:
            whole = WHOLE_NUMBERS[node.op]
            return lambda values: whole(*(resolve(a, values) for a in node.args))
        operator, native = node.operator, _NATIVE.get(node.op, node.operator.native)
        args, kwargs = list(node.args), {operator_keyword(operator, name): value for name, value in node.kwargs.items()}
        if node.op in ("aten.batch_norm.default", "aten.instance_norm.default"):
            args[-1] = torch.backends.cudnn.enabled
        types = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
        if operator.device or any(t.is_floating_point for t in types):
            return functools.partial(self._make, operator, args, kwargs)
        bound = dict(zip((p.name for p in operator.parameters), args, strict=False))
        if operator.mode is None or not operator.has_mode(bound):
            return _bound(native, args, kwargs)
        frozen_args = [operator.off if i == operator.mode_index else a for i, a in enumerate(args)]
        mode = operator_keyword(operator, operator.mode)
        frozen_kwargs = {name: operator.off if name == mode else a for name, a in kwargs.items()}
        training, frozen = _bound(native, args, kwargs), _bound(native, frozen_args, frozen_kwargs)
        return lambda values: training(values) if self.training else frozen(values)

    def _make(self, operator: Operator, args: Sequence[Any], kwargs: dict[str, Any], values: list[Any]) -> Any:
        """A call that names a floating-point type, or makes a tensor: on the device where the model is, and in the
        model's type if it was converted to another than it was exported in, such as float64."""
        now = {name: self._now(value) for name, value in kwargs.items()}
        if operator.device:
            now["device"] = values[0].device
        return _call(operator.native, [self._now(a) for a in args], now, values)

    def _now(self, value: Any) -> Any:
        if not self._floating or not isinstance(value, torch.dtype) or value != self._floating[0][1]:
            return value
        table, key = self._floating[0][0]
        return table[key].dtype if table[key].dtype == torch.float64 else value

    def forward(self, *inputs: Tensor) -> Any:
        """Args: one tensor [batch, *shape] for each input of the graph. Returns the output, or a tuple where there
        are several."""
        if len(inputs) != len(self.graph.inputs):
            raise ShapeMismatch(
                "the model takes another number of inputs", seen=len(inputs), wanted=len(self.graph.inputs)
            )
        values: list[Any] = [table[key] for table, key in self._owners]
        values += inputs
        if self.training:
            with torch.no_grad():
                for (table, key), step in self._counters:
                    table[key].add_(step)
        for step_, unneeded in zip(self._steps, self.graph.last_uses, strict=True):
            values.append(step_(values))
            for index in unneeded:
                values[index] = None
        results = tuple(values[r.index] for r in self.graph.results)
        return results[0] if len(results) == 1 else results

    def canonical_tensors(self) -> dict[str, Tensor]:
        """The state under the graph's names, each tensor once: what a weights file holds. Not copied."""
        return {s.name: table[key].detach() for s, (table, key) in zip(self.graph.state, self._owners, strict=True)}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over numbers under the graph's names, in place."""
        with torch.no_grad():
            for state, (table, key) in zip(self.graph.state, self._owners, strict=True):
                table[key].copy_(tensors[state.name])

    def to_weights(self) -> bytes:
        """The weights file (safetensors) that goes with the graph."""
        return write_tensors(self.canonical_tensors())

    def load_weights(self, weights: bytes) -> None:
        """Take over the numbers of a weights file, in place. Raises as the constructor does."""
        self.load_tensors(load_weights(self.graph, weights))


def trainable(graph: ModelGraph, weights: bytes | None = None) -> TrainableModel:
    """A graph with weights as an ordinary `torch.nn.Module`, in train mode.

        model = trainable(load_graph(artifact.graph), artifact.weights)
        loss = F.cross_entropy(model(inputs), targets)

    Args:
        graph: from `load_graph`.
        weights: safetensors bytes that fit the graph; None leaves zeros (ones for batch-norm variances would be a
            guess).
    Raises: BadWeights, DtypeMismatch, ShapeMismatch, Oversize.
    """
    return TrainableModel(graph, load_weights(graph, weights) if weights is not None else {})


def _copied(x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """`aten.copy`, which has no gradient in torch."""
    return src.to(x.dtype).expand(x.shape)


def in_safe_layout(x: Tensor) -> Tensor:
    """What `group_norm` may be given: its backward ends the process (torch 2.13, CPU) where data of the layout
    channels-last, which need no gradient, meet a weight that does."""
    if x.requires_grad or x.dim() < 3 or x.stride(1) != 1:
        return x
    return x.clone(memory_format=torch.contiguous_format)


def _group_norm(x: Tensor, *rest: Any, **named: Any) -> Tensor:
    return torch.group_norm(in_safe_layout(x), *rest, **named)


_NATIVE: dict[str, Callable[..., Any]] = {
    "aten.copy.default": _copied,
    "aten.group_norm.default": _group_norm,
}
"""What runs in place of ATen's own operator."""


def _bound(native: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Step:
    """A call whose references are looked up once: what is left for each run is to pick values by their places."""
    named = [a for a in kwargs.values() if isinstance(a, Ref | list)]
    if named or any(isinstance(r, Ref | list) for a in args if isinstance(a, list) for r in a):
        return functools.partial(_call, native, args, kwargs)
    places = [(place, a.index) for place, a in enumerate(args) if isinstance(a, Ref)]
    constants = [None if isinstance(a, Ref) else a for a in args]
    if len(places) == len(args) and not kwargs:
        if len(args) == 1:
            only = args[0].index
            return lambda values: native(values[only])
        if len(args) == 2:
            first, second = args[0].index, args[1].index
            return lambda values: native(values[first], values[second])

    def run(values: list[Any]) -> Any:
        own = constants.copy()
        for place, index in places:
            own[place] = values[index]
        return native(*own, **kwargs)

    return run


def _call(native: Any, args: Sequence[Any], kwargs: dict[str, Any], values: list[Any]) -> Any:
    return native(
        *[resolve(a, values) for a in args], **{name: resolve(value, values) for name, value in kwargs.items()}
    )
