"""What the scoring room refuses, and under which rule.

Every error is a `PotLabError`, so its code travels over the wire. The texts are for the person who wrote the model or
the
data: they name the argument, the two shapes or types, and where known the line of the user's code.
"""

from __future__ import annotations

from pot_lab.errors import PotLabError


class UnsupportedOperator(PotLabError):
    """A model uses an operator for which specification version 1 has no rule.

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
    """`torch.export` could not turn the module into a graph, or the module does something a graph cannot say."""


class BatchMixing(PotLabError):
    """One example's result would depend on another example, on its place in the batch, or on the batch's size."""


class HostileGraph(PotLabError):
    """A graph file breaks the format: nothing in it is run."""


class CostLimit(HostileGraph):
    """A graph asks for more work or memory than the limits allow; found on shapes alone, before anything was
    allocated."""


class BadWeights(PotLabError):
    """A weights file is not the safetensors file that the graph asks for."""


class BadDataset(PotLabError):
    """A data file breaks the data rules."""


class ShapeMismatch(PotLabError):
    """Data and model, or two arguments of an operator, differ in shape."""


class DtypeMismatch(PotLabError):
    """Data and model, or weights and graph, differ in number type."""


class BadTranscript(PotLabError):
    """Transcript bytes are not canonical, or contradict themselves."""


class SelfTestFailed(PotLabError):
    """This machine does not compute the specification's known answers, so it may not score."""


class WorkerFailed(PotLabError):
    """A process that scored a part of the test set could not finish it."""
