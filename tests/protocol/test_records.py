"""Records: what an order may ask for, and ids and commitments that no change of code may change."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pot_lab.crypto.canonical import Record, decode, encode, keccak256, sha256
from pot_lab.crypto.link import Link
from pot_lab.crypto.shamir import Share
from pot_lab.errors import PotLabError
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.records import (
    MAX_GRAINS,
    MAX_TEST_BYTES,
    ORDER_LIMIT_BYTES,
    ClaimScore,
    HeldBlob,
    OrderRecord,
    ScoreSpec,
    TestData,
    Windows,
    claim_commitment,
    key_commitment,
    model_id,
    opening_name,
    order_id,
    sealing_binding,
    share_commitment,
    share_context,
    validation_commitment,
)
from pot_lab.protocol.state import Genesis, Member, State
from pot_lab.protocol.transactions import Claim, sign
from tests.protocol.world import key

NETWORK, ORDER_ID, MID, SALT, ROOT = (bytes([i]) * 32 for i in range(1, 6))
ACCOUNT = b"\x11" * 20


def fixed_order() -> OrderRecord:
    """An order whose every byte is written here."""
    blob = Link(b"\x21" * 32, 1_000, "https://example.org/blob")
    test = TestData(
        link=blob,
        root=ROOT,
        plain_digest=b"\x22" * 32,
        plain_bytes=900,
        examples=10,
        key_commitment=b"\x23" * 32,
        share_commitments=(b"\x24" * 32,) * 4,
        sealed_shares=(b"\x25" * 81,) * 4,
    )
    windows = Windows(
        train_ms=10_000,
        reveal_ms=5_000,
        release_ms=5_000,
        score_ms=5_000,
        open_scores_ms=5_000,
        challenge_ms=3_000,
        open_challenges_ms=2_000,
        judge_ms=2_000,
    )
    return OrderRecord(
        network_id=NETWORK,
        client=ACCOUNT,
        nonce=7,
        seal_by_s=1_900_000_000,
        reward_grains=25 * 10**9,
        fee_grains=10**9,
        bond_grains=25 * 10**8,
        model=blob,
        weights=blob,
        train=blob,
        test=test,
        score=ScoreSpec("accuracy", 1),
        windows=windows,
        claim_bond_grains=10**9,
        baseline_total=9,
        baseline_count=10,
        margin_micro=1_000,
        title="digits",
        tags=("vision",),
    )


GENESIS = Genesis(
    name="golden",
    chain_id=1337,
    settlement_contract=b"\x07" * 20,
    members=tuple(Member(bytes([i]) * 20, bytes([i]) * 32) for i in range(4)),
    parameters=Parameters(),
)


# Golden: a change of any of these bytes parts the network from its own past, and from the contracts.
GOLDEN = {
    "order": lambda: sha256(encode(fixed_order())),
    "order id": lambda: fixed_order().id,
    "genesis": lambda: GENESIS.network_id,
    "model id": lambda: model_id(b"\x31" * 32, b"\x32" * 32),
    "claim commitment": lambda: claim_commitment(NETWORK, ORDER_ID, ACCOUNT, MID, HeldBlob(ROOT, 7), ROOT, SALT),
    "opening name": lambda: opening_name(NETWORK, ORDER_ID, MID),
    "validation commitment": lambda: validation_commitment(
        NETWORK, ORDER_ID, MID, ACCOUNT, ClaimScore(-5, 10, True), ROOT, SALT
    ),
    "key commitment": lambda: key_commitment(sealing_binding(NETWORK, ACCOUNT, 9, ROOT), b"\x33" * 32),
    "share commitment": lambda: share_commitment(sealing_binding(NETWORK, ACCOUNT, 9, ROOT), Share(3, b"\x34" * 32)),
    "share context": lambda: share_context(sealing_binding(NETWORK, ACCOUNT, 9, ROOT), ACCOUNT, 3),
    "transaction": lambda: sha256(sign(NETWORK, Claim(ORDER_ID, MID), key("golden"), 5)),
}
EXPECTED = {
    "order": "cdc9c84276aab07057d7b0e8dd117401d08605d023db2118df3ba6e1e340bcc7",
    "order id": "522ea16d24746d2a2774333bc735224711aa90841ce80ab825096d6447a2040a",
    "genesis": "55a66e0af0a5d5502d77838253c6400865f72e8c89237bd7a10fe40446845738",
    "model id": "081cdf5202c3c2f0ee4c230e44ddc6491a3f24b94c486d55713952753b3422ef",
    "claim commitment": "08d15aa99aba481a23969486a357f960207d61fff5abe6a6d91874a33d195122",
    "opening name": "8d28d7a41ac8939c0e4faec7372f60d7d26c0b33e1103b31ca096f351c7c25e9",
    "validation commitment": "b4310c7f8e9f3869b6b771d7f58965389581e80525c9c34a8c8e8bef01ca8c00",
    "key commitment": "16ff7fffdfe3b37169766ae29c9a0a681ff60c8028f2f87201dee08a3a332f0b",
    "share commitment": "86a84c2a2a6e8c1e293dd06563b144bcd373bc54e45c231d69960913846b11d5",
    "share context": "f12ed1167582461b01d8b36d113ad1e7cc5fefc82ce1f42a6ce294d177e17896",
    "transaction": "021445e6268564cfc62ec401ddd5f5105c9d8f75afa18c0ae77d50ea035b2ba1",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_known_bytes(name: str) -> None:
    assert GOLDEN[name]().hex() == EXPECTED[name]


def test_commitments_are_what_their_text_says() -> None:
    def tagged(tag: str, *parts: bytes) -> bytes:
        text = bytes([len(tag)]) + tag.encode() + b"".join(len(p).to_bytes(8, "big") + p for p in parts)
        return hashlib.sha256(text).digest()

    assert claim_commitment(NETWORK, ORDER_ID, ACCOUNT, MID, HeldBlob(ROOT, 7), ROOT, SALT) == tagged(
        "pot-lab/claim/2", NETWORK, ORDER_ID, ACCOUNT, MID, ROOT + (7).to_bytes(8, "big"), ROOT, bytes(32), SALT
    )
    words = bytes(12) + ACCOUNT + (7).to_bytes(32, "big") + (9).to_bytes(32, "big") + ROOT
    assert order_id(ACCOUNT, 7, 9, ROOT) == keccak256(words)


def test_a_commitment_changes_with_everything_that_it_names() -> None:
    other = b"\x99" * 32
    base = (NETWORK, ORDER_ID, MID, ACCOUNT, ClaimScore(5, 10, True), ROOT, SALT)
    changes = (other, other, other, b"\x99" * 20, ClaimScore(6, 10, True), other, other)
    seen = {validation_commitment(*base)}
    for i, change in enumerate(changes):
        seen.add(validation_commitment(*base[:i], change, *base[i + 1 :]))  # type: ignore[arg-type]
    seen.add(validation_commitment(*base[:4], ClaimScore(5, 10, False), *base[5:]))
    seen.add(validation_commitment(*base[:4], ClaimScore(5, 11, True), *base[5:]))
    assert len(seen) == 10
    parts = (NETWORK, ORDER_ID, ACCOUNT, MID, HeldBlob(ROOT, 7), ROOT, SALT)
    changes = (other, other, other, other, HeldBlob(other, 7), other, other)
    claims = {claim_commitment(*parts), claim_commitment(*parts[:4], HeldBlob(ROOT, 8), *parts[5:])}
    claims |= {claim_commitment(*parts[:i], change, *parts[i + 1 :]) for i, change in enumerate(changes)}
    assert len(claims) == 9


FAST = structs.replace(
    Parameters(), window_bytes_per_s=10**9, max_window_ms=60 * 86_400_000, unbonding_ms=365 * 86_400_000
)
"""A network on which the largest files can be fetched within a window."""


def check(order: OrderRecord, parameters: Parameters | None = None) -> None:
    order.check(NETWORK, 4, parameters or Parameters())


def with_time(order: OrderRecord) -> OrderRecord:
    """The order with windows that are long enough for its files."""
    return structs.replace(order, windows=structs.replace(order.windows, **order.least_windows_ms(FAST)))


def test_a_right_order_passes_and_comes_back_from_its_bytes() -> None:
    order = fixed_order()
    check(order)
    assert decode(encode(order), OrderRecord, limit_bytes=ORDER_LIMIT_BYTES) == order


def in_test(**changes: Any) -> dict[str, Any]:
    return {"test": structs.replace(fixed_order().test, **changes)}


def in_windows(**changes: Any) -> dict[str, Any]:
    return {"windows": structs.replace(fixed_order().windows, **changes)}


LINK = fixed_order().model
BAD = [
    ({"network_id": b"\x02" * 32}, "WrongNetwork"),
    ({"network_id": b""}, "WrongNetwork"),
    ({"client": ACCOUNT[:19]}, "BadOrder"),
    ({"nonce": -1}, "BadOrder"),
    ({"nonce": 1 << 63}, "BadOrder"),
    ({"seal_by_s": -1}, "BadOrder"),
    ({"seal_by_s": 1 << 40}, "BadOrder"),
    ({"reward_grains": 0}, "RewardTooSmall"),
    ({"reward_grains": -1}, "RewardTooSmall"),
    ({"reward_grains": MAX_GRAINS + 1}, "RewardTooSmall"),
    ({"fee_grains": 1}, "RewardTooSmall"),
    ({"bond_grains": 1}, "RewardTooSmall"),
    ({"claim_bond_grains": 1}, "RewardTooSmall"),
    ({"claim_bond_grains": MAX_GRAINS + 1}, "RewardTooSmall"),
    ({"claim_bond_grains": 25 * 10**9 // 20 + 1}, "RewardTooSmall"),
    ({"bond_grains": 25 * 10**8 - 1}, "RewardTooSmall"),
    *((in_windows(**{name: ms}), "BadWindows") for name in Windows.__struct_fields__ for ms in (-1, 0, 1, 1 << 62)),
    ({"score": ScoreSpec("accuracy", 2)}, "UnknownScoreFunction"),
    ({"score": ScoreSpec("__import__('os')", 1)}, "UnknownScoreFunction"),
    *(({name: structs.replace(LINK, digest=b"")}, "Malformed") for name in ("model", "weights", "train")),
    (in_test(link=structs.replace(LINK, size_bytes=-1)), "Malformed"),
    (in_test(root=b""), "BadOrder"),
    (in_test(plain_digest=b"\x01" * 33), "BadOrder"),
    (in_test(key_commitment=b""), "BadOrder"),
    (in_test(examples=0), "BadOrder"),
    (in_test(examples=1 << 40), "BadOrder"),
    (in_test(plain_bytes=0), "BadOrder"),
    (in_test(plain_bytes=1_001), "BadOrder"),
    (in_test(link=structs.replace(LINK, size_bytes=1 << 40), plain_bytes=MAX_TEST_BYTES + 1), "BadOrder"),
    (in_test(link=structs.replace(LINK, size_bytes=2 * MAX_TEST_BYTES + 1), plain_bytes=1), "BadOrder"),
    (in_test(share_commitments=(ROOT,) * 3), "BadOrder"),
    (in_test(share_commitments=(ROOT,) * 3 + (b"",)), "BadOrder"),
    (in_test(sealed_shares=(b"",) * 5), "BadOrder"),
    (in_test(sealed_shares=(b"x" * 257,) * 4), "BadOrder"),
    ({"baseline_count": -1}, "BadOrder"),
    ({"baseline_total": 1 << 62}, "BadOrder"),
    ({"baseline_total": -(1 << 62)}, "BadOrder"),
    ({"baseline_count": 1 << 40}, "BadOrder"),
    ({"margin_micro": -1}, "BadOrder"),
    ({"margin_micro": 1 << 40}, "BadOrder"),
    ({"reward_grains": Parameters().min_reward_grains - 1}, "RewardTooSmall"),
    ({"fee_grains": Parameters().min_fee_grains - 1}, "RewardTooSmall"),
    ({"bond_grains": Parameters().min_bond_grains - 1}, "RewardTooSmall"),
    ({"claim_bond_grains": Parameters().min_claim_bond_grains - 1}, "RewardTooSmall"),
    ({"fee_grains": MAX_GRAINS + 1}, "RewardTooSmall"),
    ({"bond_grains": MAX_GRAINS + 1}, "RewardTooSmall"),
    ({"title": "x" * 121}, "BadOrder"),
    ({"title": "\x1b[2J"}, "BadOrder"),
    ({"title": "two\nlines"}, "BadOrder"),
    ({"tags": ("x",) * 9}, "BadOrder"),
    ({"tags": ("x" * 33,)}, "BadOrder"),
    ({"tags": ("\u202e",)}, "BadOrder"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code"), BAD, ids=str)
def test_an_order_that_cannot_be_kept_is_refused_by_name(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(PotLabError) as refusal:
        check(structs.replace(fixed_order(), **changes))
    assert refusal.value.code == code


GOOD = [
    {"nonce": 0},
    {"nonce": (1 << 63) - 1},
    {"seal_by_s": 0},
    {"seal_by_s": (1 << 40) - 1},
    {"reward_grains": MAX_GRAINS, "bond_grains": MAX_GRAINS // 10},
    *({f"{name}_grains": MAX_GRAINS} for name in ("fee", "bond")),
    *({f"{name}_grains": getattr(Parameters(), f"min_{name}_grains")} for name in ("reward", "fee", "claim_bond")),
    {"reward_grains": 10**9, "bond_grains": Parameters().min_bond_grains},
    {"claim_bond_grains": 25 * 10**9 // 20},
    in_test(examples=1),
    in_test(examples=(1 << 40) - 1),
    in_test(plain_bytes=1),
    in_test(plain_bytes=1_000),
    in_test(link=structs.replace(LINK, size_bytes=2 * MAX_TEST_BYTES), plain_bytes=MAX_TEST_BYTES),
    in_test(sealed_shares=(b"x" * 256,) * 4),
    {"baseline_count": 0},
    {"baseline_count": (1 << 40) - 1},
    {"baseline_total": (1 << 62) - 1},
    {"baseline_total": 1 - (1 << 62)},
    {"margin_micro": 0},
    {"margin_micro": (1 << 40) - 1},
    {"title": "x" * 120},
    {"tags": ("x" * 32,) * 8},
]


@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_an_order_at_its_bounds_is_taken(changes: dict[str, Any]) -> None:
    check(with_time(structs.replace(fixed_order(), **changes)), FAST)


@given(st.integers(100, 10**7), st.integers(100, 10**7))
def test_the_longest_cycle_counts_the_extension(train_ms: int, other_ms: int) -> None:
    windows = Windows(train_ms=train_ms, **dict.fromkeys(Windows.__struct_fields__[1:], other_ms))
    assert windows.longest_ms == train_ms + 10 * other_ms


def test_windows_follow_the_sizes_of_files() -> None:
    order = structs.replace(
        fixed_order(),
        model=Link(ROOT, 1_000, "a:b"),
        weights=Link(ROOT, 2_000_000, "a:b"),
        test=structs.replace(fixed_order().test, link=Link(ROOT, 3_500_001, "a:b"), examples=500_000),
    )
    least = order.least_windows_ms(structs.replace(Parameters(), min_window_ms=500, min_challenge_ms=1_000))
    assert least == {
        "reveal_ms": 2_501,
        "release_ms": 6_001,
        "score_ms": 6_001,
        "open_scores_ms": 4_500,
        "challenge_ms": 10_501,
        "open_challenges_ms": 500,
        "judge_ms": 6_501,
    }


def test_the_largest_order_fits_the_limit() -> None:
    link = Link(b"\x01" * 32, (1 << 50) - 1, "~" * 512)
    test = TestData(
        link=structs.replace(link, size_bytes=2 * MAX_TEST_BYTES),
        root=ROOT,
        plain_digest=ROOT,
        plain_bytes=MAX_TEST_BYTES,
        examples=1 << 39,
        key_commitment=ROOT,
        share_commitments=(ROOT,) * 100,
        sealed_shares=(b"x" * 256,) * 100,
    )
    order = structs.replace(
        fixed_order(), model=link, weights=link, train=link, test=test, title="é" * 120, tags=("é" * 32,) * 8
    )
    order = with_time(order)
    order.check(NETWORK, 100, FAST)
    assert len(encode(order)) < ORDER_LIMIT_BYTES


def every_record(of: type) -> set[type]:
    return {of}.union(*(every_record(each) for each in of.__subclasses__() if each.__module__.startswith("pot_lab.")))


def test_what_the_ledger_keeps_is_built_by_name_too() -> None:
    for kept in every_record(State):
        config = kept.__struct_config__
        assert config.array_like and config.forbid_unknown_fields and len(kept.__match_args__) <= 3, kept


def test_the_windows_length_counts_each_window_and_the_extension() -> None:
    windows = Windows(**{name: 10**place for place, name in enumerate(Windows.__struct_fields__)})
    # train, reveal, twice release, twice score, open scores, challenge, open challenges, twice judge
    assert windows.longest_ms == 21_112_211


def test_a_record_cannot_be_changed_and_has_no_fields_but_its_own() -> None:
    for record in every_record(Record):
        config = record.__struct_config__
        assert config.frozen and config.array_like and config.forbid_unknown_fields, record
        if record.__module__.startswith("pot_lab.protocol"):
            assert len(record.__match_args__) <= 3, f"{record} is built by position"
