"""A winner's weights in the module that was ordered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pot_lab.notebook.errors import BadArgument

if TYPE_CHECKING:
    from torch import nn

    from pot_lab.scoring import ModelGraph

_NAMED = 5


def load_into(module: nn.Module, graph: ModelGraph, weights: bytes) -> nn.Module:
    """Put an order's weights into a module of the ordered architecture.

    Args:
        module: gets the weights in place, on its device and in its number types.
        graph: the order's.
        weights: safetensors of the graph's state.
    Returns: the module.
    Raises:
        BadArgument: its parameters or buffers have other names or shapes; it is left as it was.
        BadWeights: the weights do not fit the graph.
    """
    from pot_lab.scoring import trainable

    state, own = trainable(graph, weights).state_dict(), module.state_dict()
    lacking = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    if lacking or extra or shapes:
        raise BadArgument(
            "`into` is another architecture than the ordered model's",
            seen=f"without weights {lacking[:_NAMED]}, unknown {extra[:_NAMED]}, of another shape {shapes[:_NAMED]}",
            wanted="the module that was ordered",
        )
    module.load_state_dict(state)
    return module
