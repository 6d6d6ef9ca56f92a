"""Operators by family; importing this package fills the registry."""

from pot_lab.scoring.operators import (
    activations,
    attention,
    constants,
    elements,
    layers,
    norms,
    pools,
    recurrent,
    resize,
    shapes,
    sums,
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
    "elements",
    "layers",
    "norms",
    "pools",
    "recurrent",
    "resize",
    "shapes",
    "sums",
    "traced_size",
]
