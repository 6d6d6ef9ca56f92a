"""From a researcher's `nn.Module` to a model graph and a weights file.

`torch.export` in train mode gives the operators with their whole meaning (dropout, batch norm); they are written down
one to one. Changes in place are turned into new values, so the graph has no aliasing; where that cannot be done
safely, export refuses. An operator without an exact rule is named together with the line of the user's code that
asked for it.
"""

from __future__ import annotations

import math
import operator as python_operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pot_lab.scoring.errors import (
    BatchMixing,
    DtypeMismatch,
    ExportFailed,
    HostileGraph,
    ShapeMismatch,
    UnsupportedOperator,
)
from pot_lab.scoring.export.decomposition import decomposed
from pot_lab.scoring.export.fixed_parts import fixed_parts
from pot_lab.scoring.export.program import ProgramTables, example_tensors, exported_program, full_name, user_line
from pot_lab.scoring.export.spelling import ADVICE, DROPPED, RESPELLINGS, SAME_BUT_FOR_NAME, USUAL_ADVICE
from pot_lab.scoring.graph.arguments import LARGEST_EXPONENT
from pot_lab.scoring.graph.batch_axis import UNBOUNDED
from pot_lab.scoring.graph.model_graph import FORMAT, LARGEST_INT, VERSION, encode_graph
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.graph.weights import tensor_sha256
from pot_lab.scoring.limits import DEFAULT_LIMITS, Limits
from pot_lab.scoring.operators import REGISTRY, Operator
from pot_lab.scoring.tensor_file import DTYPES, dtype_name, write_tensors

_WHOLE_NUMBERS = {
    python_operator.add: "int.add",
    python_operator.sub: "int.sub",
    python_operator.mul: "int.mul",
    python_operator.floordiv: "int.floordiv",
}
_MAY_ALIAS = frozenset(
    [
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "expand",
        "expand_as",
        "unbind",
        "select",
        "slice",
        "chunk",
        "split",
        "split_with_sizes",
        "contiguous",
        "detach",
        "alias",
        "to",
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "pad",
    ]
)


_SCATTERS = {"aten.slice.Tensor": "aten.slice_scatter.default", "aten.select.int": "aten.select_scatter.default"}
"""What puts a part back into the whole it was cut from."""


@dataclass(frozen=True)
class ModelArtifact:
    """A model as two files: `graph`, canonical JSON, and `weights`, safetensors."""

    graph: bytes
    weights: bytes


def export_model(
    module: nn.Module, example_inputs: Tensor | Sequence[Tensor], limits: Limits = DEFAULT_LIMITS
) -> ModelArtifact:
    """Turn a module into a graph and its present weights. The module is left as it was.

        >>> import torch
        >>> from pot_lab import export_model
        >>> from pot_lab.scoring import load_graph
        >>> artifact = export_model(torch.nn.Linear(4, 3), torch.randn(2, 4))
        >>> load_graph(artifact.graph).outputs[0].shape
        (3,)

    Args:
        module: any `nn.Module` whose forward takes tensors [batch, ...], returns a tensor or a tuple of tensors
            [batch, ...], and uses operators of the whitelist. It may be on any device and in any mode.
        example_inputs: one tensor [batch, ...] for each input, with 1 example or more; the sizes behind the batch
            become fixed. Types: float64, float32, float16, bfloat16, int64, int32, uint8 or bool.
        limits: bounds of the graph.
    Returns: the graph file and the weights file.
    Raises:
        UnsupportedOperator: an operator without an exact rule, with the user's line and what to write instead.
        ExportFailed: `torch.export` fails, or the forward does something that a graph cannot express.
        BatchMixing: an example's result would depend on other examples.
        HostileGraph, CostLimit: the graph is too large.
        ShapeMismatch, DtypeMismatch: `example_inputs` are no tensors with a batch, or of another type.
    """
    examples = example_tensors(example_inputs)
    program = exported_program(module, examples)
    writer = _Writer(program, module, examples)
    graph = encode_graph(writer.document())
    try:
        load_graph(graph, limits)
    except (BatchMixing, HostileGraph, ShapeMismatch, UnsupportedOperator) as problem:
        place = writer.place(str(problem))
        if place:
            problem.message += f", at {place}"
        raise
    return ModelArtifact(graph, write_tensors(writer.tensors))


@dataclass
class _Values:
    """Which value of the graph each fx node stands for.

    One fx node is one tensor object in Python; an in-place operator returns its first argument's object.

    Attributes:
        identity: the node that names a node's tensor object.
        index: the newest value of a tensor object, by its identity.
        family: the node whose storage a node may share.
        parts: the results of a call with several that was written as its decomposition.
        view: of a part: the tensor it was cut from, the operator that puts it back, and that operator's arguments.
    """

    identity: dict[Any, Any] = field(default_factory=dict)
    index: dict[Any, int] = field(default_factory=dict)
    family: dict[Any, Any] = field(default_factory=dict)
    parts: dict[Any, list[Any]] = field(default_factory=dict)
    view: dict[Any, tuple[Any, str, list[Any]]] = field(default_factory=dict)

    def add(self, node: Any, index: int, *, same_as: Any = None, family: Any = None) -> None:
        """A node's value: a new tensor object, or the one of `same_as`; it may share the storage of `family`."""
        self.identity[node] = identity = node if same_as is None else self.identity[same_as]
        self.index[identity] = index
        self.family[node] = node if family is None else self.family[family]

    def renew(self, node: Any, index: int) -> None:
        """The tensor object of a node changed in place."""
        self.index[self.identity[node]] = index

    def alias(self, node: Any, other: Any) -> None:
        """A node that is another's tensor object."""
        self.identity[node], self.family[node] = self.identity[other], self.family[other]

    def wholes(self, target: Any) -> set[Any]:
        """The tensor objects that a part was cut from, and its own."""
        found = {self.identity[target]}
        while target in self.view:
            target = self.view[target][0]
            found.add(self.identity[target])
        return found


class _Writer:
    """Writes an exported program as a graph document.

    Attributes:
        tensors: the weights under their names.
        places: for each node of the document, the user's line that asked for it.
    """

    def __init__(self, program: Any, module: nn.Module, examples: tuple[Tensor, ...]) -> None:
        self.fx = list(program.graph.nodes)
        self.order = {node: i for i, node in enumerate(self.fx)}
        self.examples = examples
        self.tensors: dict[str, Tensor] = {}
        self.places: list[str] = []
        self._program, self._module = program, module
        self._tables = ProgramTables.of(program)
        self._values = _Values()
        self._nodes: list[dict[str, Any]] = []
        self._first = 0

    def place(self, message: str) -> str:
        """The user's line for a message about `node N` or `value N`."""
        found = re.search(r"\b(node|value) (\d+)", message)
        if not found:
            return next((p for p in reversed(self.places) if p), "") if "operator" in message else ""
        number = int(found[2]) - (self._first if found[1] == "value" else 0)
        return self.places[number] if 0 <= number < len(self.places) else ""

    def document(self) -> dict[str, Any]:
        """The graph document, ready for `encode_graph`; also fills `tensors` and `places`."""
        signature = self._program.graph_signature
        user_inputs = set(signature.user_inputs)
        state_nodes: list[Any] = []
        input_nodes: list[Any] = []
        for node in self.fx:
            if node.op == "placeholder":
                (input_nodes if node.name in user_inputs else state_nodes).append(node)
        counters = self._counters(state_nodes)
        constants = {
            n: self._tables.tensors[self._tables.names[n.name]]
            for n in state_nodes
            if not self._tables.given(n.name) and n not in counters
        }
        folded, unneeded = fixed_parts(self._program.graph, constants, self._plain)
        state_nodes = [n for n in state_nodes if n in counters or any(u not in unneeded | set(folded) for u in n.users)]
        state = [self._state(node, counters) for node in state_nodes]
        state += [self._folded_state(node, tensor, state) for node, tensor in folded.items()]
        for place, node in enumerate([*state_nodes, *folded, *input_nodes]):
            self._values.add(node, place)
        self._first = len(state) + len(input_nodes)
        inputs: list[dict[str, Any]] = [
            {"dtype": dtype_name(e.dtype), "shape": [None, *e.shape[1:]]} for e in self.examples
        ]
        if len(input_nodes) != len(inputs):
            raise ExportFailed("every input must be a tensor of its own", seen=len(input_nodes), wanted=len(inputs))
        if len(inputs) > 1:
            for entry, node in zip(inputs, input_nodes, strict=True):
                entry["name"] = node.name
        for node in self.fx:
            counts = node.args and node.args[0] in counters and node.target is torch.ops.aten.add_.Tensor
            if node.op == "call_function" and not counts and node not in folded and node not in unneeded:
                self._call(node)
        outputs = [self._reference(value)["$"] for value in self._outputs(signature)]
        aliases = self._aliases([entry["name"] for entry in state if entry["kind"] == "parameter"])
        return {
            "format": FORMAT,
            "version": VERSION,
            "inputs": inputs,
            "state": state,
            "aliases": aliases,
            "nodes": self._nodes,
            "outputs": outputs,
        }

    def _outputs(self, signature: Any) -> list[Any]:
        spec = self._program.call_spec.out_spec
        if not spec.is_leaf() and spec.type not in (tuple, list):
            raise ExportFailed("the module must return a tensor or a tuple of tensors", seen=spec.type.__name__)
        wanted = signature.user_outputs
        (output,) = [n for n in self.fx if n.op == "output"]
        found = {getattr(v, "name", None): v for v in output.args[0]}
        if not wanted or any(not isinstance(name, str) or name not in found for name in wanted):
            raise ExportFailed("the module must return a tensor or a tuple of tensors", seen=wanted)
        return [found[name] for name in wanted]

    def _counters(self, state_nodes: Sequence[Any]) -> dict[Any, int]:
        """Buffers that forward only counts up, as batch norm's number of batches, with their step."""
        found = {}
        for node in state_nodes:
            steps = [
                u
                for u in node.users
                if u.target is torch.ops.aten.add_.Tensor
                and u.args[0] is node
                and type(u.args[1]) is int
                and not u.kwargs
            ]
            if steps and len(steps) == len(node.users) and not any(u.users for u in steps):
                found[node] = sum(u.args[1] for u in steps)
        return found

    def _state(self, node: Any, counters: dict[Any, int]) -> dict[str, Any]:
        name = self._tables.names[node.name]
        tensor = self._tables.tensors[name].detach()
        entry: dict[str, Any] = {"name": name, "dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}
        if entry["dtype"] not in DTYPES:
            raise DtypeMismatch(
                f"state {name!r} has a number type that is not accepted", seen=tensor.dtype, wanted=", ".join(DTYPES)
            )
        if node in counters:
            entry |= {"kind": "counter", "step": counters[node]}
        elif node.name in self._tables.parameters:
            entry["kind"] = "parameter"
        elif node.name in self._tables.buffers and name in self._tables.persistent:
            entry["kind"] = "buffer"
        else:
            entry |= {"kind": "constant", "sha256": tensor_sha256(tensor)}
        self.tensors[name] = tensor
        return entry

    def _folded_state(self, node: Any, tensor: Tensor, state: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A constant that export computed; whole numbers in int64."""
        if tensor.dtype not in DTYPES.values() or tensor.dtype in (torch.int32, torch.uint8):
            tensor = tensor.to(torch.float32 if tensor.dtype.is_floating_point else torch.int64)
        name = f"fixed_{node.name}"[:100]
        while name in self.tensors:
            name = f"{name[:90]}_{len(self.tensors)}"
        self.tensors[name] = tensor
        facts = {"name": name, "dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}
        return facts | {"kind": "constant", "sha256": tensor_sha256(tensor)}

    def _plain(self, node: Any) -> bool:
        """Whether the whitelist has a call just so."""
        if node.target is python_operator.getitem or node.target in _WHOLE_NUMBERS:
            return True
        name = full_name(node.target)
        name = SAME_BUT_FOR_NAME.get(name, name)
        if name in DROPPED:
            return True
        args, kwargs = list(node.args), dict(node.kwargs)
        try:
            if name in RESPELLINGS:
                name, args, kwargs = RESPELLINGS[name](node)
        except LookupError:
            return False
        types = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.dtype)]
        if name not in REGISTRY or any(not t.is_floating_point and t not in (torch.int64, torch.bool) for t in types):
            return False
        if name == "aten.to.dtype":
            return types[0].is_floating_point or not bool(args[0].meta["val"].dtype.is_floating_point)
        if name.startswith("aten.arange."):
            return all(v == int(v) for v in args if isinstance(v, int | float))
        if name == "aten.pow.Tensor_Scalar":
            return bool(0 < abs(args[1]) <= LARGEST_EXPONENT)
        return True

    def _aliases(self, parameters: Sequence[str]) -> dict[str, str]:
        """Second names of shared parameters in the module's state_dict."""
        by_identity = {
            id(p): name for name, p in self._module.named_parameters(remove_duplicate=False) if name in parameters
        }
        return {
            name: by_identity[id(p)]
            for name, p in self._module.named_parameters(remove_duplicate=False)
            if name not in parameters and id(p) in by_identity
        }

    def _emit(self, entry: dict[str, Any], node: Any) -> int:
        self._nodes.append(entry)
        self.places.append(user_line(node.meta.get("stack_trace")))
        return self._first + len(self._nodes) - 1

    def _call(self, node: Any) -> None:
        if node.target is python_operator.getitem and node.args[0] in self._values.parts:
            self._values.alias(node, self._values.parts[node.args[0]][node.args[1]])
            return
        if node.target is python_operator.getitem:
            index = self._emit({"op": "get", "args": [self._reference(node.args[0]), node.args[1]], "kwargs": {}}, node)
            self._values.add(node, index, family=node.args[0])
            return
        if node.target in _WHOLE_NUMBERS:
            args = [self._encode(a, node) for a in node.args]
            self._values.add(node, self._emit({"op": _WHOLE_NUMBERS[node.target], "args": args, "kwargs": {}}, node))
            return
        name = full_name(node.target)
        name = SAME_BUT_FOR_NAME.get(name, name)
        if name in DROPPED:
            return
        in_place = bool(re.fullmatch(r"aten\.[a-z0-9_]*[a-z0-9]_\.\w+", name))
        if in_place:
            base, overload = name.removeprefix("aten.").rsplit(".", 1)
            name = f"aten.{base[:-1]}.{overload}"
            name = SAME_BUT_FOR_NAME.get(name, name)
            self._check_in_place(node)
        args, kwargs = list(node.args), dict(node.kwargs)
        if name in RESPELLINGS:
            name, args, kwargs = RESPELLINGS[name](node)
        operator = REGISTRY.get(name)
        if operator is None and not in_place and self._inlined(node):
            return
        if operator is None:
            shown = full_name(node.target)
            advice = ADVICE.get(shown) or ADVICE.get(name, USUAL_ADVICE)
            raise UnsupportedOperator(shown, advice, where=user_line(node.meta.get("stack_trace")))
        if name == "aten.batch_norm.default" and node.args[3] is None:
            reason = "without running statistics it mixes the examples of a batch"
            raise UnsupportedOperator(name, reason, where=user_line(node.meta.get("stack_trace")))
        index = self._emit(self._entry(operator, node, args, kwargs), node)
        first = next((a for a in node.args if isinstance(a, torch.fx.Node)), None)
        if name in _SCATTERS:
            self._values.view[node] = (first, _SCATTERS[name], args[1:])
        if in_place:
            self._values.add(node, index, same_as=first, family=first)
            self._write_back(first, node)
        else:
            self._values.add(node, index, family=first if name.split(".")[1] in _MAY_ALIAS else None)

    def _write_back(self, target: Any, node: Any) -> None:
        """After a change of a part: the whole it was cut from is a new value too."""
        while target in self._values.view:
            whole, operator, args = self._values.view[target]
            given = [self._reference(whole), self._reference(target), *(self._encode(a, node) for a in args)]
            self._values.index[self._values.identity[whole]] = self._emit(
                {"op": operator, "args": given, "kwargs": {}}, node
            )
            target = whole

    def _inlined(self, node: Any) -> bool:
        """Write the calls of a decomposition in place of one that the whitelist lacks."""
        found = decomposed(node)
        if found is None or full_name(node.target) in ADVICE:
            return False
        graph, arguments = found
        given = iter(arguments)
        for part in graph.nodes:
            part.meta["stack_trace"] = node.meta.get("stack_trace")
            self.order[part] = self.order[node]
            if part.op == "placeholder":
                self._values.alias(part, next(given))
            elif part.op == "call_function":
                if isinstance(part.target, torch._ops.OpOverload) and part.target.namespace != "aten":
                    return False
                try:
                    self._call(part)
                except UnsupportedOperator:
                    return False
            elif isinstance(part.args[0], torch.fx.Node):
                self._values.alias(node, part.args[0])
            else:
                self._values.parts[node] = list(part.args[0])
        return True

    def _entry(self, operator: Operator, node: Any, given: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
        where = user_line(node.meta.get("stack_trace"))
        parameters = operator.parameters
        aten_names = [a.name for a in operator.native._schema.arguments]
        if len(given) > len(parameters):
            raise UnsupportedOperator(operator.name, "with so many arguments", where=where)
        args, kwargs = [], {}
        for parameter, value in zip(parameters, given, strict=False):
            args.append(None if parameter.kind.startswith("Ignored") else self._encode(value, node))
        for name, value in named.items():
            place = aten_names.index(name)
            if place >= len(parameters):
                raise UnsupportedOperator(operator.name, f"argument {name}", where=where)
            if not parameters[place].kind.startswith("Ignored"):
                kwargs[parameters[place].name] = self._encode(value, node)
        for place, parameter in enumerate(parameters[: len(args)]):
            if parameter.name in ("cudnn_enabled", "cudnn_enable"):
                args[place] = True
        return {"op": operator.name, "args": args, "kwargs": kwargs}

    def _check_in_place(self, node: Any) -> None:
        """Refuse a change in place that another name of the same storage would see, but for the tensors that the
        changed part was cut from."""
        target = node.args[0]
        root = self._values.family[target]
        where = user_line(node.meta.get("stack_trace"))
        if root.op == "placeholder":
            raise UnsupportedOperator(
                full_name(node.target), "forward may not change inputs, parameters or buffers", where=where
            )
        wholes = self._values.wholes(target)
        for other, family in self._values.family.items():
            another = family is root and self._values.identity[other] not in wholes
            if another and any(self.order[user] > self.order[node] for user in other.users):
                shown = full_name(node.target)
                advice = ADVICE.get(shown, "use the form that is not in place")
                raise UnsupportedOperator(
                    shown, f"it changes a tensor that is also used through a view; {advice}", where=where
                )

    def _reference(self, node: Any) -> dict[str, Any]:
        if not isinstance(node, torch.fx.Node) or node not in self._values.identity:
            raise ExportFailed("a value of the module is no tensor", seen=node)
        return {"$": self._values.index[self._values.identity[node]]}

    def _encode(self, value: Any, node: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return self._reference(value)
        if isinstance(value, list | tuple):
            return [self._encode(v, node) for v in value]
        if isinstance(value, torch.dtype):
            return {"dtype": dtype_name(value)}
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(value)}
        if isinstance(value, int) and not isinstance(value, bool) and value >= LARGEST_INT:
            return UNBOUNDED
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise UnsupportedOperator(
            full_name(node.target),
            f"an argument of type {type(value).__name__}",
            where=user_line(node.meta.get("stack_trace")),
        )
