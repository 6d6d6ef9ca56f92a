"""What an order is made of: checked bytes, a split key, exact terms, and a record the ledger takes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from pot_lab.agreement.quorum import BadReplicaCount
from pot_lab.crypto.canonical import decode, sha256
from pot_lab.crypto.cipher import decrypt
from pot_lab.crypto.link import Link
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.crypto.shamir import Share, combine
from pot_lab.errors import InvariantBroken, PotLabError
from pot_lab.notebook.errors import BadArgument, BadQuantity
from pot_lab.notebook.posting import (
    SEAL_SLACK_S,
    OrderTerms,
    PreparedOrder,
    SealedTest,
    draft,
    order_terms,
    prepare,
    seal_by_s,
    seal_test,
    upload,
    windows_for,
)
from pot_lab.protocol.errors import BadOrder, BadWindows, RewardTooSmall
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.records import (
    OrderRecord,
    ScoreSpec,
    Windows,
    key_commitment,
    sealing_binding,
    share_commitment,
    share_context,
)
from pot_lab.protocol.state import Member
from pot_lab.scoring import ModelArtifact, dataset_root, export_model, load_graph, pack_dataset, score, unpack_dataset
from pot_lab.scoring.errors import BadWeights, DtypeMismatch, ShapeMismatch
from pot_lab.store import Store
from tests.protocol.world import deterministic_bytes
from tests.scoring.models import several_inputs

NETWORK = sha256(b"network")
CLIENT = b"\x0c" * 20
NOW_MS = 1_800_000_000_123
PARAMETERS = Parameters()


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3))


@pytest.fixture
def net() -> nn.Module:
    return small()


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3


@pytest.fixture(scope="module")
def prepared(data: tuple[torch.Tensor, torch.Tensor]) -> PreparedOrder:
    return prepare(small(), data, (data[0][:7], data[1][:7]), "accuracy")


def members(n: int) -> tuple[list[SealingKey], list[Member]]:
    keys = [SealingKey.from_secret(sha256(b"sealing %d" % i)) for i in range(n)]
    return keys, [Member(bytes([i]) * 20, key.public) for i, key in enumerate(keys)]


def sealed_by(prepared: PreparedOrder, whom: list[Member], random_bytes: Callable[[int], bytes]) -> SealedTest:
    return seal_test(prepared, whom, random_bytes, network_id=NETWORK, client=CLIENT, nonce=NOW_MS)


def sealed_among(n: int, prepared: PreparedOrder) -> SealedTest:
    return sealed_by(prepared, members(n)[1], deterministic_bytes("key"))


# --- prepare -----------------------------------------------------------------------------------------------------


def test_an_order_is_prepared_from_one_input_and_a_torch_dataset(
    net: nn.Module, data: tuple[torch.Tensor, torch.Tensor], prepared: PreparedOrder
) -> None:
    assert prepared == prepare(net, TensorDataset(*data), (data[0][:7], data[1][:7]), "accuracy/1")
    assert prepared.score == ScoreSpec("accuracy", 1)
    assert prepared.test_examples == 7
    assert torch.equal(unpack_dataset(prepared.train).inputs, data[0])
    assert torch.equal(unpack_dataset(prepared.test).targets, data[1][:7])


def test_an_exported_model_is_taken_as_it_is(net: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    artifact = export_model(net, data[0][:2])
    one = prepare(artifact, (data[0][:2], data[1][:2]), data, "cross_entropy")
    assert (one.graph, one.weights) == (artifact.graph, artifact.weights)
    assert one.score.name == "cross_entropy"


def test_an_exported_model_is_checked_against_its_weights(
    net: nn.Module, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    artifact, other = export_model(net, data[0][:2]), export_model(nn.Linear(4, 3), data[0][:2])
    with pytest.raises(BadWeights):
        prepare(ModelArtifact(artifact.graph, other.weights), data, data, "accuracy")


def test_two_training_examples_suffice(net: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert prepare(net, (data[0][:2], data[1][:2]), data, "accuracy").test_examples == 10


def test_a_single_number_is_no_training_data(net: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(BadArgument, match=r"at least two examples \(seen: inputs of shape \(\)\)"):
        prepare(net, (torch.tensor(1.0), data[1]), data, "accuracy")


class Refusing(nn.Module):
    """Runs its parts, then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError(f"no inputs of shape {tuple(self.part(x).shape)} here\nand more lines")


@pytest.mark.parametrize("training", [True, False])
def test_the_users_module_keeps_its_modes(
    training: bool, net: nn.Module, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    for module in (net, Refusing()):
        module.train(training)
        first = next(iter(module.children()))
        first.training = not training
        modes = [part.training for part in module.modules()]
        if module is net:
            prepare(module, data, data, "accuracy")
        else:
            with pytest.raises(ShapeMismatch, match=r"shape \(2, 4\): no inputs of shape \(2, 4\) here\)$"):
                prepare(module, data, data, "accuracy")
        assert [part.training for part in module.modules()] == modes


def test_the_users_module_is_tried_in_eval_mode_and_without_gradients(
    net: nn.Module, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    seen = []
    handle = net[0].register_forward_hook(lambda part, given, out: seen.append((part.training, out.requires_grad)))
    net.train()
    before = net[2].running_mean.clone()
    prepare(net, data, data, "accuracy")
    handle.remove()
    assert seen[0] == (False, False)
    assert torch.equal(net[2].running_mean, before)


def test_a_wrong_number_type_is_named(net: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(
        DtypeMismatch, match=r"than the model's parameters \(seen: torch.float64, wanted: torch.float32"
    ):
        prepare(net, (data[0].double(), data[1]), data, "accuracy")
    with pytest.raises(DtypeMismatch, match="the test data do not fit"):
        prepare(net, data, (data[0].double(), data[1]), "accuracy")
    with pytest.raises(PotLabError, match="the train data do not fit"):
        prepare(net, (data[0], data[1] + 1), data, "accuracy")


def test_what_is_no_module_is_refused(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(BadArgument, match=r"`model` is not a module \(seen: str, wanted: a torch.nn.Module"):
        prepare("resnet50", data, data, "accuracy")  # type: ignore[arg-type]


def test_whole_number_inputs_need_no_floating_parameters(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    words = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3))
    tokens = torch.arange(20).reshape(10, 2) % 9
    assert prepare(words, (tokens, data[1]), (tokens, data[1]), "accuracy").test_examples == 10
    with pytest.raises(ShapeMismatch, match="does not run on the train inputs"):
        prepare(words, (tokens + 9, data[1]), (tokens, data[1]), "accuracy")


# --- the test part's key ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "needed"), [(4, 3), (6, 5), (7, 5), (10, 7)])
def test_n_minus_f_shares_open_the_test_data_and_fewer_do_not(n: int, needed: int, prepared: PreparedOrder) -> None:
    sealed = sealed_among(n, prepared)
    keys, accounts = members(n)
    binding = sealing_binding(NETWORK, CLIENT, NOW_MS, prepared.test_root)
    shares = [
        decode(key.open(box, share_context(binding, accounts[i].address, i)), Share, limit_bytes=1_024)
        for i, (key, box) in enumerate(zip(keys, sealed.sealed_shares, strict=True))
    ]
    assert [share.index for share in shares] == list(range(1, n + 1))
    for first in range(n - needed + 1):
        assert combine(shares[first : first + needed]) == sealed.key
    assert combine(shares[: needed - 1]) != sealed.key
    assert decrypt(sealed.key, sealed.ciphertext) == prepared.test
    assert sealed.key_commitment == key_commitment(binding, sealed.key)
    assert sealed.share_commitments == tuple(share_commitment(binding, share) for share in shares)


def test_the_key_is_32_bytes_of_the_given_randomness(prepared: PreparedOrder) -> None:
    asked = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes(range(len(asked), len(asked) + count))

    assert sealed_by(prepared, members(4)[1], random_bytes).key == bytes(range(1, 33))
    assert asked[0] == 32
    other = sealed_by(prepared, members(4)[1], deterministic_bytes("other"))
    assert other.key == deterministic_bytes("other")(32)
    assert other.ciphertext != sealed_among(4, prepared).ciphertext


@pytest.mark.parametrize("n", [0, 3, 101])
def test_a_key_is_not_split_among_too_few_or_too_many(n: int, prepared: PreparedOrder) -> None:
    with pytest.raises(BadReplicaCount):
        sealed_among(n, prepared)


# --- terms ---------------------------------------------------------------------------------------------------------
def test_what_is_left_out_is_the_networks_minimum() -> None:
    terms = order_terms(PARAMETERS, reward=25, train_for="10min")
    assert terms == OrderTerms(
        reward_grains=25 * 10**9,
        fee_grains=PARAMETERS.min_fee_grains,
        bond_grains=25 * 10**8,
        claim_bond_grains=125 * 10**7,
        windows=windows_for(600_000, PARAMETERS, {}),
        baseline_total=0,
        baseline_count=0,
        margin_micro=0,
        title="",
        tags=(),
    )
    assert terms.escrow_grains == 25 * 10**9 + PARAMETERS.min_fee_grains + 25 * 10**8


def test_terms_are_read_exactly() -> None:
    terms = order_terms(
        PARAMETERS, reward="0.5", train_for=20, baseline=0.9, margin=0.01, fee=2, bond=Decimal("3.5"), claim_bond="1",
        windows={"score": "2min"}, title="digits", tags=["small", "image"],
    )  # fmt: skip
    assert (terms.reward_grains, terms.fee_grains) == (500_000_000, 2 * 10**9)
    assert (terms.bond_grains, terms.claim_bond_grains) == (3_500_000_000, 10**9)
    assert terms.escrow_grains == 6 * 10**9
    assert (terms.windows.train_ms, terms.windows.score_ms) == (20_000, 120_000)
    assert (terms.baseline_total, terms.baseline_count, terms.margin_micro) == (9, 10, 10_000)
    assert (terms.title, terms.tags) == ("digits", ("small", "image"))


def test_a_baseline_of_zero_is_one_and_none_is_none() -> None:
    assert order_terms(PARAMETERS, reward=1, train_for=9, baseline=0).baseline_count == 1
    assert order_terms(PARAMETERS, reward=1, train_for=9).baseline_count == 0
    third = order_terms(PARAMETERS, reward=1, train_for=9, baseline=Fraction(1, 3))
    assert (third.baseline_total, third.baseline_count) == (1, 3)
    fine = order_terms(PARAMETERS, reward=1, train_for=9, baseline=Fraction(1, 1_000_001))
    assert fine.baseline_count <= 1_000_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward": "lots"}, "lots"),
        ({"train_for": "a while"}, "a while"),
        ({"baseline": float("nan")}, "the baseline is not a finite number"),
        ({"margin": float("inf")}, "the margin is not a finite number"),
        ({"margin": "much"}, "the margin is not a finite number"),
        ({"windows": {"score": "soon"}}, "soon"),
    ],
)
def test_terms_that_cannot_be_read_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadQuantity, match=words):
        order_terms(PARAMETERS, **{"reward": 1, "train_for": 9, **change})


# --- windows -------------------------------------------------------------------------------------------------------
def test_windows_are_the_networks_usual_ones_but_for_the_changes() -> None:
    usual = windows_for(5_000, PARAMETERS, {})
    assert msgspec.structs.astuple(usual) == (5_000, *PARAMETERS.usual_windows_ms)
    changed = windows_for(5_000, PARAMETERS, {"reveal": 7_000, "judge": 8_000})
    assert changed == msgspec.structs.replace(usual, reveal_ms=7_000, judge_ms=8_000)


@pytest.mark.parametrize("name", ["lunch", "train", "reveal_ms"])
def test_a_window_that_there_is_not_is_refused(name: str) -> None:
    wanted = "reveal, release, score, open_scores, challenge, open_challenges, judge"
    with pytest.raises(BadArgument, match=rf"no such window \(seen: {name}, wanted: .*{wanted}\)"):
        windows_for(5_000, PARAMETERS, {name: 1_000, "score": 1_000})


def test_windows_outside_the_networks_bounds_are_refused() -> None:
    with pytest.raises(BadWindows, match="the train window is too short"):
        windows_for(PARAMETERS.min_train_ms - 1, PARAMETERS, {})
    with pytest.raises(BadWindows, match="the challenge window is too long"):
        windows_for(5_000, PARAMETERS, {"challenge": PARAMETERS.max_window_ms + 1})


# --- the record ----------------------------------------------------------------------------------------------------
def test_the_escrow_stays_until_well_after_the_longest_cycle() -> None:
    parameters = Parameters(pool_ms=10_000, update_ms=2_000, settlement_timeout_ms=3_000, seal_margin_ms=4_000)
    windows = Windows(
        train_ms=10_000, reveal_ms=1_000, release_ms=1_000, score_ms=1_000, open_scores_ms=1_000, challenge_ms=1_000,
        open_challenges_ms=1_000, judge_ms=1_000,
    )  # fmt: skip
    assert windows.longest_ms == 20_000  # release and judging may take their windows twice
    assert seal_by_s(windows, parameters, 1_000) == 1_000 + 20 + 10 + 2 + 3 + 4 + SEAL_SLACK_S
    assert SEAL_SLACK_S == 3_600
    odd = msgspec.structs.replace(windows, train_ms=10_001)
    assert seal_by_s(odd, parameters, 1_000) == seal_by_s(windows, parameters, 1_000) + 1


def drafted(prepared: PreparedOrder, sealed: SealedTest, terms: OrderTerms, store: Store) -> OrderRecord:
    return draft(
        prepared, sealed, terms, client=CLIENT, network_id=NETWORK, parameters=PARAMETERS, uri_of=store.uri,
        now_ms=NOW_MS,
    )  # fmt: skip


def test_the_record_holds_terms_contents_and_time(prepared: PreparedOrder, tmp_path: Path) -> None:
    sealed, store = sealed_among(4, prepared), Store(str(tmp_path))
    terms = order_terms(
        PARAMETERS,
        reward=80,
        train_for=20,
        baseline=0.9,
        margin=0.01,
        fee=2,
        bond=9,
        claim_bond=4,
        title="t",
        tags=["u"],
    )
    order = drafted(prepared, sealed, terms, store)
    assert (order.network_id, order.client, order.nonce) == (NETWORK, CLIENT, NOW_MS)
    assert order.seal_by_s == seal_by_s(terms.windows, PARAMETERS, NOW_MS // 1_000)
    for name in OrderTerms.__dataclass_fields__:
        assert getattr(order, name) == getattr(terms, name), name
    assert order.score == prepared.score
    for link, data in (
        (order.model, prepared.graph),
        (order.weights, prepared.weights),
        (order.train, prepared.train),
        (order.test.link, sealed.ciphertext),
    ):
        assert link == Link(digest=sha256(data), size_bytes=len(data), uri=store.uri(sha256(data)))
    assert (order.test.root, order.test.plain_digest) == (prepared.test_root, sha256(prepared.test))
    assert (order.test.plain_bytes, order.test.examples) == (len(prepared.test), 7)
    assert order.test.key_commitment == sealed.key_commitment
    assert order.test.share_commitments == sealed.share_commitments
    assert order.test.sealed_shares == sealed.sealed_shares


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"reward": 0}, RewardTooSmall),
        ({"fee": 0}, RewardTooSmall),
        ({"claim_bond": 0}, RewardTooSmall),
        ({"claim_bond": 2}, RewardTooSmall),
        ({"bond": 0.4}, RewardTooSmall),
        ({"title": "x" * 121}, BadOrder),
        ({"tags": ["bad\n"]}, BadOrder),
        ({"margin": -1}, BadOrder),
    ],
)
def test_what_the_ledger_would_refuse_is_refused_before_the_upload(
    change: dict[str, Any], error: type[PotLabError], prepared: PreparedOrder, tmp_path: Path
) -> None:
    terms = order_terms(PARAMETERS, **{"reward": 5, "train_for": 20, **change})
    with pytest.raises(error):
        drafted(prepared, sealed_among(4, prepared), terms, Store(str(tmp_path)))


def test_uploaded_files_are_where_the_record_says(prepared: PreparedOrder, tmp_path: Path) -> None:
    sealed, store = sealed_among(4, prepared), Store(str(tmp_path))
    order = drafted(prepared, sealed, order_terms(PARAMETERS, reward=5, train_for=20), store)
    upload(prepared, sealed, order, store)
    limits = {"limit_bytes": 1 << 20, "timeout_s": 10.0}
    assert store.fetch(order.model, **limits) == prepared.graph
    assert store.fetch(order.weights, **limits) == prepared.weights
    assert store.fetch(order.train, **limits) == prepared.train
    assert decrypt(sealed.key, store.fetch(order.test.link, **limits)) == prepared.test
    assert {path.name for path in tmp_path.iterdir() if len(path.name) == 64} == {
        link.digest.hex() for link in (order.model, order.weights, order.train, order.test.link)
    }


def test_another_store_than_the_records_is_noticed(prepared: PreparedOrder, tmp_path: Path) -> None:
    sealed = sealed_among(4, prepared)
    order = drafted(prepared, sealed, order_terms(PARAMETERS, reward=5, train_for=20), Store(str(tmp_path / "a")))
    with pytest.raises(InvariantBroken, match="another link"):
        upload(prepared, sealed, order, Store(str(tmp_path / "b")))


# --- models of several inputs (a transformer: slow to export, so last) ------------------------------------------
def test_an_order_takes_several_inputs(tmp_path: Path) -> None:
    module, inputs, targets = several_inputs()
    train = tuple(x[:50] for x in inputs), targets[:50]
    test = tuple(x[50:] for x in inputs), targets[50:]
    found = prepare(module, train, test, "accuracy")
    assert [i.name for i in load_graph(found.graph).inputs] == ["input_ids", "attention_mask", "features"]
    assert found.test_root == dataset_root(*test) and found.test_examples == 20
    again = unpack_dataset(found.test)
    assert score((found.graph, found.weights), *again) == score(module, *test)
    path = tmp_path / "train.safetensors"
    path.write_bytes(pack_dataset(*train))
    arrays = tuple(x.numpy() for x in test[0]), test[1].numpy()
    assert prepare(module, path, arrays, "accuracy") == found


@pytest.mark.parametrize("short", [0, 1, 2])
def test_inputs_that_do_not_fit_one_another_are_refused(short: int) -> None:
    module, inputs, targets = several_inputs()
    fewer = tuple(x[:40] if i == short else x for i, x in enumerate(inputs))
    with pytest.raises(ShapeMismatch, match=rf"the test data do not fit: inputs\.{short} and targets"):
        prepare(module, (inputs, targets), (fewer, targets), "accuracy")


def test_missing_inputs_are_refused_with_a_reason() -> None:
    module, inputs, targets = several_inputs()
    with pytest.raises(PotLabError, match="does not run on the train inputs"):
        prepare(module, (inputs[0], targets), (inputs, targets), "accuracy")
    with pytest.raises(ShapeMismatch, match=r"the test data do not fit.*another number of inputs"):
        prepare(module, (inputs, targets), (inputs[:2], targets), "accuracy")
    with pytest.raises(BadArgument, match="not a pair"):
        prepare(module, (*inputs, targets), (inputs, targets), "accuracy")
    with pytest.raises(BadArgument, match="at least two examples"):
        prepare(module, (tuple(x[:1] for x in inputs), targets[:1]), (inputs, targets), "accuracy")
    with pytest.raises(BadArgument, match="no tensor of numbers"):
        prepare(module, ((inputs[0], "mask"), targets), (inputs, targets), "accuracy")
