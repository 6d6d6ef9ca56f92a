"""Errors of scoring, one class a rule.

Every error is a `PotLabError`, so its code travels over the wire. The texts are for the person who wrote the model or
the data: they name the argument, the two shapes or types, and where known the line of the user's code.
"""

from __future__ import annotations

from pot_lab.errors import PotLabError


class UnsupportedOperator(PotLabError):
    """A model uses an operator for which specification version 1 has no rule.

    What to do: write the model with operators that scoring-spec.md lists, or compute that part before the data are
    packed.

    Attributes:
        operator: full overload name, such as `aten.cumsum.default`.
        where: file, line and text of the user's code it came from, or "" where not known.
    """

    def __init__(self, operator: str, reason: str = "", *, where: str = "") -> None:
        self.operator = operator
        self.where = where
        text = f"operator {operator} cannot be scored" + (f": {reason}" if reason else "")
        super().__init__(text + (f", at {where}" if where else ""), seen=operator)


class ExportFailed(PotLabError):
    """`torch.export` could not turn the module into a graph, or a graph cannot express what the module does.

    What to do: remove control flow that depends on values, and side effects, from `forward`; the message has torch's
    reason.
    """


class BatchMixing(PotLabError):
    """One example's result would depend on another example, on its place in the batch, or on the batch's size.

    What to do: make each example's result independent of the others, for example batch norm in eval mode.
    """


class HostileGraph(PotLabError):
    """A graph file breaks the format: nothing in it is run.

    What to do: export the model again with `pot_lab.export_model`.
    """


class CostLimit(HostileGraph):
    """A graph needs more work or memory than the limits allow; found on shapes alone, before anything was
    allocated.

    What to do: use a smaller model, or smaller examples.
    """


class BadWeights(PotLabError):
    """A weights file is not the safetensors file that the graph names.

    What to do: save the weights of this graph with `pot_lab.export_model`.
    """


class BadDataset(PotLabError):
    """A data file breaks the data rules.

    What to do: pack finite float32, float64 or int64 tensors with `pot_lab.pack_dataset`; inputs may be uint8 or int8.
    """


class ShapeMismatch(PotLabError):
    """Data and model, or two arguments of an operator, differ in shape.

    What to do: bring data and model to the shapes that the message names.
    """


class DtypeMismatch(PotLabError):
    """Data and model, or weights and graph, differ in number type.

    What to do: convert to the type that the message names.
    """


class BadTranscript(PotLabError):
    """Transcript bytes are not canonical, or contradict themselves.

    What to do: fetch the transcript again; if it stays so, its author is wrong.
    """


class SelfTestFailed(PotLabError):
    """This machine does not compute the specification's known answers, so it may not score.

    What to do: do not score on this machine; report processor and torch version.
    """


class WorkerFailed(PotLabError):
    """A process that scored a part of the test set could not finish it.

    What to do: use fewer `--workers`, or a machine with more memory.
    """
