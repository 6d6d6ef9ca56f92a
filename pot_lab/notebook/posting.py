"""Make an order ready to post: model and data to bytes, the test part encrypted, its key in shares, everything checked
first.

Every wrong argument is refused here with the rule it breaks, before a byte is uploaded or a grain is moved (jupyter.md,
"The researcher's notebook"; protocol.md, "Test data").
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pot_lab.crypto.canonical import encode, sha256
from pot_lab.crypto.cipher import KEY_BYTES, encrypt
from pot_lab.crypto.sealed_box import seal
from pot_lab.crypto.shamir import split
from pot_lab.errors import PotLabError
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.records import (
    OrderRecord,
    ScoreSpec,
    TestData,
    Windows,
    key_commitment,
    share_commitment,
    share_context,
)
from pot_lab.protocol.state import Member
from pot_lab.store import Store

SEAL_SLACK_S = 3_600
"""How much longer than the longest possible cycle the escrow is left with the contract before the client may take it
back.
"""


class BadArgument(PotLabError):
    """An argument of `Lab.order` cannot be used as it is."""


@dataclass(frozen=True)
class PreparedOrder:
    """An order's contents, checked and in bytes."""

    graph: bytes
    weights: bytes
    train: bytes
    test: bytes
    test_root: bytes
    test_examples: int
    score: ScoreSpec


def prepare(model: Any, train: Any, test: Any, score: str) -> PreparedOrder:
    """Turn a model and data into checked bytes.

    Args:
        model: an `nn.Module`, or a `ModelArtifact`.
        train: `(inputs, targets)` as tensors or arrays, or the path of a data set file; `inputs` is a tuple of them for
            a model that takes several.
        test: the same, for the part that nobody sees before the deadline.
        score: the score function's name, with or without its version.
    Raises:
        BadArgument, UnsupportedOperator, ShapeMismatch, DtypeMismatch, BadDataset, UnknownScoreFunction: what is wrong,
        and where.
    """
    from pot_lab.scoring import (
        ModelArtifact,
        check_dataset,
        dataset_root,
        export_model,
        load_graph,
        load_weights,
        pack_dataset,
        score_function,
    )

    function = score_function(score)
    train_pair, test_pair = _pair("train", train), _pair("test", test)
    artifact = model if isinstance(model, ModelArtifact) else _exported(model, train_pair[0], export_model)
    graph = load_graph(artifact.graph)
    load_weights(graph, artifact.weights)
    for name, (inputs, targets) in (("train", train_pair), ("test", test_pair)):
        try:
            check_dataset(graph, inputs, targets, function)
        except PotLabError as error:
            error.message = f"the {name} data do not fit: {error.message}"
            raise
    return PreparedOrder(
        artifact.graph,
        artifact.weights,
        pack_dataset(*train_pair),
        pack_dataset(*test_pair),
        dataset_root(*test_pair),
        len(test_pair[1]),
        ScoreSpec(function.full_name, function.version),
    )


def upload(
    prepared: PreparedOrder, store: Store, network_id: bytes, members: Sequence[Member]
) -> tuple[dict[str, Any], bytes]:
    """Encrypt the test part, split its key among the aggregators of now, and put everything into the store.

    Returns: the order's fields that name it all, and the test key (which the client may keep or forget).
    Raises:
        StoreFull, LinkDead, TooBig: the store does not take it; nothing was ordered.
    """
    key = os.urandom(KEY_BYTES)
    threshold = (len(members) - 1) // 3 + 1
    shares = split(key, threshold, len(members), os.urandom)
    root = prepared.test_root
    test = TestData(
        store.put(encrypt(key, prepared.test)),
        root,
        sha256(prepared.test),
        len(prepared.test),
        prepared.test_examples,
        key_commitment(network_id, root, key),
        tuple(share_commitment(network_id, root, share) for share in shares),
        tuple(
            seal(member.sealing_public, encode(share), share_context(network_id, root, index))
            for index, (member, share) in enumerate(zip(members, shares, strict=True))
        ),
    )
    fields = {
        "model": store.put(prepared.graph),
        "weights": store.put(prepared.weights),
        "train": store.put(prepared.train),
        "test": test,
        "score": prepared.score,
    }
    return fields, key


def windows_for(train_ms: int, parameters: Parameters, changes: dict[str, int]) -> Windows:
    """The network's usual windows around a training time, with the client's changes (window name without `_ms` to
    milliseconds).

    Raises:
        BadArgument: a change names no window.
        BadWindows: a window is outside the network's bounds.
    """
    names = [name.removesuffix("_ms") for name in Windows.__struct_fields__]
    if unknown := set(changes) - set(names[1:]):
        raise BadArgument("there is no such window", seen=", ".join(sorted(unknown)), wanted=", ".join(names[1:]))
    usual = dict(zip(names[1:], parameters.usual_windows_ms, strict=True))
    windows = Windows(train_ms, *[changes.get(name, usual[name]) for name in names[1:]])
    windows.check(parameters)
    return windows


def seal_by_s(windows: Windows, parameters: Parameters) -> int:
    """When the escrow may be taken back: well after the longest cycle, the pool and the settlement."""
    slack_ms = parameters.pool_ms + parameters.update_ms + parameters.settlement_timeout_ms + parameters.seal_margin_ms
    return int(time.time()) + -(-(windows.longest_ms + slack_ms) // 1000) + SEAL_SLACK_S


def draft(
    client: bytes, network_id: bytes, fields: dict[str, Any], parameters: Parameters, **terms: Any
) -> OrderRecord:
    """The complete record, checked as the ledger will check it."""
    nonce = time.time_ns() // 1_000_000
    order = OrderRecord(network_id=network_id, client=client, nonce=nonce, **fields, **terms)
    order.check(network_id, len(order.test.sealed_shares), parameters)
    return order


def _exported(model: Any, inputs: Any, export_model: Any) -> Any:
    import torch

    if not isinstance(model, torch.nn.Module):
        wanted = "a torch.nn.Module, or what export_model returned"
        raise BadArgument("`model` is no module", seen=type(model).__name__, wanted=wanted)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    for x in given:
        if x.dim() == 0 or len(x) < 2:
            raise BadArgument("`train` needs at least two examples", seen=f"inputs of shape {tuple(x.shape)}")
    few = tuple(x[:2] for x in given)
    _try_out(model, few)
    return export_model(model, few)


def _try_out(model: Any, inputs: tuple[Any, ...]) -> None:
    """Run the module once as it is, since its own complaint about wrong inputs reads better than an exporter's."""
    import torch

    from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch

    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    for x in inputs:
        if parameter is not None and x.is_floating_point() and x.dtype != parameter.dtype:
            raise DtypeMismatch(
                "the train inputs have another number type than the model's parameters",
                seen=x.dtype,
                wanted=parameter.dtype,
            )
    modes = [(part, part.training) for part in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ShapeMismatch(
            "the model does not run on the train inputs", seen=f"inputs of shape {shapes}: {reason}"
        ) from error
    finally:
        for part, mode in modes:
            part.training = mode


def _pair(name: str, data: Any) -> tuple[Any, Any]:
    """`(inputs, targets)` as tensors, from tensors, arrays or a data set file."""
    import torch

    if isinstance(data, str | Path):
        from pot_lab.scoring import unpack_dataset

        try:
            raw = Path(data).read_bytes()
        except OSError as error:
            raise BadArgument(
                f"`{name}` cannot be read",
                seen=f"{data}: {error.strerror}",
                wanted="a data set file, or (inputs, targets)",
            ) from error
        found = unpack_dataset(raw)
        return found[0], found[1]
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise BadArgument(
            f"`{name}` is no pair of tensors",
            seen=type(data).__name__,
            wanted="(inputs, targets), or the path of a data set file",
        )
    try:
        given = tuple(torch.as_tensor(x).detach() for x in (data[0] if isinstance(data[0], tuple) else (data[0],)))
        targets = torch.as_tensor(data[1]).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        wanted = "tensors or arrays; a tuple of them for a model that takes several inputs"
        raise BadArgument(f"`{name}` holds something that is no tensor", seen=str(error), wanted=wanted) from error
    return given if len(given) > 1 else given[0], targets
