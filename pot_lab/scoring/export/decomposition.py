"""Operators outside the whitelist, written with others: torch's own decompositions, one operator at a time.

Only what the whitelist lacks is taken apart, so a graph keeps the operators that train well. The parts run in training
too; their sums may differ from the whole operator's by float32 rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree


def decomposed(node: Any) -> tuple[torch.fx.Graph, list[Any]] | None:
    """A graph that computes what a call of an exported program computes, and the nodes that are its arguments.

    None where torch has no decomposition, or one that is the call itself.
    """
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return None
    rule = torch._decomp.decomposition_table.get(target)
    try:
        if rule is None and target._can_decompose():
            rule = target.decompose
    except RuntimeError:  # torch looks operators of its interpreter up in its dispatcher
        return None
    flat, spec = _pytree.tree_flatten((node.args, node.kwargs))
    places = [i for i, value in enumerate(flat) if isinstance(value, torch.fx.Node)]
    values = [flat[i].meta.get("val") for i in places]
    fake = next((v.fake_mode for v in values if isinstance(v, FakeTensor)), None)
    if rule is None or fake is None:
        return None

    def run(*given: Any) -> Any:
        whole = list(flat)
        for place, value in zip(places, given, strict=True):
            whole[place] = value
        args, kwargs = _pytree.tree_unflatten(whole, spec)
        return rule(*args, **kwargs)

    for before_dispatch in (True, False):
        try:
            with fake:
                graph = make_fx(run, pre_dispatch=before_dispatch)(*values).graph
        except Exception:  # whatever torch's rules raise for shapes they cannot take, the operator stays unsupported
            return None
        calls = [n for n in graph.nodes if n.op == "call_function"]
        if any(n.op == "get_attr" for n in graph.nodes):
            return None
        if calls and all(n.target is not target for n in calls):
            return graph, [flat[i] for i in places]
    return None
