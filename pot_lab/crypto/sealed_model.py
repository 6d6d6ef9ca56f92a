"""Sealed models: a model is encrypted, and its key shared among the aggregators, before anybody may see it.

A provider that reveals its claim shows a ciphertext and one key share for each aggregator, in an HPKE box. Only once
the test data are proven do the aggregators publish their shares; n-f of them open the model (protocol.md, "Sealed
models"). So a client that breaks off has seen nothing.

Every box, share and commitment is bound to the network, the provider's account, the order and the ciphertext: a copy of
them under another account, in another order or beside another ciphertext opens nothing and gives nothing away. The tags
are not those of test data, so that a share of one is none of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pot_lab.crypto.canonical import HASH_BYTES, Digest, Record, decode, encode, sha256, tagged_hash
from pot_lab.crypto.cipher import KEY_BYTES, encrypt
from pot_lab.crypto.merkle import merkle_root
from pot_lab.crypto.sealed_box import CannotOpen, SealingKey, seal
from pot_lab.crypto.shamir import BadShares, Share, combine, split
from pot_lab.errors import Malformed

BOX_LIMIT_BYTES = 256
_SHARE_LIMIT_BYTES = 256


class BoxHolder(NamedTuple):
    """Whoever holds one share of a key: an aggregator's account, and the X25519 key (32 bytes) of its boxes."""

    account: bytes
    sealing_public: bytes


class KeyBox(Record, frozen=True):
    """One holder's share of a model's key: the commitment to it (32 bytes), and the sealed box that holds it."""

    commitment: bytes
    box: bytes


class KeyBoxes(Record, frozen=True):
    """How a model's key can be had: the commitment to it (32 bytes), and a box for each holder in their order.

    A claim commits to `root`, and shows the boxes when it is revealed.
    """

    key_commitment: bytes
    boxes: tuple[KeyBox, ...]

    @property
    def root(self) -> bytes:
        """Merkle root, 32 bytes, over the commitment to the key and the boxes."""
        return merkle_root([self.key_commitment, *map(encode, self.boxes)])


class SealedModel(NamedTuple):
    """What a provider makes before it commits: the ciphertext to put into stores, and the boxes of its key.

    `binding` is what all of them are bound to, 32 bytes. `key` stays with the provider.
    """

    ciphertext: bytes
    boxes: KeyBoxes
    binding: Digest
    key: bytes


def model_binding(network_id: bytes, order_id: bytes, provider: bytes, ciphertext_digest: bytes) -> Digest:
    """What a model's key, its shares and their boxes are bound to (32 bytes)."""
    return tagged_hash("pot-lab/sealed-model/1", network_id, order_id, provider, ciphertext_digest)


def model_key_commitment(binding: bytes, key: bytes) -> Digest:
    """What a provider commits to of the key before it is known."""
    return tagged_hash("pot-lab/sealed-model/key/1", binding, key)


def model_share_commitment(binding: bytes, share: Share) -> Digest:
    """What a provider commits to of one share, so that a false one is refused when it is published."""
    return tagged_hash("pot-lab/sealed-model/share/1", binding, encode(share))


def _box_context(binding: bytes, holder: bytes, place: int) -> Digest:
    return tagged_hash("pot-lab/sealed-model/box/1", binding, holder, place.to_bytes(2, "big"))


def seal_model(
    model: bytes,
    holders: Sequence[BoxHolder],
    threshold: int,
    random_bytes: Callable[[int], bytes],
    *,
    network_id: bytes,
    order_id: bytes,
    provider: bytes,
) -> SealedModel:
    """Encrypt a model under a fresh key, and split the key among `holders`.

    Args:
        model: the weights file.
        holders: the network's aggregators, in their order.
        threshold: how many shares open it, n-f.
        random_bytes: source of uniformly random bytes, e.g. `os.urandom`.
        network_id, order_id, provider: the network, the order and the account that will claim.
    Raises:
        BadShares: not 1 <= threshold <= number of holders <= 255.
        Malformed: a holder's key is not an X25519 key.
    """
    key = random_bytes(KEY_BYTES)
    ciphertext = encrypt(key, model)
    binding = model_binding(network_id, order_id, provider, sha256(ciphertext))
    return SealedModel(ciphertext, seal_key(key, binding, holders, threshold, random_bytes), binding, key)


def seal_key(
    key: bytes,
    binding: bytes,
    holders: Sequence[BoxHolder],
    threshold: int,
    random_bytes: Callable[[int], bytes],
) -> KeyBoxes:
    """Split a model's key among `holders`. Arguments and errors as of `seal_model`; `binding` is `model_binding`."""
    shares = split(key, threshold, len(holders), random_bytes)
    boxes = tuple(
        KeyBox(
            model_share_commitment(binding, share),
            seal(holder.sealing_public, encode(share), _box_context(binding, holder.account, place)),
        )
        for place, (holder, share) in enumerate(zip(holders, shares, strict=True))
    )
    return KeyBoxes(model_key_commitment(binding, key), boxes)


def check_key_boxes(found: KeyBoxes, holders: int) -> None:
    """Raise Malformed for key boxes from outside that are not one for each of so many holders, or of a wrong form."""
    if len(found.boxes) != holders:
        raise Malformed(
            "a model's key is not split among the aggregators", seen=f"{len(found.boxes)} boxes", wanted=holders
        )
    commitments = (found.key_commitment, *(each.commitment for each in found.boxes))
    if any(len(each) != HASH_BYTES for each in commitments) or any(
        len(each.box) > BOX_LIMIT_BYTES for each in found.boxes
    ):
        raise Malformed("a commitment or a box of a model's key has a wrong length", wanted=f"{HASH_BYTES} bytes")


def open_model_share(box: KeyBox, key: SealingKey, *, binding: bytes, holder: bytes, place: int) -> Share:
    """A holder's own share, checked; whoever attests its box has opened it so.

    Args:
        binding: `model_binding` of the claim that is looked at, never one that came with the box.
        holder: this aggregator's account.
        place: its place among the holders, from 0.
    Raises:
        CannotOpen: the box was made for another claim, holder or place, or does not hold the share that is promised.
    """
    plain = key.open(box.box, _box_context(binding, holder, place))
    try:
        share = decode(plain, Share, limit_bytes=_SHARE_LIMIT_BYTES)
    except Malformed as error:
        raise CannotOpen("a box holds no share of a model's key") from error
    if not is_promised_share(share, box.commitment, binding=binding, place=place):
        raise CannotOpen("a box holds another share than the one that is promised", seen=share.index, wanted=place + 1)
    return share


def is_promised_share(share: Share, commitment: bytes, *, binding: bytes, place: int) -> bool:
    """Whether a published share is the one that the provider committed to for the holder at `place`, from 0."""
    fits = share.index == place + 1 and len(share.value) == KEY_BYTES
    return fits and model_share_commitment(binding, share) == commitment


def model_key(shares: Sequence[Share], *, threshold: int, binding: bytes, commitment: bytes) -> bytes:
    """The key of a model from its first `threshold` shares; further ones are left out.

    The shares are promised ones, in the ledger's order. So all who read one ledger get one answer, also where a
    provider committed to shares that do not belong together.

    Raises:
        BadShares: too few, shares that do not belong together, or another key than the provider committed to.
    """
    if len(shares) < threshold:
        raise BadShares("too few shares of a model's key", seen=len(shares), wanted=threshold)
    key = combine(shares[:threshold])
    if model_key_commitment(binding, key) != commitment:
        raise BadShares("the shares give another key than the provider committed to")
    return key
