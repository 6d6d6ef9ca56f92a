"""From a researcher's `nn.Module` to a model graph and a weights file.

`torch.export` in train mode gives the operators with their whole meaning (dropout, batch norm); they are written down
one to one. Changes in place are turned into new values, so the graph has no aliasing; where that cannot be done
safely, export refuses. An operator without an exact rule is named together with the line of the user's code that
asked for it.
"""

from __future__ import annotations

import contextlib
import math
import operator as python_operator
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from pot_lab import interrupts
from pot_lab.errors import InvariantBroken
from pot_lab.scoring.errors import (
    BatchMixing,
    ExportFailed,
    HostileGraph,
    ShapeMismatch,
    UnsupportedOperator,
)
from pot_lab.scoring.export.comparison import check_alone, check_same_model
from pot_lab.scoring.export.culprits import changed_at
from pot_lab.scoring.export.decomposition import decomposed
from pot_lab.scoring.export.diagnosis import FUNCTIONS, place_of
from pot_lab.scoring.export.draws import may_draw
from pot_lab.scoring.export.fixed_parts import fixed_parts
from pot_lab.scoring.export.given_modules import not_a_module, refuse_compiled, refuse_unready
from pot_lab.scoring.export.outputs import chosen_outputs
from pot_lab.scoring.export.packing import RAGGED
from pot_lab.scoring.export.program import ProgramTables, example_tensors, exported_program, full_name
from pot_lab.scoring.export.spelling import ADVICE, DROPPED, NO_DRAWING, RESPELLINGS, SAME_BUT_FOR_NAME, USUAL_ADVICE
from pot_lab.scoring.export.state import ExportedState
from pot_lab.scoring.export.trial import (
    ROWS,
    Reference,
    left_as_it_was,
    redrawn,
    run_reference,
    training_parts,
)
from pot_lab.scoring.export.values import MAY_ALIAS, SCATTERS, Values
from pot_lab.scoring.graph.arguments import LARGEST_EXPONENT
from pot_lab.scoring.graph.batch_axis import UNBOUNDED
from pot_lab.scoring.graph.model_graph import FORMAT, LARGEST_INT, VERSION, encode_graph
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.limits import DEFAULT_LIMITS, Limits
from pot_lab.scoring.operators import REGISTRY, Operator
from pot_lab.scoring.tensor_file import dtype_name, write_tensors

_WHOLE_NUMBERS = {
    python_operator.add: "int.add",
    python_operator.sub: "int.sub",
    python_operator.mul: "int.mul",
    python_operator.floordiv: "int.floordiv",
}

_NODE = re.compile(r"^node \d+(?:, ([\w.]+))?[:,]? ?")
_FUNCTORCH = ("lazy_load_decompositions", "_vmap_increment_nesting", "_grad_increment_nesting")
"""Calls that `torch.func` begins with."""
_EXPORTING = threading.RLock()
"""torch.export keeps its state in globals, and so do random numbers: one export of a process at a time."""
_SET = {"cudnn_enabled": True, "cudnn_enable": True, "sparse": False, "sparse_grad": False}
"""Arguments that change no number: how gradients are stored, which library computes."""


@dataclass(frozen=True)
class ModelArtifact:
    """A model as two files: `graph`, canonical JSON, and `weights`, safetensors."""

    graph: bytes
    weights: bytes


def export_model(
    module: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    limits: Limits = DEFAULT_LIMITS,
    *,
    output: str | int | None = None,
) -> ModelArtifact:
    """Turn a module into a graph and its present weights. The module is left as it was.

        >>> import torch
        >>> from pot_lab import export_model
        >>> from pot_lab.scoring import load_graph
        >>> artifact = export_model(torch.nn.Linear(4, 3), torch.randn(2, 4))
        >>> load_graph(artifact.graph).outputs[0].shape
        (3,)

    Args:
        module: any `nn.Module` whose forward takes tensors [batch, ...], returns a tensor [batch, ...] or several
            (see `output`), and uses operators of the whitelist. It may be on any device and in any mode.
        example_inputs: one tensor [batch, ...] for each input, with 1 example or more; the sizes behind the batch
            become fixed. Types: float64, float32, float16, bfloat16, int64, int32, uint8, int8
            or bool.
        limits: bounds of the graph.
        output: which result is the model's, where forward returns several: its name in a dict, a dataclass or a named
            tuple, e.g. "logits", or its place in a tuple, from 0. None: what has names gives `logits` or its only
            tensor, a tuple all its tensors but for what is None.
    Returns: the graph file and the weights file.
    Raises:
        UnsupportedOperator: an operator without an exact rule, with the user's line and what to write instead.
        ExportFailed: `torch.export` fails, or the forward does something that a graph cannot express.
        BatchMixing: an example's result would depend on other examples.
        HostileGraph, CostLimit: the graph is too large.
        ShapeMismatch, DtypeMismatch: `example_inputs` are no tensors with a batch, or of another type.
    """
    if not isinstance(module, nn.Module):
        raise not_a_module(module)
    refuse_unready(module)
    refuse_compiled(module)
    with _EXPORTING, interrupts.held(), left_as_it_was(module) as kept:
        examples, rows = example_tensors(example_inputs), example_tensors(example_inputs, ROWS)
        modes = training_parts(module)
        refusal, reference = None, None
        try:
            reference = run_reference(module, rows, modes, output, example_tensors(example_inputs, None))
        except ExportFailed as problem:
            refusal = problem
        if changed := kept.changed(module):
            line = changed_at(module, rows, [module.get_parameter(name) for name in changed])
            raise ExportFailed(
                "forward, or a `train` or `eval` of the module's own, changes parameters, and in a graph only training "
                "does: run a module that sets itself up on its first data before it is exported, and keep averages of "
                "weights outside of it" + (f", at {line}" if line else ""),
                seen=", ".join(changed[:5]),
            )
        kept.put_attributes_back()
        try:
            program, rewritten = exported_program(module, examples, modes, output)
        except ExportFailed:
            if refusal is not None and refusal.__cause__ is not None:
                raise refusal from refusal.__cause__
            raise
        writer = _Writer(program, module, examples)
        graph = encode_graph(writer.document())
        try:
            checked = load_graph(graph, limits)
        except (BatchMixing, HostileGraph, ShapeMismatch, UnsupportedOperator) as problem:
            place = writer.place(str(problem))
            where = f", at {place}" if place else ""
            what = _NODE.sub(lambda found: f"{found[1]} " if found[1] else "", problem.message)
            if type(problem) is HostileGraph:  # a file may be hostile, a module is not
                raise ExportFailed(what + where, seen=problem.seen, wanted=problem.wanted) from problem
            problem.message = what + where
            raise
        if reference is None:
            raise refusal or InvariantBroken("a module has run without a result")

        def drawn_again(reference: Reference, undisturbed: bool = True) -> Reference:
            kept.put_attributes_back()
            return redrawn(module, reference, modes, rewritten, output, undisturbed=undisturbed)

        if rewritten.keeps or rewritten.packing.drops:
            reference = drawn_again(reference, undisturbed=False)
        try:
            check_same_model(module, reference, checked, writer.tensors, drawn_again)
            if rewritten.packing.ragged:
                check_alone(module, reference, checked, writer.tensors, output)
        except ExportFailed as problem:
            if rewritten.packing.ragged:
                problem.message += RAGGED
            if writer.overlapping:
                problem.message += (
                    "; or it reads memory that it changes at the same time: read a .clone() of it, at "
                    + writer.overlapping[0]
                )
            raise
        del reference  # gradients as large as the weights, which are copied next
        return ModelArtifact(graph, write_tensors(writer.tensors))


def _may_alias(target: Any) -> bool:
    """Whether the results of a call may share the memory of its first argument, or each other's."""
    name = full_name(target)
    parts = SAME_BUT_FOR_NAME.get(name, name).split(".")
    return len(parts) < 2 or parts[1] in MAY_ALIAS


class _Writer:
    """Writes an exported program as a graph document.

    Attributes:
        places: for each node of the document, the user's line that asked for it.
        overlapping: the lines that change a tensor in place and read another view of its memory.
    """

    def __init__(self, program: Any, module: nn.Module, examples: tuple[Tensor, ...]) -> None:
        self.fx = list(program.graph.nodes)
        self.order = {node: i for i, node in enumerate(self.fx)}
        self.examples = examples
        self.places: list[str] = []
        self.overlapping: list[str] = []
        self._program = program
        self._tables = ProgramTables.of(program, module)
        self._state = ExportedState(module, self._tables)
        self._values = Values()
        self._nodes: list[dict[str, Any]] = []
        self._first = 0

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The weights under their names."""
        return self._state.tensors

    def place(self, message: str) -> str:
        """The user's line for a message about `node N` or `value N`."""
        found = re.search(r"\b(node|value) (\d+)", message)
        if not found and "an output" in message:
            return next((p for node in self._outputs() if (p := place_of(node))), "")
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
        objects = signature.inputs_to_lifted_custom_objs
        for node in state_nodes:
            if node.name in objects:
                line = next((p for user in node.users if (p := place_of(user))), "")
                raise ExportFailed(
                    "forward uses an object that no graph holds, such as a torch.Generator; what it makes once belongs "
                    "into __init__, as a buffer" + (f", at {line}" if line else ""),
                    seen=objects[node.name],
                )
        counters = self._state.counters(state_nodes)
        constants = {
            n: self._tables.tensors[self._tables.names[n.name]]
            for n in state_nodes
            if not self._tables.given(n.name) and n not in counters
        }
        folded, unneeded = fixed_parts(self._program.graph, constants, self._plain)
        gone = unneeded | set(folded)
        state_nodes = [n for n in state_nodes if n in counters or any(u not in gone for u in n.users)]
        own = self._own_state(state_nodes)
        state = [self._state.entry(nodes[0], counters) for nodes in own]
        state += [self._state.folded_entry(node, tensor) for node, tensor in folded.items()]
        self._state.check_memory(state, self.fx)
        for place, nodes in enumerate([*own, *([n] for n in folded), *([n] for n in input_nodes)]):
            for node in nodes:
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
            if node.op == "call_function" and node not in counters and node not in folded and node not in unneeded:
                self._call(node)
        outputs = [self._reference(value)["$"] for value in self._outputs()]
        aliases = self._state.aliases(state)
        return {
            "format": FORMAT,
            "version": VERSION,
            "inputs": inputs,
            "state": state,
            "aliases": aliases,
            "nodes": self._nodes,
            "outputs": outputs,
        }

    def _own_state(self, used: Sequence[Any]) -> list[list[Any]]:
        """The tensors of the graph's state, each with all placeholders that stand for it: what forward uses, and what
        else the module's `state_dict` has."""
        found: dict[Any, list[Any]] = {}
        user_inputs = set(self._program.graph_signature.user_inputs)
        for node in self.fx:
            if node.op == "placeholder" and node.name not in user_inputs and (node in used or self._state.kept(node)):
                together = found.setdefault(self._state.identity(self._tables.names[node.name]), [])
                together.insert(0 if node in used else len(together), node)
        return list(found.values())

    def _outputs(self) -> list[Any]:
        (output,) = [n for n in self.fx if n.op == "output"]
        results = list(output.args[0])
        values = [r.meta.get("val") if isinstance(r, torch.fx.Node) else r for r in results]
        chosen = chosen_outputs(_pytree.tree_unflatten(values, self._program.call_spec.out_spec))
        return [next(r for r, v in zip(results, values, strict=True) if v is one) for one in chosen]

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

    def _emit(self, entry: dict[str, Any], node: Any) -> int:
        self._nodes.append(entry)
        self.places.append(place_of(node))
        return self._first + len(self._nodes) - 1

    def _call(self, node: Any) -> None:
        if node.target is python_operator.getitem and node.args[0] in self._values.parts:
            self._values.alias(node, self._values.parts[node.args[0]][node.args[1]])
            return
        if node.target is python_operator.getitem:
            index = self._emit({"op": "get", "args": [self._reference(node.args[0]), node.args[1]], "kwargs": {}}, node)
            shares = _may_alias(node.args[0].target)
            self._values.add(node, index, family=node.args[0] if shares else None)
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
        if name == "aten.bernoulli_.float":
            self._draw(node)
            return
        if in_place:
            base, overload = name.removeprefix("aten.").rsplit(".", 1)
            name = f"aten.{base[:-1]}.{overload}"
            name = SAME_BUT_FOR_NAME.get(name, name)
            self._check_in_place(node)
        args, kwargs = list(node.args), dict(node.kwargs)
        if name in RESPELLINGS:
            with contextlib.suppress(LookupError):
                name, args, kwargs = RESPELLINGS[name](node)
        operator = REGISTRY.get(name)
        if operator is None and not in_place and self._inlined(node):
            return
        if operator is None:
            shown = full_name(node.target)
            if shown in _FUNCTORCH:
                raise ExportFailed(f"{FUNCTIONS}, at {place_of(node)}")
            advice = ADVICE.get(shown) or ADVICE.get(name, NO_DRAWING if may_draw(node.target) else USUAL_ADVICE)
            raise UnsupportedOperator(shown, advice, where=place_of(node))
        if name == "aten.batch_norm.default" and node.args[3] is None:
            if type(node.args[0].meta["val"].shape[0]) is not int:
                reason = "without running statistics it mixes the examples of a batch"
                raise UnsupportedOperator(name, reason, where=place_of(node))
            operator = REGISTRY["aten.instance_norm.default"]  # of a weight, as weight standardisation
            if node.args[0].meta["val"].shape[0] != 1 or not node.args[5]:
                raise UnsupportedOperator(name, "without running statistics it needs one row", where=place_of(node))
        index = self._emit(self._entry(operator, node, args, kwargs), node)
        first = next((a for a in node.args if isinstance(a, torch.fx.Node)), None)
        if name in SCATTERS:
            self._values.view[node] = (first, SCATTERS[name], args[1:])
        if in_place:
            self._values.add(node, index, same_as=first, family=first)
            self._write_back(first, node)
        else:
            self._values.add(node, index, family=first if name.split(".")[1] in MAY_ALIAS else None)

    def _draw(self, node: Any) -> None:
        """Ones with probability p while training, as p times a dropout of ones: p in eval mode and when scoring, where
        drop path divides by it."""
        self._check_in_place(node)
        target, p = node.args[0], float(node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5))
        ones = self._emit({"op": "aten.ones_like.default", "args": [self._reference(target)], "kwargs": {}}, node)
        kept = self._emit({"op": "aten.dropout.default", "args": [{"$": ones}, 1.0 - p, True], "kwargs": {}}, node)
        index = self._emit({"op": "aten.mul.Tensor", "args": [{"$": kept}, p], "kwargs": {}}, node)
        self._values.add(node, index, same_as=target, family=target)
        self._write_back(target, node)

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
        where = place_of(node)
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
                kwargs[parameters[place].name] = _SET.get(parameters[place].name, self._encode(value, node))
        for place, parameter in enumerate(parameters[: len(args)]):
            if parameter.name in _SET:
                args[place] = _SET[parameter.name]
        return {"op": operator.name, "args": args, "kwargs": kwargs}

    def _check_in_place(self, node: Any) -> None:
        """Refuse a change in place that another name of the same storage would see, but for the tensors that the
        changed part was cut from."""
        target = node.args[0]
        root = self._values.family[target]
        where = place_of(node)
        if root.op == "placeholder":
            raise UnsupportedOperator(
                full_name(node.target), "forward may not change inputs, parameters or buffers", where=where
            )
        if any(self._values.family.get(a) is root and a is not target for a in node.all_input_nodes):
            self.overlapping.append(where)
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
            where=place_of(node),
        )
