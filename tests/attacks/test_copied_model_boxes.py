"""A rival's sealed model is copied, cut or sealed falsely, to read it early or to be paid for another's work; each
against the rule, and with the rule switched off."""

from __future__ import annotations

import random

import pytest

from pot_lab.crypto import cipher, sealed_model
from pot_lab.crypto.canonical import sha256, tagged_hash
from pot_lab.crypto.cipher import CHUNK_BYTES, CannotDecrypt, decrypt, encrypt
from pot_lab.crypto.sealed_box import CannotOpen, SealingKey
from pot_lab.crypto.sealed_model import (
    BoxHolder,
    KeyBox,
    KeyBoxes,
    SealedModel,
    is_promised_share,
    model_key,
    open_model_share,
    seal_model,
)
from pot_lab.crypto.shamir import BadShares, Share

NETWORK, ORDER, PROVIDER = b"\x01" * 32, b"\x02" * 32, b"\x03" * 20
EARLIER, MALLORY = b"\x04" * 32, b"\x05" * 20
KEYS = [SealingKey.from_secret(bytes([i + 1]) * 32) for i in range(4)]
HOLDERS = [BoxHolder(bytes([i + 1]) * 20, key.public) for i, key in enumerate(KEYS)]


def sealed(seed: int = 1, model: bytes = b"a model that took a month") -> SealedModel:
    return seal_model(
        model,
        HOLDERS,
        3,
        random.Random(seed).randbytes,
        network_id=NETWORK,
        order_id=ORDER,
        provider=PROVIDER,
    )


def read_early(victim: SealedModel, order_id: bytes, provider: bytes) -> bytes:
    """The aggregators do their duty for a claim whose ciphertext and boxes were copied from the victim's."""
    binding = sealed_model.model_binding(NETWORK, order_id, provider, sha256(victim.ciphertext))
    shares = [
        open_model_share(box, KEYS[place], binding=binding, holder=HOLDERS[place].account, place=place)
        for place, box in enumerate(victim.boxes.boxes)
    ]
    key = model_key(shares, threshold=3, binding=binding, commitment=victim.boxes.key_commitment)
    return decrypt(key, victim.ciphertext)


def unbound(network_id: bytes, order_id: bytes, provider: bytes, ciphertext_digest: bytes) -> bytes:
    """The rule switched off: what is sealed is bound to the network and the ciphertext alone."""
    return tagged_hash("unbound", network_id, ciphertext_digest)


@pytest.mark.parametrize(
    ("order_id", "provider"),
    [(EARLIER, PROVIDER), (ORDER, MALLORY), (EARLIER, MALLORY)],
    ids=["order", "account", "both"],
)
def test_boxes_copied_to_another_claim_open_nothing(
    order_id: bytes, provider: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory's own order ends earlier, so the aggregators open its claims while the victim's rivals still train."""
    with pytest.raises(CannotOpen):
        read_early(sealed(), order_id, provider)
    monkeypatch.setattr(sealed_model, "model_binding", unbound)
    assert read_early(sealed(), order_id, provider) == b"a model that took a month"


def test_a_share_of_another_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An aggregator that is the rival's friend publishes a share of another model: the model would not open, and the
    honest provider would lose its bond.
    """
    mine, other = sealed(1), sealed(2)
    false = open_model_share(other.boxes.boxes[0], KEYS[0], binding=other.binding, holder=HOLDERS[0].account, place=0)
    true = [
        open_model_share(box, KEYS[place], binding=mine.binding, holder=HOLDERS[place].account, place=place)
        for place, box in enumerate(mine.boxes.boxes)
    ]

    def published(shares: list[Share]) -> list[Share]:
        """What the ledger takes of these shares, one a holder."""
        return [
            share
            for place, share in enumerate(shares)
            if is_promised_share(share, mine.boxes.boxes[place].commitment, binding=mine.binding, place=place)
        ]

    taken = published([false, *true[1:]])
    assert taken == true[1:]
    assert model_key(taken, threshold=3, binding=mine.binding, commitment=mine.boxes.key_commitment) == mine.key
    with pytest.raises(BadShares):  # without the rule the false share is taken, and spoils the key
        model_key([false, *true[1:]], threshold=3, binding=mine.binding, commitment=mine.boxes.key_commitment)


def test_a_box_that_is_not_the_promised_share_is_not_attested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider seals shares that its commitments do not promise, so that its model cannot be opened after the reveal
    and it is the aggregators that seem to be late. Whoever attests its box has opened it and compared.
    """
    made, other = sealed(1), sealed(2)
    swapped = KeyBox(other.boxes.boxes[0].commitment, made.boxes.boxes[0].box)
    with pytest.raises(CannotOpen):
        open_model_share(swapped, KEYS[0], binding=made.binding, holder=HOLDERS[0].account, place=0)
    monkeypatch.setattr(sealed_model, "is_promised_share", lambda *share, **place: True)
    assert open_model_share(swapped, KEYS[0], binding=made.binding, holder=HOLDERS[0].account, place=0)


def test_a_key_that_was_not_committed_to_is_the_providers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares that give another key than the one committed to. A ciphertext can be made that opens under two keys, so
    without the commitment its maker could choose late which of two models it meant.
    """
    made = sealed()
    shares = [
        open_model_share(box, KEYS[place], binding=made.binding, holder=HOLDERS[place].account, place=place)
        for place, box in enumerate(made.boxes.boxes)
    ]
    false = KeyBoxes(sealed(2).boxes.key_commitment, made.boxes.boxes)
    with pytest.raises(BadShares):
        model_key(shares, threshold=3, binding=made.binding, commitment=false.key_commitment)
    monkeypatch.setattr(sealed_model, "model_key_commitment", lambda binding, key: false.key_commitment)
    assert model_key(shares, threshold=3, binding=made.binding, commitment=false.key_commitment) == made.key


def test_a_ciphertext_that_was_cut_between_chunks_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk is authentic by itself; only the mark of the last one shows that the end is missing."""
    key, model = bytes(32), bytes(2 * CHUNK_BYTES)
    magic = len(encrypt(key, b"")) - 16
    cut = magic + CHUNK_BYTES + 16
    with pytest.raises(CannotDecrypt):
        decrypt(key, encrypt(key, model)[:cut])
    monkeypatch.setattr(cipher, "_nonce", lambda number, last: number.to_bytes(12, "big"))
    assert decrypt(key, encrypt(key, model)[:cut]) == bytes(CHUNK_BYTES)
