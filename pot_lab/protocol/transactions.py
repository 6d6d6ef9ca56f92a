"""Transactions: what accounts submit, signed.

Every transaction is `{kind, body, account, nonce, signature}` (protocol.md, "Who may submit what"). The signature
covers the network, so nothing signed for one network means anything in another. The body's type is found by the kind,
and both are size-limited before they are parsed.
"""

from __future__ import annotations

import re
from typing import TypeVar

from pot_lab.crypto.canonical import HASH_BYTES, Digest, Record, decode, encode, tagged_hash
from pot_lab.crypto.identity import ADDRESS_BYTES, Address, BadSignature, Identity, Recover, format_address, recover
from pot_lab.crypto.link import Link
from pot_lab.crypto.merkle import SumNode, SumProof
from pot_lab.crypto.sealed_model import KeyBoxes
from pot_lab.crypto.shamir import Share
from pot_lab.errors import Malformed
from pot_lab.protocol.contact import Contact
from pot_lab.protocol.errors import WrongNetwork
from pot_lab.protocol.proposals import ParameterChange
from pot_lab.protocol.records import (
    ORDER_LIMIT_BYTES,
    ChainEvent,
    ClaimScore,
    HeldBlob,
    ModelId,
    OrderId,
    OrderRecord,
    Salt,
)

TRANSACTION_LIMIT_BYTES = ORDER_LIMIT_BYTES + 512
MAX_ITEMS = 256
"""The most claims, validations or chain events that one transaction may carry."""

_KIND_CHARACTERS = 32
_KIND = re.compile(r"[a-z][a-z_]{0,31}")

Body = TypeVar("Body", bound=Record)


class Transaction(Record, frozen=True, kw_only=True):
    """A signed statement by `account`; `nonce` must be above the account's last one."""

    network_id: bytes
    kind: str
    account: Address
    nonce: int
    body: bytes
    signature: bytes

    @property
    def digest(self) -> Digest:
        """What is signed, and the transaction's id (32 bytes); the signature itself is not part of it."""
        return transaction_digest(self.network_id, self.kind, self.account, self.nonce, self.body)


class Register(Record, frozen=True):
    """The account takes up a role, for which it has staked on the chain."""

    role: int


class Unregister(Record, frozen=True):
    """The account gives up a role: it is drawn no more; what it has promised stays due."""

    role: int


class Put(Record, frozen=True):
    """A client brings an order's record to the ledger (section 3.1.1, Put)."""

    order: OrderRecord


class Withdraw(Record, frozen=True):
    """A client takes back an order to which nobody has committed."""

    order_id: OrderId


class Claim(Record, frozen=True):
    """A provider commits to a model before the deadline; a later claim by the same provider replaces the earlier
    (PoT.Claim, t1).
    """

    order_id: OrderId
    commitment: bytes


class RevealModel(Record, frozen=True, kw_only=True):
    """A provider opens its commitment (PoT.Claim, t2): which model, where its ciphertext is, and its key in boxes, one
    for each aggregator that holds a share of the order's test key, in their order.
    """

    order_id: OrderId
    mid: ModelId
    ciphertext: Link
    boxes: KeyBoxes
    salt: Salt


class HeldBox(Record, frozen=True):
    """The box of a provider's model that is the sender's."""

    provider: Address


class AttestBoxes(Record, frozen=True):
    """An aggregator attests that its boxes of these providers' models hold the shares that are promised."""

    order_id: OrderId
    items: tuple[HeldBox, ...]


class ReleaseShare(Record, frozen=True):
    """An aggregator publishes its share of an order's test-data key after the reveal window."""

    order_id: OrderId
    share: Share


class ModelShare(Record, frozen=True):
    """A share of the key of one provider's model."""

    provider: Address
    share: Share


class ReleaseModelShares(Record, frozen=True):
    """An aggregator publishes its shares of models' keys, once the test data are proven."""

    order_id: OrderId
    items: tuple[ModelShare, ...]


class ReleaseKey(Record, frozen=True):
    """The client publishes the whole test-data key itself."""

    order_id: OrderId
    key: bytes


class ScoreCommitment(Record, frozen=True):
    """One model's hidden score."""

    mid: ModelId
    commitment: bytes


class CommitScores(Record, frozen=True):
    """A validator commits to its scores of models it was drawn for (PoT.Validate, t4)."""

    order_id: OrderId
    items: tuple[ScoreCommitment, ...]


class OpenedScore(Record, frozen=True, kw_only=True):
    """One model's score, the Merkle-sum root of its per-example results, its tree's top node, which shows their sum,
    and where the whole transcript is.
    """

    mid: ModelId
    score: ClaimScore
    transcript_root: bytes
    top: SumNode
    transcript: Link
    salt: Salt


class OpenScores(Record, frozen=True):
    """A validator opens its scores (PoT.Validate, t5)."""

    order_id: OrderId
    items: tuple[OpenedScore, ...]


class Challenge(Record, frozen=True):
    """Anybody with the bond commits to a wrong example of a validation (section 3.3.3, Challenge; t6).

    Attributes:
        role: in which role's stake the bond is locked: provider, validator or verifier.
        commitment: `records.challenge_commitment`.
    """

    order_id: OrderId
    role: int
    commitment: bytes


class OpenChallenge(Record, frozen=True, kw_only=True):
    """A challenger shows the leaf of the validator's transcript that it calls wrong (t7).

    Attributes:
        mid, validator: whose score of which model.
        leaf: the validator's result for the example at `proof.index`.
        leaves_total: sum of all leaves of its transcript.
        proof: that both are under the root that the validator opened.
        salt: opens the commitment.
    """

    order_id: OrderId
    mid: ModelId
    validator: Address
    leaf: int
    leaves_total: int
    proof: SumProof
    salt: Salt


class Verdict(Record, frozen=True):
    """An aggregator's verdict: on a dispute, found by running the example again, whether the score is right; in the
    release window, on an opened file (`records.opening_name`), whether it is what was promised.
    """

    order_id: OrderId
    dispute: bytes
    right: bool


class Attest(Record, frozen=True):
    """An aggregator reports chain events in the chain's order; `first` numbers the first of them since the contracts
    were made.
    """

    first: int
    events: tuple[ChainEvent, ...]


class AttestBlobs(Record, frozen=True):
    """An aggregator attests that it holds blobs that orders name, hash and length checked (section 3.4)."""

    blobs: tuple[HeldBlob, ...]


class SignEpoch(Record, frozen=True):
    """An aggregator signs the settlement that the ledger has made: 65 bytes over its EIP-712 digest."""

    epoch: int
    round: int
    signature: bytes


class DeniedOrder(Record, frozen=True):
    """An order of the pending settlement whose escrow is not there."""

    order_id: OrderId


class DenyEscrow(Record, frozen=True):
    """An aggregator's chain never had the escrow of these orders of the pending settlement, or had less: the contract
    would refuse the whole settlement for them.
    """

    epoch: int
    round: int
    orders: tuple[DeniedOrder, ...]


class SignRotation(Record, frozen=True):
    """A signer of the chain's contract signs the set that shall follow: 65 bytes over its EIP-712 digest."""

    set_id: int
    signature: bytes


class SignOwnerAct(Record, frozen=True, kw_only=True):
    """A signer of the chain's contract signs the act of the contracts' owner that a vote asks for.

    Attributes:
        proposal: the vote's proposal in the ledger.
        number: of the proposal to the contracts, as the signer's chain has it due.
        digest: what is signed (32 bytes), its EIP-712 digest; `signature` has 65 bytes.
    """

    proposal: int
    number: int
    digest: bytes
    signature: bytes


class Accuse(Record, frozen=True):
    """Anybody's proof that an aggregator signed two votes that contradict each other: an
    `agreement.evidence.Equivocation` in canonical bytes.
    """

    evidence: bytes


class Join(Record, frozen=True, kw_only=True):
    """An account that staked as an aggregator applies for a seat; the aggregators vote on it.

    Attributes:
        voting_key: the 20-byte address that will sign its votes and statements; `possession` is its signature of
            `records.possession_digest`.
        sealing_public: its X25519 key, 32 bytes.
        contact: where and under which key it is reached.
    """

    voting_key: Address
    sealing_public: bytes
    contact: Contact
    possession: bytes


class VoteSeat(Record, frozen=True):
    """An aggregator is for a candidate's seat (`seated`), or for taking a member's away."""

    account: Address
    seated: bool


class Leave(Record, frozen=True):
    """A member gives up its seat; submitted by its account."""


class RotateKeys(Record, frozen=True, kw_only=True):
    """A member's account names other keys for its seat; fields as in `Join`."""

    voting_key: Address
    sealing_public: bytes
    contact: Contact
    possession: bytes


class Propose(Record, frozen=True):
    """A member proposes other parameters, with a bond of its stake as `role` (protocol.md, "Governance")."""

    role: int
    changes: tuple[ParameterChange, ...]


class ProposeVersion(Record, frozen=True):
    """A member proposes the next version of the protocol's rules, with a bond of its stake as `role`; `install` names
    the release that knows it.
    """

    role: int
    version: int
    install: str


class Vote(Record, frozen=True):
    """A member votes for the proposal of this number, or against it."""

    proposal: int
    approve: bool


BODIES: dict[str, type[Record]] = {
    "register": Register,
    "unregister": Unregister,
    "put": Put,
    "withdraw": Withdraw,
    "claim": Claim,
    "reveal_model": RevealModel,
    "release_share": ReleaseShare,
    "release_key": ReleaseKey,
    "attest_boxes": AttestBoxes,
    "release_model_shares": ReleaseModelShares,
    "commit_scores": CommitScores,
    "open_scores": OpenScores,
    "challenge": Challenge,
    "open_challenge": OpenChallenge,
    "verdict": Verdict,
    "attest": Attest,
    "attest_blobs": AttestBlobs,
    "sign_epoch": SignEpoch,
    "deny_escrow": DenyEscrow,
    "sign_rotation": SignRotation,
    "sign_owner_act": SignOwnerAct,
    "accuse": Accuse,
    "join": Join,
    "vote_seat": VoteSeat,
    "leave": Leave,
    "rotate_keys": RotateKeys,
    "propose": Propose,
    "propose_version": ProposeVersion,
    "vote": Vote,
}
"""Every kind of transaction and its body's type."""

_KINDS = {body: kind for kind, body in BODIES.items()}


def transaction_digest(network_id: bytes, kind: str, account: Address, nonce: int, body: bytes) -> Digest:
    """What the account signs (32 bytes)."""
    return tagged_hash("pot-lab/transaction/1", network_id, kind.encode(), account, nonce.to_bytes(8, "big"), body)


def sign(network_id: bytes, body: Record, identity: Identity, nonce: int) -> bytes:
    """Make the canonical bytes of a transaction with this body, signed by `identity`."""
    kind, raw = _KINDS[type(body)], encode(body)
    signature = identity.sign(transaction_digest(network_id, kind, identity.address, nonce, raw))
    return encode(
        Transaction(
            network_id=network_id, kind=kind, account=identity.address, nonce=nonce, body=raw, signature=signature
        )
    )


def open_transaction(data: bytes, network_id: bytes, recover: Recover = recover) -> Transaction:
    """Read and authenticate a transaction from outside, without the ledger's rules.

    Raises:
        Oversize, Malformed: its bytes are not a transaction's.
        WrongNetwork: it was signed for another network.
        BadSignature: the account it names did not sign it.
    """
    transaction = decode(data, Transaction, limit_bytes=TRANSACTION_LIMIT_BYTES)
    if transaction.network_id != network_id:
        raise WrongNetwork(
            "the transaction was signed for another network", seen=transaction.network_id, wanted=network_id
        )
    if not _KIND.fullmatch(transaction.kind):  # whether a rule handles it depends on the version in force
        raise Malformed("a transaction's kind is no name", seen=transaction.kind[:_KIND_CHARACTERS])
    if len(transaction.account) != ADDRESS_BYTES or not 0 < transaction.nonce < 1 << 63:
        raise Malformed(
            "a transaction's account or nonce is impossible", seen=(transaction.account.hex(), transaction.nonce)
        )
    signer = recover(transaction.digest, transaction.signature)
    if signer != transaction.account:
        raise BadSignature(
            "the transaction was not signed by its account",
            seen=format_address(signer),
            wanted=format_address(transaction.account),
        )
    return transaction


def open_body(transaction: Transaction) -> Record:
    """Decode a transaction's body by its kind.

    Raises:
        Malformed: it is not of the kind's type, has too many items or a hash of a wrong length.
    """
    body = decode(transaction.body, BODIES[transaction.kind], limit_bytes=TRANSACTION_LIMIT_BYTES)
    _check_hashes(transaction.kind, body)
    for value in (getattr(body, name) for name in body.__struct_fields__):
        if isinstance(value, tuple):
            if not 0 < len(value) <= MAX_ITEMS:
                raise Malformed(
                    f"a {transaction.kind} has no items or too many", seen=len(value), wanted=f"1 .. {MAX_ITEMS}"
                )
            for item in value:
                _check_hashes(transaction.kind, item)
    return body


def _check_hashes(kind: str, record: Record) -> None:
    for name in _HASHES.intersection(record.__struct_fields__):
        value = getattr(record, name)
        if len(value) != HASH_BYTES:
            raise Malformed(
                f"a {kind}'s {name} has the wrong length", seen=f"{len(value)} bytes", wanted=f"{HASH_BYTES} bytes"
            )


_HASHES = frozenset({"order_id", "commitment", "mid", "salt", "key", "transcript_root", "digest", "dispute"})


class Reply(Record, frozen=True, kw_only=True):
    """The ledger's answer to a transaction: accepted with a result, or refused with the rule's name."""

    accepted: bool
    sequence: int
    time_ms: int
    code: str = ""
    message: str = ""
    seen: str = ""
    wanted: str = ""
    result: bytes = b""
