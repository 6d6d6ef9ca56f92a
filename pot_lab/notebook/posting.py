"""Prepare an order for posting: model and data to bytes, the test part encrypted, its key in shares, everything checked
first.

Every wrong argument is refused here with the rule it breaks, before a byte is uploaded or a grain is moved. The test
data stays secret until all models are fixed, so its key is split among the aggregators (protocol.md, "The task cycle").
Functions here read no clock and no randomness of their own: both come in as arguments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from msgspec import structs

from pot_lab.agreement.quorum import check_size, correct
from pot_lab.crypto.canonical import encode, sha256
from pot_lab.crypto.cipher import KEY_BYTES, encrypt
from pot_lab.crypto.identity import Address
from pot_lab.crypto.link import Link
from pot_lab.crypto.sealed_box import seal
from pot_lab.crypto.shamir import split
from pot_lab.errors import InvariantBroken, PotLabError, one_of
from pot_lab.notebook.arguments import check_model, check_score_name
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.quantities import exact_fraction, grains, milliseconds
from pot_lab.notebook.score_names import completed
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.records import (
    MICRO,
    OrderRecord,
    ScoreSpec,
    TestData,
    Windows,
    key_commitment,
    sealing_binding,
    share_commitment,
    share_context,
)
from pot_lab.protocol.state import Member
from pot_lab.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pot_lab.notebook.data import Data
    from pot_lab.scoring import Inputs, ModelArtifact

SEAL_SLACK_S = 3_600
"""How much longer than the longest possible cycle the escrow stays with the contract before the client may withdraw
it.
"""


@dataclass(frozen=True, kw_only=True)
class OrderTerms:
    """What a client offers, in exact units: grains, milliseconds, millionths of a score per example."""

    reward_grains: int
    fee_grains: int
    bond_grains: int
    claim_bond_grains: int
    windows: Windows
    baseline_total: int
    baseline_count: int
    margin_micro: int
    title: str
    tags: tuple[str, ...]

    @property
    def escrow_grains(self) -> int:
        """What the client pays into escrow: reward, fee and bond."""
        return self.reward_grains + self.fee_grains + self.bond_grains


@dataclass(frozen=True, kw_only=True)
class PreparedOrder:
    """An order's contents, checked and in bytes."""

    graph: bytes
    weights: bytes
    train: bytes
    test: bytes
    test_root: bytes
    test_examples: int
    score: ScoreSpec

    @property
    def upload_bytes(self) -> int:
        """What goes to the store, but for the few bytes that encryption adds."""
        return len(self.graph) + len(self.weights) + len(self.train) + len(self.test)


@dataclass(frozen=True, kw_only=True)
class SealedTest:
    """Test data as others may hold it until it is released: `ciphertext`, and all that the order names but its link.

    `key` opens the ciphertext; only the client has it, and the aggregators its shares.
    """

    ciphertext: bytes
    key: bytes
    key_commitment: bytes
    share_commitments: tuple[bytes, ...]
    sealed_shares: tuple[bytes, ...]


def order_terms(
    parameters: Parameters,
    *,
    reward: str | float | Decimal,
    train_for: str | float | timedelta,
    baseline: float | Fraction | None = None,
    margin: float | Fraction = 0.0,
    fee: str | float | Decimal | None = None,
    bond: str | float | Decimal | None = None,
    claim_bond: str | float | Decimal | None = None,
    windows: Mapping[str, str | float | timedelta] | None = None,
    title: str = "",
    tags: Sequence[str] = (),
) -> OrderTerms:
    """Read what a client offers, as `Lab.order` documents it; what is left out is the network's minimum.

    Raises:
        BadQuantity: a duration, an amount, the baseline or the margin cannot be read.
        BadArgument: a window is unknown.
        BadWindows: a window is outside the network's bounds.
    """
    base = Fraction(0) if baseline is None else exact_fraction(baseline, "baseline").limit_denominator(MICRO)
    changes = {name: milliseconds(length) for name, length in (windows or {}).items()}
    return OrderTerms(
        reward_grains=grains(reward),
        fee_grains=parameters.min_fee_grains if fee is None else grains(fee),
        bond_grains=parameters.client_bond_grains(grains(reward)) if bond is None else grains(bond),
        claim_bond_grains=parameters.claim_bond_grains(grains(reward)) if claim_bond is None else grains(claim_bond),
        windows=windows_for(milliseconds(train_for), parameters, changes),
        baseline_total=base.numerator,
        baseline_count=0 if baseline is None else base.denominator,
        margin_micro=round(exact_fraction(margin, "margin") * MICRO),
        title=title,
        tags=tuple(tags),
    )


def windows_for(train_ms: int, parameters: Parameters, changes: Mapping[str, int]) -> Windows:
    """The network's usual windows around a training time, with the client's changes.

    Args:
        train_ms: how long providers may train.
        parameters: the network's, with its usual windows and their bounds.
        changes: milliseconds by window name (`reveal`, `release`, `score`, `open_scores`, `challenge`,
            `open_challenges`, `judge`).
    Raises:
        BadArgument: a change names no window.
        BadWindows: a window is outside the network's bounds.
    """
    names = [name.removesuffix("_ms") for name in Windows.__struct_fields__ if name != "train_ms"]
    if unknown := set(changes) - set(names):
        raise BadArgument(
            "there is no such window", seen=", ".join(sorted(unknown)), wanted=one_of(min(unknown), names)
        )
    lengths = dict(zip(names, parameters.usual_windows_ms, strict=True)) | dict(changes)
    windows = Windows(train_ms=train_ms, **{f"{name}_ms": length for name, length in lengths.items()})
    windows.check(parameters)
    return windows


def prepare(
    model: nn.Module | ModelArtifact, train: Data, test: Data, score: str, output: str | int | None = None
) -> PreparedOrder:
    """Turn a model and data into checked bytes. The module is run on a few examples, its graph is trained for one step,
    and the module is left as it was.

    Args:
        model: an `nn.Module`, or a `ModelArtifact`, which `pot_lab.export_model` returns.
        train: the training data, as `pot_lab.notebook.data.read_data` takes it.
        test: the same, for the part that nobody sees before the deadline.
        score: the score function's name, with or without its version.
        output: which result of the module is scored, as `pot_lab.export_model` takes it.
    Raises:
        BadArgument, Oversize, UnsupportedOperator, ExportFailed, BatchMixing, ShapeMismatch, DtypeMismatch, BadDataset,
        UnknownScoreFunction: what is wrong, and where.
    """
    from pot_lab.notebook.data import read_data
    from pot_lab.notebook.order_checks import check_form_of_outputs, check_score_tells, check_trainable
    from pot_lab.scoring import (
        ModelArtifact,
        check_dataset,
        dataset_root,
        load_graph,
        load_weights,
        pack_dataset,
        score_function,
    )
    from pot_lab.scoring.index_bounds import check_indices

    score_function(completed(check_score_name(score)))
    check_model(model)
    train_data, test_data = read_data("train", train), read_data("test", test)
    function = score_function(completed(score, test_data.targets))
    if isinstance(model, ModelArtifact) and output is not None:
        raise BadArgument(
            "`output` chooses among the results of a module, and this model is exported already",
            seen=f"output={output!r}",
            wanted="pot_lab.export_model(..., output=...)",
        )
    artifact = model if isinstance(model, ModelArtifact) else _exported(model, train_data.inputs, output)
    graph = load_graph(artifact.graph)
    tensors = load_weights(graph, artifact.weights)
    check_form_of_outputs(graph, function)
    for name, data in (("train", train_data), ("test", test_data)):
        try:
            check_dataset(graph, data.inputs, data.targets, function)
            check_indices(graph, tensors, data.inputs)
        except PotLabError as error:
            error.message = f"the {name} data do not fit: {error.message}"
            raise
    check_score_tells(graph, function, test_data)
    check_trainable(graph, artifact.weights, train_data, function)
    return PreparedOrder(
        graph=artifact.graph,
        weights=artifact.weights,
        train=pack_dataset(*train_data),
        test=pack_dataset(*test_data),
        test_root=dataset_root(*test_data),
        test_examples=test_data.examples,
        score=ScoreSpec(name=function.full_name, version=function.version),
    )


def seal_test(
    prepared: PreparedOrder,
    members: Sequence[Member],
    random_bytes: Callable[[int], bytes],
    *,
    network_id: bytes,
    client: bytes,
    nonce: int,
) -> SealedTest:
    """Encrypt the test part and split its key among the aggregators: n-f of them open it, fewer cannot.

    Args:
        prepared: the order's contents.
        network_id, client, nonce: the network, the client's address and the order's nonce, to which every commitment
            and share is bound, so that a copy of them in another order opens nothing.
        members: the network's aggregators now; each share is sealed to one's `sealing_public`.
        random_bytes: source of uniformly random bytes for the key and its shares, e.g. `os.urandom`.
    Raises:
        BadReplicaCount: there are too few or too many aggregators.
        Malformed: an aggregator's sealing key is not an X25519 key.
    """
    check_size(len(members))
    key = random_bytes(KEY_BYTES)
    binding = sealing_binding(network_id, client, nonce, prepared.test_root)
    shares = split(key, correct(len(members)), len(members), random_bytes)
    return SealedTest(
        ciphertext=encrypt(key, prepared.test),
        key=key,
        key_commitment=key_commitment(binding, key),
        share_commitments=tuple(share_commitment(binding, share) for share in shares),
        sealed_shares=tuple(
            seal(member.sealing_public, encode(share), share_context(binding, member.address, index))
            for index, (member, share) in enumerate(zip(members, shares, strict=True))
        ),
    )


def seal_by_s(windows: Windows, parameters: Parameters, now_s: int) -> int:
    """When the client may take the escrow back (Unix seconds): well after the longest cycle, the wait in the pool and
    the settlement.
    """
    slack_ms = parameters.pool_ms + parameters.update_ms + parameters.settlement_timeout_ms + parameters.seal_margin_ms
    return now_s + -(-(windows.longest_ms + slack_ms) // 1000) + SEAL_SLACK_S


def draft(
    prepared: PreparedOrder,
    sealed: SealedTest,
    terms: OrderTerms,
    *,
    client: Address,
    network_id: bytes,
    parameters: Parameters,
    uri_of: Callable[[bytes], str],
    now_ms: int,
) -> OrderRecord:
    """The complete record, checked as the ledger will check it, before anything is uploaded.

    Args:
        prepared, sealed: the order's contents.
        terms: what the client offers.
        client: the client's address (20 bytes).
        network_id: the network's id (32 bytes).
        parameters: the network's.
        uri_of: the address that a blob will have, by its SHA-256 (`Store.uri`).
        now_ms: the time (Unix milliseconds): the order's nonce, and what its escrow deadline counts from.
    Raises:
        BadOrder, BadWindows, RewardTooSmall, UnknownScoreFunction, WrongNetwork, Malformed: the rule that is broken.
    """

    def link(data: bytes) -> Link:
        digest = sha256(data)
        return Link(digest=digest, size_bytes=len(data), uri=uri_of(digest))

    test = TestData(
        link=link(sealed.ciphertext),
        root=prepared.test_root,
        plain_digest=sha256(prepared.test),
        plain_bytes=len(prepared.test),
        examples=prepared.test_examples,
        key_commitment=sealed.key_commitment,
        share_commitments=sealed.share_commitments,
        sealed_shares=sealed.sealed_shares,
    )
    order = OrderRecord(
        network_id=network_id,
        client=client,
        nonce=now_ms,
        seal_by_s=seal_by_s(terms.windows, parameters, now_ms // 1000),
        reward_grains=terms.reward_grains,
        fee_grains=terms.fee_grains,
        bond_grains=terms.bond_grains,
        model=link(prepared.graph),
        weights=link(prepared.weights),
        train=link(prepared.train),
        test=test,
        score=prepared.score,
        windows=terms.windows,
        claim_bond_grains=terms.claim_bond_grains,
        baseline_total=terms.baseline_total,
        baseline_count=terms.baseline_count,
        margin_micro=terms.margin_micro,
        title=terms.title,
        tags=terms.tags,
    )
    order = _with_time_for_files(order, parameters, now_ms)
    order.check(network_id, len(sealed.sealed_shares), parameters)
    return order


def _with_time_for_files(order: OrderRecord, parameters: Parameters, now_ms: int) -> OrderRecord:
    """The order, with its windows no shorter than the network asks for files as large as its own."""
    least_ms = order.least_windows_ms(parameters)
    longer = {name: max(least, getattr(order.windows, name)) for name, least in least_ms.items()}
    windows = structs.replace(order.windows, **longer)
    return structs.replace(order, windows=windows, seal_by_s=seal_by_s(windows, parameters, now_ms // 1000))


def upload(prepared: PreparedOrder, sealed: SealedTest, order: OrderRecord, store: Store) -> None:
    """Put the order's contents into the store that its links name.

    Raises:
        StoreFull, LinkDead, TooBig: the store does not accept it; nothing was ordered.
        InvariantBroken: the store gave a blob another link than the order's, which nobody could follow.
    """
    for link, data in (
        (order.model, prepared.graph),
        (order.weights, prepared.weights),
        (order.train, prepared.train),
        (order.test.link, sealed.ciphertext),
    ):
        found = store.put(data)
        if found != link:
            raise InvariantBroken("the store gave a blob another link than the order's", seen=found, wanted=link)


def _exported(model: object, inputs: Inputs, output: str | int | None) -> ModelArtifact:
    import torch

    from pot_lab.scoring import export_model
    from pot_lab.scoring.dataset import INPUT_DTYPES
    from pot_lab.scoring.errors import DtypeMismatch
    from pot_lab.scoring.export.given_modules import refuse_unready
    from pot_lab.scoring.export.trial import TRIED, has_lazy_parts, left_as_it_was

    if not isinstance(model, torch.nn.Module):
        wanted = "a torch.nn.Module, or what export_model returned"
        raise BadArgument("`model` is not a module", seen=type(model).__name__, wanted=wanted)
    refuse_unready(model)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    for x in given:
        if x.dim() == 0 or len(x) < 2:
            raise BadArgument("`train` needs at least two examples", seen=f"inputs of shape {tuple(x.shape)}")
        if x.dtype not in INPUT_DTYPES:
            raise DtypeMismatch(
                "the train inputs have a number type that data may not have",
                seen=x.dtype,
                wanted=", ".join(map(str, INPUT_DTYPES)) + ", as with .float() or .long()",
            )
    few = tuple(x[:TRIED] for x in given)
    with contextlib.nullcontext() if has_lazy_parts(model) else left_as_it_was(model):
        _try_out(model, tuple(x[:2] for x in given))
    return export_model(model, few, output=output)


def _try_out(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Run the module once as it is, since its own complaint about wrong inputs reads better than an exporter's."""
    import torch

    from pot_lab.scoring.errors import ShapeMismatch

    modes = [(part, part.training) for part in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        _refuse_types(model, inputs)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ShapeMismatch(
            "the model does not run on the train inputs", seen=f"inputs of shape {shapes}: {reason}"
        ) from error
    finally:
        for part, mode in modes:
            part.training = mode


def _refuse_types(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse inputs of another number type than all parameters, which is why a module did not run on them."""
    import torch

    from pot_lab.scoring.errors import DtypeMismatch

    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    given = next((x.dtype for x in inputs if x.is_floating_point() and x.dtype not in types), None)
    if given is None or len(types) != 1:
        return
    (own,) = types
    half = own not in (torch.float32, torch.float64)
    raise DtypeMismatch(
        "the train inputs have another number type than the model's parameters",
        seen=given,
        wanted=f"model.float(), or a forward that begins with x.to({own})"
        if half
        else f"{own}, as with .to({own}) or .astype({str(own).removeprefix('torch.')!r})",
    )
