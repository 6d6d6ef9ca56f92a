"""Sealed models: n-f holders open one, fewer do not, and nothing of it opens in another place."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.canonical import decode, encode, sha256
from pot_lab.crypto.cipher import decrypt
from pot_lab.crypto.sealed_box import CannotOpen, SealingKey, seal
from pot_lab.crypto.sealed_model import (
    BoxHolder,
    KeyBox,
    KeyBoxes,
    SealedModel,
    _box_context,
    check_key_boxes,
    is_promised_share,
    model_binding,
    model_key,
    model_share_commitment,
    open_model_share,
    seal_model,
)
from pot_lab.crypto.shamir import BadShares, Share
from pot_lab.errors import Malformed

NETWORK, ORDER, PROVIDER = b"\x01" * 32, b"\x02" * 32, b"\x03" * 20
KEYS = [SealingKey.from_secret(bytes([i + 1]) * 32) for i in range(10)]
HOLDERS = [BoxHolder(bytes([i + 1]) * 20, key.public) for i, key in enumerate(KEYS)]


def sealed(model: bytes = b"weights", n: int = 4, seed: int = 1) -> SealedModel:
    return seal_model(
        model,
        HOLDERS[:n],
        correct(n),
        random.Random(seed).randbytes,
        network_id=NETWORK,
        order_id=ORDER,
        provider=PROVIDER,
    )


def shares_of(made: SealedModel) -> list[Share]:
    """What the holders publish."""
    binding = model_binding(NETWORK, ORDER, PROVIDER, sha256(made.ciphertext))
    return [
        open_model_share(box, KEYS[place], binding=binding, holder=HOLDERS[place].account, place=place)
        for place, box in enumerate(made.boxes.boxes)
    ]


@given(st.binary(max_size=300), st.integers(4, 10), st.randoms(use_true_random=False))
def test_any_threshold_of_the_holders_opens_the_model(model: bytes, n: int, source: random.Random) -> None:
    made = sealed(model, n, source.randrange(1 << 32))
    shares = shares_of(made)
    source.shuffle(shares)
    key = model_key(shares, threshold=correct(n), binding=made.binding, commitment=made.boxes.key_commitment)
    assert key == made.key and decrypt(key, made.ciphertext) == model
    with pytest.raises(BadShares):
        model_key(
            shares[: correct(n) - 1],
            threshold=correct(n),
            binding=made.binding,
            commitment=made.boxes.key_commitment,
        )


@given(st.randoms(use_true_random=False))
def test_one_share_too_few_gives_another_key(source: random.Random) -> None:
    made = sealed(seed=source.randrange(1 << 32))
    shares = source.sample(shares_of(made), correct(4) - 1)
    with pytest.raises(BadShares):
        model_key(shares, threshold=len(shares), binding=made.binding, commitment=made.boxes.key_commitment)


ELSEWHERE: list[Callable[[SealedModel], bytes]] = [
    lambda made: model_binding(b"\x09" * 32, ORDER, PROVIDER, sha256(made.ciphertext)),
    lambda made: model_binding(NETWORK, b"\x09" * 32, PROVIDER, sha256(made.ciphertext)),
    lambda made: model_binding(NETWORK, ORDER, b"\x09" * 20, sha256(made.ciphertext)),
    lambda made: model_binding(NETWORK, ORDER, PROVIDER, sha256(made.ciphertext[:-1])),
]


@pytest.mark.parametrize("elsewhere", ELSEWHERE, ids=["network", "order", "account", "ciphertext"])
def test_nothing_opens_under_another_network_order_account_or_ciphertext(
    elsewhere: Callable[[SealedModel], bytes],
) -> None:
    made = sealed()
    other = elsewhere(made)
    for place, box in enumerate(made.boxes.boxes):
        with pytest.raises(CannotOpen):
            open_model_share(box, KEYS[place], binding=other, holder=HOLDERS[place].account, place=place)
    shares = shares_of(made)
    for place, share in enumerate(shares):
        commitment = made.boxes.boxes[place].commitment
        assert is_promised_share(share, commitment, binding=made.binding, place=place)
        assert not is_promised_share(share, commitment, binding=other, place=place)
    with pytest.raises(BadShares):
        model_key(shares, threshold=3, binding=other, commitment=made.boxes.key_commitment)


def test_a_box_opens_for_its_holder_at_its_place_only() -> None:
    made = sealed()
    box = made.boxes.boxes[1]
    for key, holder, place in ((KEYS[0], 1, 1), (KEYS[1], 0, 1), (KEYS[1], 1, 0)):
        with pytest.raises(CannotOpen):
            open_model_share(box, key, binding=made.binding, holder=HOLDERS[holder].account, place=place)


def test_a_box_that_holds_something_else_than_its_promise_does_not_open() -> None:
    """A provider promises one share and boxes another, or no share: its holder never attests that."""
    made = sealed()
    context = _box_context(made.binding, HOLDERS[0].account, 0)
    share = shares_of(made)[0]
    other = Share(share.index, bytes(32))
    boxes = [
        KeyBox(made.boxes.boxes[0].commitment, seal(KEYS[0].public, encode(other), context)),
        KeyBox(made.boxes.boxes[0].commitment, seal(KEYS[0].public, b"no share", context)),
        KeyBox(made.boxes.boxes[1].commitment, made.boxes.boxes[0].box),
    ]
    for forged in (Share(2, share.value), Share(1, share.value[:-1]), Share(1, b"")):
        commitment = model_share_commitment(made.binding, forged)
        boxes.append(KeyBox(commitment, seal(KEYS[0].public, encode(forged), context)))
    for box in boxes:
        with pytest.raises(CannotOpen):
            open_model_share(box, KEYS[0], binding=made.binding, holder=HOLDERS[0].account, place=0)


def test_shares_that_do_not_belong_together_give_everybody_the_same_refusal() -> None:
    """Each share is the promised one, and yet they are of two keys: the first n-f of the ledger decide."""
    one, other = sealed(seed=1), sealed(seed=2)
    mixed = [*shares_of(one)[:2], *shares_of(other)[2:]]
    with pytest.raises(BadShares):
        model_key(mixed, threshold=3, binding=one.binding, commitment=one.boxes.key_commitment)
    whole = shares_of(one)
    first = [*whole[:3], Share(4, bytes(32))]
    assert model_key(first, threshold=3, binding=one.binding, commitment=one.boxes.key_commitment) == one.key


def test_the_root_binds_the_key_and_each_box() -> None:
    made = sealed()
    replace, root = msgspec.structs.replace, made.boxes.root
    swapped, shorter = tuple(reversed(made.boxes.boxes)), made.boxes.boxes[:-1]
    others = [replace(made.boxes, key_commitment=bytes(32))]
    others += [replace(made.boxes, boxes=boxes) for boxes in (swapped, shorter)]
    assert len({root, *(each.root for each in others)}) == 4


def test_key_boxes_of_a_wrong_form_are_refused_by_name() -> None:
    made = sealed()
    box = made.boxes.boxes[0]
    for boxes in (
        made.boxes.boxes[:3],
        (*made.boxes.boxes, box),
        (KeyBox(bytes(31), box.box), *made.boxes.boxes[1:]),
        (KeyBox(box.commitment, bytes(257)), *made.boxes.boxes[1:]),
    ):
        changed = KeyBoxes(made.boxes.key_commitment, boxes)
        with pytest.raises(Malformed):
            check_key_boxes(changed, 4)
    check_key_boxes(made.boxes, 4)
    short = KeyBoxes(b"", made.boxes.boxes)
    with pytest.raises(Malformed):
        check_key_boxes(short, 4)


def test_the_boxes_of_the_largest_network_fit_a_transaction() -> None:
    keys = [SealingKey.from_secret(i.to_bytes(32, "big")) for i in range(1, 101)]
    holders = [BoxHolder(i.to_bytes(20, "big"), key.public) for i, key in enumerate(keys)]
    made = seal_model(
        b"w", holders, 67, random.Random(3).randbytes, network_id=NETWORK, order_id=ORDER, provider=PROVIDER
    )
    assert len(encode(made.boxes)) < 1 << 14
    check_key_boxes(made.boxes, 100)


@given(st.data())
def test_changed_bytes_of_key_boxes_have_another_root(data: st.DataObject) -> None:
    made = sealed()
    raw = bytearray(encode(made.boxes))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode(bytes(raw), KeyBoxes, limit_bytes=1 << 16)
    except Malformed:
        return
    assert changed.root != made.boxes.root


def test_golden_bytes_of_version_1() -> None:
    """What released clients and ledgers have agreed on. Boxes differ each time, so one that was made is kept."""
    made = sealed(b"golden weights")
    shares = shares_of(made)
    assert made.ciphertext.hex() == GOLDEN["ciphertext"]
    assert made.binding.hex() == GOLDEN["binding"]
    assert made.boxes.key_commitment.hex() == GOLDEN["key commitment"]
    assert [each.commitment.hex() for each in made.boxes.boxes] == GOLDEN["share commitments"]
    kept = KeyBox(made.boxes.boxes[2].commitment, bytes.fromhex(GOLDEN["third box"]))
    opened = open_model_share(kept, KEYS[2], binding=made.binding, holder=HOLDERS[2].account, place=2)
    assert opened == shares[2]
    fixed = KeyBoxes(made.boxes.key_commitment, tuple(KeyBox(each.commitment, b"box") for each in made.boxes.boxes))
    assert fixed.root.hex() == GOLDEN["root of boxes"]
    assert sha256(encode(fixed)).hex() == GOLDEN["encoded boxes"]


GOLDEN: dict[str, Any] = {
    "ciphertext": ("706f742d6c61622f6369706865722f310af619727aa2901689b192e17700f728cc19f1d2e48b0964a2fee3af3c1c55"),
    "binding": "b5282dc92346fa064924479eca9f0a06e6b8a4cd85147a0c6d2eaf173c55048e",
    "key commitment": "1ed0ddf585c0379c3e64fbea03dd95f789997ebfc549a18275101ef739069ce3",
    "share commitments": [
        "aca6e07e56a91ae93ce25f0380da203a02dcf61b365adc0c52284b4047a705a6",
        "646f620650aeea9fda5bc47f9f8fae327680fcb79df1095a7db114d19218db72",
        "39f170a163f6a2ecf694f277b8957ef87bc520fba186cb609a9307a1a7f1b3c8",
        "129140a827794bdc45f5244c3d3f086b2d6f04ac1a4e889dff086a5c1afe6914",
    ],
    "third box": (
        "bdc99d21f4b51adae6776f0e06818707709f830e7cf927f046389c64f90ad303"
        "e256de471c1ba51119a853191495b5d96a76c40a73cf568c796fc6cbb3187f4a"
        "95222274d494b3c335b14c17d1aba0f8eb1c2f45"
    ),
    "root of boxes": "20a69d8b16028b6200df3d4485ff5581ce79bf8b8205ebb39c0a1d04403a03cd",
    "encoded boxes": "7ad365b23b44c64e513004a3d726053d24717303915fb16a7a7fbdfb4a6f5d76",
}
