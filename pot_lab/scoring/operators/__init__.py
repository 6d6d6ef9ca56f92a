"""Operators by family; importing this package fills the registry."""

from pot_lab.scoring.operators import (
    activations,
    attention,
    constants,
    copies,
    elements,
    indexing,
    layers,
    norms,
    pools,
    recurrent,
    resize,
    shapes,
    sums,
    windows,
)
from pot_lab.scoring.operators.registry import (
    LARGEST_PIECES,
    REGISTRY,
    WHOLE_NUMBERS,
    Operator,
    Parameter,
    traced_size,
)

__all__ = [
    "LARGEST_PIECES",
    "REGISTRY",
    "WHOLE_NUMBERS",
    "Operator",
    "Parameter",
    "activations",
    "attention",
    "constants",
    "copies",
    "elements",
    "indexing",
    "layers",
    "norms",
    "pools",
    "recurrent",
    "resize",
    "shapes",
    "sums",
    "traced_size",
    "windows",
]
