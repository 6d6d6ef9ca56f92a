"""What the aggregators sign and the contract checks: the settlement of one epoch and its tree of payouts.

Carries out the settlement rule (protocol.md, "Settlement") in the exact bytes of `RewardSettlement.sol`: EIP-712
digest, OpenZeppelin's sorted-pair Merkle tree with double-hashed leaves. All values are cumulative, so a settlement
that is applied twice, or skipped, can never pay twice.

Every type is static, so an ABI encoding here is nothing but 32-byte words in a row. It must not know the ledger, a
socket or an ABI library: the same words are computed by every aggregator and inside the contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pot_lab.crypto.canonical import HASH_BYTES, Record, Wide, keccak256
from pot_lab.errors import PotLabError

__all__ = [
    "EMPTY_ROOT",
    "BadLeaf",
    "NotEncodable",
    "PayoutTree",
    "Settlement",
    "abi_word_address",
    "abi_word_bytes32",
    "abi_word_uint",
    "domain_separator",
    "orders_hash",
    "reward_leaf",
    "rotation_digest",
    "settlement_digest",
    "slash_leaf",
    "verify_proof",
]

EMPTY_ROOT: Final = bytes(HASH_BYTES)
"""Root of a tree without leaves: the contract's state before the first settlement. No leaf verifies against it."""

_SETTLEMENT_TYPE: Final = keccak256(
    b"Settlement(uint64 epoch,uint64 round,uint64 signerSetId,bytes32 root,"
    b"uint128 cumulativeTotal,bytes32 ordersHash,bytes32 ledgerHash)"
)
_ROTATION_TYPE: Final = keccak256(b"Rotation(uint64 newSetId,uint64 threshold,address[] stakers)")
_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_DOMAIN_NAME: Final = keccak256(b"PoT Settlement")
_DOMAIN_VERSION: Final = keccak256(b"1")
_REWARD: Final = 0
_ROLES: Final = 4


class NotEncodable(PotLabError):
    """A value does not fit the static ABI type that the contract gives it.

    What to do: keep the value within the range of its ABI type.
    """


class BadLeaf(PotLabError):
    """A payout tree was asked about, or offered, a leaf that it cannot hold.

    What to do: use an account and an amount that the tree holds.
    """


class Settlement(Record, frozen=True, kw_only=True):
    """One epoch, as `RewardSettlement.Settlement` holds it.

    `epoch` follows the last one confirmed; `round` counts the attempts at it (an honest aggregator signs one settlement
    per epoch and round); `signer_set_id` names the signer set; `root` is a `PayoutTree.root`; `cumulative_total` is the
    sum of all reward leaves in grains, ever; `orders_hash` binds the sealed order ids; `ledger_hash` is the ledger's
    state digest (32 bytes). Totals are over all time: the same money may come and go more often than 64 bits can count.
    """

    epoch: int
    round: int
    signer_set_id: int
    root: bytes
    cumulative_total: Wide
    orders_hash: bytes
    ledger_hash: bytes


def abi_word_uint(value: int, bits: int = 256) -> bytes:
    """Encode an unsigned integer of `bits` bits as one 32-byte word.

    Raises:
        NotEncodable: negative, or wider than `bits`.
    """
    if value < 0 or value >> bits:
        raise NotEncodable("an integer does not fit its ABI type", seen=value, wanted=f"uint{bits}")
    return value.to_bytes(32, "big")


def abi_word_address(address: bytes) -> bytes:
    """Encode a 20-byte address as one 32-byte word.

    Raises:
        NotEncodable: not 20 bytes.
    """
    if len(address) != 20:
        raise NotEncodable("an address has the wrong length", seen=f"{len(address)} bytes", wanted="20 bytes")
    return bytes(12) + address


def abi_word_bytes32(value: bytes) -> bytes:
    """Encode a 32-byte value as one word (itself).

    Raises:
        NotEncodable: not 32 bytes.
    """
    if len(value) != 32:
        raise NotEncodable("a hash has the wrong length", seen=f"{len(value)} bytes", wanted="32 bytes")
    return bytes(value)


def orders_hash(order_ids: Iterable[bytes]) -> bytes:
    """Keccak-256 over the 32-byte order ids in a row, in the order in which the settlement transaction carries them."""
    return keccak256(b"".join(abi_word_bytes32(order_id) for order_id in order_ids))


def domain_separator(chain_id: int, contract: bytes) -> bytes:
    """EIP-712 domain of one settlement contract, so a signature is worth nothing elsewhere."""
    return keccak256(
        _DOMAIN_TYPE + _DOMAIN_NAME + _DOMAIN_VERSION + abi_word_uint(chain_id) + abi_word_address(contract)
    )


def settlement_digest(chain_id: int, contract: bytes, settlement: Settlement) -> bytes:
    """The 32 bytes that an aggregator signs to settle an epoch; equal to the contract's `digest(settlement)`.

    Args:
        chain_id: the EVM chain's id.
        contract: 20-byte address of `RewardSettlement`.
    Raises:
        NotEncodable: a field is out of its type's range.
    """
    body = keccak256(
        _SETTLEMENT_TYPE
        + abi_word_uint(settlement.epoch, 64)
        + abi_word_uint(settlement.round, 64)
        + abi_word_uint(settlement.signer_set_id, 64)
        + abi_word_bytes32(settlement.root)
        + abi_word_uint(settlement.cumulative_total, 128)
        + abi_word_bytes32(settlement.orders_hash)
        + abi_word_bytes32(settlement.ledger_hash)
    )
    return keccak256(b"\x19\x01" + domain_separator(chain_id, contract) + body)


def rotation_digest(chain_id: int, contract: bytes, set_id: int, threshold: int, stakers: Sequence[bytes]) -> bytes:
    """The 32 bytes that the current signers sign to hand over to the set `set_id`; equal to the contract's.

    Args:
        stakers: the accounts that stake for the new set, in the order of their signing keys.
    Raises:
        NotEncodable: a value is out of its type's range.
    """
    listed = keccak256(b"".join(abi_word_address(staker) for staker in stakers))
    body = keccak256(_ROTATION_TYPE + abi_word_uint(set_id, 64) + abi_word_uint(threshold, 64) + listed)
    return keccak256(b"\x19\x01" + domain_separator(chain_id, contract) + body)


def reward_leaf(account: bytes, cumulative_grains: int) -> bytes:
    """Leaf that entitles `account` (20 bytes) to `cumulative_grains` in all, since the first epoch.

    Returns 32 bytes.
    """
    return _double_hash(abi_word_uint(_REWARD, 8) + abi_word_address(account) + abi_word_uint(cumulative_grains))


def slash_leaf(node: bytes, role: int, cumulative_grains: int, to: bytes) -> bytes:
    """Leaf that takes `cumulative_grains` in all from the stake of (`node`, `role`); the newest part goes to `to`.

    A zero `to` sends it to the treasury. It has one word more than a reward leaf and its kind is never 0, so neither
    passes for the other.
    """
    if not 0 <= role < _ROLES:
        raise NotEncodable("a role is unknown", seen=role, wanted=f"0 .. {_ROLES - 1}")
    return _double_hash(
        abi_word_uint(1 + role, 8) + abi_word_address(node) + abi_word_uint(cumulative_grains) + abi_word_address(to)
    )


def verify_proof(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` (siblings from the leaf upwards) leads from `leaf` to `root`, as `MerkleProof.verify` has it."""
    node = leaf
    for sibling in proof:
        node = _pair(node, sibling)
    return node == root


class PayoutTree:
    """The tree of one epoch's leaves, laid out as OpenZeppelin's `StandardMerkleTree`.

    The order in which leaves are given does not matter: they are sorted. No leaves give `EMPTY_ROOT`.

    Args:
        leaves: 32-byte `reward_leaf` and `slash_leaf` values, each at most once.
    Raises:
        BadLeaf: a leaf is not 32 bytes, or stands there twice.
    """

    __slots__ = ("__weakref__", "_nodes", "_position", "root")

    def __init__(self, leaves: Iterable[bytes]) -> None:
        ordered = sorted(leaves)
        count = len(ordered)
        for leaf in ordered:
            if len(leaf) != HASH_BYTES:
                raise BadLeaf(
                    "a payout leaf has the wrong length", seen=f"{len(leaf)} bytes", wanted=f"{HASH_BYTES} bytes"
                )
        # Node i has children 2i+1 and 2i+2; leaves stand at the end, the smallest last.
        nodes = [b""] * (count - 1) + ordered[::-1]
        for i in range(count - 2, -1, -1):
            nodes[i] = _pair(nodes[2 * i + 1], nodes[2 * i + 2])
        self._nodes = nodes
        self._position = {leaf: len(nodes) - 1 - i for i, leaf in enumerate(ordered)}
        if len(self._position) != count:
            raise BadLeaf("a payout leaf stands twice in the tree")
        self.root: bytes = nodes[0] if nodes else EMPTY_ROOT

    def __len__(self) -> int:
        return len(self._position)

    def __contains__(self, leaf: bytes) -> bool:
        return leaf in self._position

    def proof(self, leaf: bytes) -> list[bytes]:
        """Siblings from `leaf` up to the root (empty for a tree of one leaf).

        Raises:
            BadLeaf: the leaf is not in the tree.
        """
        i = self._find(leaf)
        proof = []
        while i > 0:
            proof.append(self._nodes[i + 1 if i % 2 else i - 1])
            i = (i - 1) // 2
        return proof

    def multiproof(self, leaves: Iterable[bytes]) -> tuple[list[bytes], list[bytes], list[bool]]:
        """One proof for many leaves: `(leaves in the order the proof needs, siblings, flags)`, for
        `MerkleProof.multiProofVerify`.

        Raises:
            BadLeaf: no leaves, one twice, or one that is not in the tree.
        """
        wanted = sorted((self._find(leaf) for leaf in leaves), reverse=True)
        if not wanted or len(set(wanted)) != len(wanted):
            raise BadLeaf(
                "a multiproof needs at least one leaf, each once",
                seen=f"{len(wanted)} leaves, {len(set(wanted))} distinct",
            )
        queue, siblings, flags, head = list(wanted), [], [], 0
        while head < len(queue) and queue[head] > 0:
            i = queue[head]
            head += 1
            sibling = i + 1 if i % 2 else i - 1
            if head < len(queue) and queue[head] == sibling:
                flags.append(True)
                head += 1
            else:
                flags.append(False)
                siblings.append(self._nodes[sibling])
            queue.append((i - 1) // 2)
        return [self._nodes[i] for i in wanted], siblings, flags

    def _find(self, leaf: bytes) -> int:
        try:
            return self._position[leaf]
        except KeyError:
            raise BadLeaf("a leaf is not in this payout tree", seen=leaf) from None


def _double_hash(data: bytes) -> bytes:
    return keccak256(keccak256(data))


def _pair(a: bytes, b: bytes) -> bytes:
    return keccak256(a + b if a < b else b + a)
