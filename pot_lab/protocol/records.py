"""The records of Table 1: orders, claims, validations, challenges, and chain events, with their ids and commitments.

Every id and commitment is a domain-tagged hash over canonical bytes and names the network, so nothing made for one
network, order or account can be used in another (protocol.md, "Records"). No state and no rule about time lives here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NewType

from pot_lab.crypto.canonical import HASH_BYTES, Digest, Record, Wide, encode, keccak256, sha256, tagged_hash
from pot_lab.crypto.identity import ADDRESS_BYTES, Address
from pot_lab.crypto.link import Link
from pot_lab.crypto.shamir import Share
from pot_lab.crypto.text import unwanted_character
from pot_lab.errors import Malformed, UnknownScoreFunction
from pot_lab.protocol.errors import BadOrder, BadWindows, RewardTooSmall, WrongNetwork
from pot_lab.protocol.parameters import SCORE_FUNCTIONS, Parameters, Role, score_direction
from pot_lab.protocol.settlement import abi_word_address, abi_word_bytes32, abi_word_uint

OrderId = NewType("OrderId", bytes)
"""OID: 32 bytes, computed alike by the ledger and by the escrow contract (`order_id`)."""

ModelId = NewType("ModelId", bytes)
"""MID: 32 bytes that name a graph with its weights (`model_id`)."""

Salt = NewType("Salt", bytes)
"""Random bytes that hide what a commitment commits to until it is opened."""

NOBODY, NO_ORDER = Address(b""), OrderId(b"")
"""What stands where no account, or no order, is meant."""

ORDER_LIMIT_BYTES = 65_536
LEAF_BYTES = 8
"""What a transcript takes for an example, at most."""
MAX_TEST_BYTES = 8 << 30
"""The largest test set that aggregators open and judge; scoring takes no larger data file."""
MICRO = 1_000_000
MAX_GRAINS = 10**18
_TITLE_CHARACTERS, _TAGS, _TAG_CHARACTERS = 120, 8, 32


class HeldBlob(Record, frozen=True):
    """A blob that an aggregator holds: its SHA-256 (32 bytes) and exact length."""

    digest: bytes
    size_bytes: int

    @property
    def key(self) -> bytes:
        """What the ledger files it under: 40 bytes. A hash that is named with two lengths is two blobs."""
        return self.digest + self.size_bytes.to_bytes(8, "big")


class Windows(Record, frozen=True, kw_only=True):
    """How long each window of the task cycle lasts, in milliseconds (protocol.md, "The task cycle")."""

    train_ms: int
    reveal_ms: int
    release_ms: int
    score_ms: int
    open_scores_ms: int
    challenge_ms: int
    open_challenges_ms: int
    judge_ms: int

    @property
    def longest_ms(self) -> int:
        """The longest that a cycle can take until it is sealed: the release, score and judge windows open twice."""
        return (
            self.train_ms
            + self.reveal_ms
            + 2 * self.release_ms
            + 2 * self.score_ms
            + self.open_scores_ms
            + self.challenge_ms
            + self.open_challenges_ms
            + 2 * self.judge_ms
        )

    def check(self, parameters: Parameters) -> None:
        """Raise BadWindows for a window outside the network's bounds."""
        limits = dict.fromkeys(self.__struct_fields__, (parameters.min_window_ms, parameters.max_window_ms))
        limits["train_ms"] = (parameters.min_train_ms, parameters.max_train_ms)
        limits["challenge_ms"] = (parameters.min_challenge_ms, parameters.max_window_ms)
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                what = name.removesuffix("_ms").replace("_", " ")
                raise BadWindows(
                    f"the {what} window is too {'short' if getattr(self, name) < low else 'long'}",
                    seen=f"{getattr(self, name)} ms",
                    wanted=f"{low} .. {high} ms",
                )
        most_ms = parameters.unbonding_ms - parameters.settling_ms
        if self.longest_ms > most_ms:
            raise BadWindows(
                "the order could outlast the stakes that back it, which the chain gives back after its unbonding time",
                seen=f"up to {self.longest_ms} ms for all windows",
                wanted=f"at most {most_ms} ms",
            )


class ScoreSpec(Record, frozen=True):
    """Which score function, in which version of the arithmetic (scoring.md)."""

    name: str
    version: int


class TestData(Record, frozen=True, kw_only=True):
    """The sealed test set: ciphertext, what it must open to, and the key in shares (protocol.md, "Test data").

    `root` is the Merkle root over the plaintext's examples, `plain_digest` and `plain_bytes` its SHA-256 and length,
    `examples` how many; `share_commitments` and `sealed_shares` have one entry for each aggregator, in the network's
    order.
    """

    __test__ = False  # not a test class, whatever its name says to pytest

    link: Link
    root: bytes
    plain_digest: bytes
    plain_bytes: int
    examples: int
    key_commitment: bytes
    share_commitments: tuple[bytes, ...]
    sealed_shares: tuple[bytes, ...]

    def check_size(self) -> None:
        """Raise BadOrder for data that no aggregator would open: too large, or larger than what is sealed."""
        most_bytes = min(self.link.size_bytes, MAX_TEST_BYTES)
        if not 0 < self.examples < 1 << 40 or not 0 < self.plain_bytes <= most_bytes:
            raise BadOrder(
                "the test set's size is impossible",
                seen=(self.examples, self.plain_bytes),
                wanted=f"at least one example, and no more than {most_bytes} bytes",
            )
        if self.link.size_bytes > 2 * MAX_TEST_BYTES:
            raise BadOrder(
                "the sealed test data are too large",
                seen=f"{self.link.size_bytes} bytes",
                wanted=f"at most {2 * MAX_TEST_BYTES} bytes",
            )


class OrderRecord(Record, frozen=True, kw_only=True):
    """A training order O = (reward, type, time, link) of Table 1, complete."""

    network_id: bytes
    client: Address
    nonce: int
    seal_by_s: int
    reward_grains: int
    fee_grains: int
    bond_grains: int
    model: Link
    weights: Link
    train: Link
    test: TestData
    score: ScoreSpec
    windows: Windows
    claim_bond_grains: int
    baseline_total: int
    baseline_count: int
    margin_micro: int
    title: str = ""
    tags: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Link, ...]:
        """What has to be in custody before the order starts: graph, first weights, training data, test ciphertext."""
        return self.model, self.weights, self.train, self.test.link

    @property
    def spec_hash(self) -> Digest:
        """SHA-256 of the record (32 bytes), which the escrow contract commits to."""
        return sha256(encode(self))

    @property
    def sealing_binding(self) -> Digest:
        """What the key of this order's test data is bound to (32 bytes), see the function of this name."""
        return sealing_binding(self.network_id, self.client, self.nonce, self.test.root)

    @property
    def id(self) -> OrderId:
        """OID: the escrow contract's id, so that ledger and chain name an order alike (32 bytes)."""
        return order_id(self.client, self.nonce, self.seal_by_s, self.spec_hash)

    def least_windows_ms(self, parameters: Parameters) -> dict[str, int]:
        """The least length of each window after training, by its name in `Windows`: files have to be fetched within it.

        A model is as large as the first weights, and a transcript has at most `LEAF_BYTES` for an example.
        """
        test_bytes, transcript_bytes = self.test.link.size_bytes, LEAF_BYTES * self.test.examples
        model_bytes = self.model.size_bytes + self.weights.size_bytes
        size_bytes = {
            "reveal_ms": model_bytes,
            "release_ms": test_bytes + model_bytes,
            "score_ms": test_bytes + model_bytes,
            "open_scores_ms": transcript_bytes,
            "challenge_ms": test_bytes + model_bytes + transcript_bytes,
            "open_challenges_ms": 0,
            "judge_ms": model_bytes + transcript_bytes,
        }
        low_ms = dict.fromkeys(size_bytes, parameters.min_window_ms) | {"challenge_ms": parameters.min_challenge_ms}
        return {name: low_ms[name] + parameters.fetching_ms(size) for name, size in size_bytes.items()}

    def leaves_time_to_judge(self, parameters: Parameters) -> bool:
        """Whether its release window is the network's usual one or longer. If no verdict on its test data comes within
        it, it is the aggregators who were silent; in a shorter one, it is the client who left them no time.
        """
        return self.windows.release_ms >= parameters.usual_release_ms

    def check(self, network_id: bytes, aggregators: int, parameters: Parameters) -> None:
        """Check every field that can be checked without the ledger's state.

        Raises:
            WrongNetwork, BadOrder, BadWindows, RewardTooSmall, UnknownScoreFunction: the rule that is broken.
            Malformed: a link cannot be right.
        """
        if self.network_id != network_id:
            raise WrongNetwork("the order was made for another network", seen=self.network_id, wanted=network_id)
        _check_length("client", self.client, ADDRESS_BYTES)
        for name, low in (
            ("reward", parameters.min_reward_grains),
            ("fee", parameters.min_fee_grains),
            ("bond", parameters.client_bond_grains(self.reward_grains)),
        ):
            value = getattr(self, f"{name}_grains")
            if not low <= value <= MAX_GRAINS:
                raise RewardTooSmall(
                    f"the {name} is out of bounds", seen=f"{value} grains", wanted=f"{low} .. {MAX_GRAINS} grains"
                )
        least, most = parameters.min_claim_bond_grains, parameters.claim_bond_grains(self.reward_grains)
        if not least <= self.claim_bond_grains <= most:
            raise RewardTooSmall(
                "the bond asked of claims is out of bounds",
                seen=f"{self.claim_bond_grains} grains",
                wanted=f"{least} .. {most} grains",
            )
        if not 0 <= self.nonce < 1 << 63 or not 0 <= self.seal_by_s < 1 << 40:
            raise BadOrder("the order's nonce or escrow deadline is impossible", seen=(self.nonce, self.seal_by_s))
        self.windows.check(parameters)
        if score_direction(self.score.name, self.score.version) is None:
            known = ", ".join(f"{name} (version {version})" for name, version in SCORE_FUNCTIONS)
            raise UnknownScoreFunction(
                "the network has no such score function",
                seen=f"{self.score.name} (version {self.score.version})",
                wanted=known,
            )
        for link in (self.model, self.weights, self.train, self.test.link):
            link.check()
        for name in ("root", "plain_digest", "key_commitment"):
            _check_length(f"test {name}", getattr(self.test, name), HASH_BYTES)
        self.test.check_size()
        if len(self.test.share_commitments) != aggregators or len(self.test.sealed_shares) != aggregators:
            raise BadOrder(
                "the test key is not split among this network's aggregators",
                seen=f"{len(self.test.sealed_shares)} shares",
                wanted=f"{aggregators} shares",
            )
        self._check_windows_for_files(parameters)
        for commitment in self.test.share_commitments:
            _check_length("share commitment", commitment, HASH_BYTES)
        if any(len(box) > 256 for box in self.test.sealed_shares):
            raise BadOrder("a sealed key share is too large", wanted="at most 256 bytes")
        if (
            not 0 <= self.baseline_count < 1 << 40
            or abs(self.baseline_total) >= 1 << 62
            or not 0 <= self.margin_micro < 1 << 40
        ):
            raise BadOrder(
                "the baseline or margin is impossible",
                seen=(self.baseline_total, self.baseline_count, self.margin_micro),
            )
        if (
            len(self.title) > _TITLE_CHARACTERS
            or len(self.tags) > _TAGS
            or any(len(tag) > _TAG_CHARACTERS for tag in self.tags)
        ):
            raise BadOrder(
                "title or tags are too long",
                seen=self.title,
                wanted=f"a title of {_TITLE_CHARACTERS}, {_TAGS} tags of {_TAG_CHARACTERS} characters",
            )
        for text in (self.title, *self.tags):
            if (unwanted := unwanted_character(text)) is not None:
                raise BadOrder(
                    "a title or tag holds a character that cannot be shown", seen=unwanted, wanted="printable text"
                )

    def _check_windows_for_files(self, parameters: Parameters) -> None:
        for name, least_ms in self.least_windows_ms(parameters).items():
            if (length_ms := getattr(self.windows, name)) < least_ms:
                what = name.removesuffix("_ms").replace("_", " ")
                raise BadWindows(
                    f"the {what} window is too short for the order's files",
                    seen=f"{length_ms} ms",
                    wanted=f"at least {least_ms} ms at {parameters.window_bytes_per_s} bytes a second",
                )


class ClaimScore(Record, frozen=True):
    """An exact score: an integer total over `count` examples; an invalid one ranks last (scoring.md)."""

    total: int
    count: int
    valid: bool


class ChainEvent(Record, frozen=True, kw_only=True):
    """Something that happened on the chain, as an aggregator's watcher read it and attests it (chain.md, "Ledger and
    chain").

    `kind` is one of staked, unstake_requested, withdrawn, slashed, signing_key_set, order_placed, order_refunded,
    settled, signers_rotated, funded. `role` is -1 for kinds without a role. `subject` is an order id, a root, a key or
    keys in a row; `detail` holds the kind's further integers.
    """

    kind: str
    block: int
    log_index: int
    account: Address
    role: int
    amount_grains: Wide
    subject: bytes
    detail: tuple[int, ...]

    def check(self) -> None:
        """Raise Malformed for an event that no contract of the network can have emitted."""
        if self.kind not in _EVENT_SHAPES:
            raise Malformed("there is no such chain event", seen=self.kind, wanted=", ".join(_EVENT_SHAPES))
        with_role, subject_bytes, details = _EVENT_SHAPES[self.kind]
        if not (0 <= self.role < len(Role) if with_role else self.role == -1):
            raise Malformed(f"a {self.kind} event has an impossible role", seen=self.role)
        if len(self.account) != ADDRESS_BYTES or len(self.subject) not in subject_bytes:
            raise Malformed(
                f"a {self.kind} event has an account or subject of a wrong length",
                seen=(len(self.account), len(self.subject)),
                wanted=(ADDRESS_BYTES, subject_bytes[0] if len(subject_bytes) == 1 else f"one of {subject_bytes}"),
            )
        if len(self.detail) != details or min(self.block, self.log_index, self.amount_grains, *self.detail, 0) < 0:
            raise Malformed(
                f"a {self.kind} event has impossible numbers",
                seen=(self.block, self.log_index, self.amount_grains, *self.detail[:8]),
                wanted=f"{details} further integers, each 0 or more",
            )


MAX_SIGNERS = 100
"""The most keys that the chain's contract counts."""

_NO_SPLIT = bytes(HASH_BYTES)
_NONE, _KEY, _HASH = (0,), (ADDRESS_BYTES,), (HASH_BYTES,)
_EVENT_SHAPES: dict[str, tuple[bool, Sequence[int], int]] = {
    "staked": (True, _NONE, 1),
    "unstake_requested": (True, _NONE, 2),
    "withdrawn": (True, _NONE, 0),
    "slashed": (True, _NONE, 1),
    "signing_key_set": (False, _KEY, 0),
    "order_placed": (False, _HASH, 4),
    "order_refunded": (False, _HASH, 0),
    "settled": (False, _HASH, 3),
    "signers_rotated": (False, range(ADDRESS_BYTES, ADDRESS_BYTES * MAX_SIGNERS + 1, ADDRESS_BYTES), 2),
    "funded": (False, _NONE, 0),
}
"""Of each kind of chain event: whether it has a role, how many bytes its subject may have, how many integers its detail
has.
"""


def order_id(client: Address, nonce: int, seal_by_s: int, spec_hash: bytes) -> OrderId:
    """OID as the escrow contract computes it: keccak256(abi.encode(client, nonce, sealBy, specHash)), 32 bytes."""
    return OrderId(
        keccak256(
            abi_word_address(client)
            + abi_word_uint(nonce, 64)
            + abi_word_uint(seal_by_s, 64)
            + abi_word_bytes32(spec_hash)
        )
    )


def model_id(graph_digest: bytes, weights_digest: bytes) -> ModelId:
    """MID of the model with this graph (SHA-256 of its JSON) and these weights (SHA-256 of their safetensors): 32
    bytes.
    """
    return ModelId(tagged_hash("pot-lab/model/1", graph_digest, weights_digest))


def claim_commitment(
    network_id: bytes,
    order_id: OrderId,
    provider: Address,
    mid: ModelId,
    ciphertext: HeldBlob,
    boxes_root: bytes,
    salt: Salt,
) -> Digest:
    """What a provider commits to before the deadline; hides the model until it is opened (section 2.5, "Commitment
    Scheme").

    `ciphertext` and `boxes_root` (32 bytes, `crypto.sealed_model`) say how it opens: who could name them later would
    choose then whether its model is one. The zeros are the place of a split of what the claim earns.
    """
    return tagged_hash(
        "pot-lab/claim/2", network_id, order_id, provider, mid, ciphertext.key, boxes_root, _NO_SPLIT, salt
    )


def opening_name(network_id: bytes, order_id: OrderId, mid: bytes = b"") -> Digest:
    """What verdicts call the question whether a model (without `mid`: the test data) opens to what was promised."""
    return tagged_hash("pot-lab/opening/1", network_id, order_id, mid)


def validation_commitment(
    network_id: bytes,
    order_id: OrderId,
    mid: ModelId,
    validator: Address,
    score: ClaimScore,
    transcript_root: bytes,
    salt: Salt,
) -> Digest:
    """What a validator commits to before scores are opened; salted, because a score has few values and would be
    guessed.
    """
    return tagged_hash(
        "pot-lab/validation/2",
        network_id,
        order_id,
        mid,
        validator,
        encode(score),
        transcript_root,
        salt,
    )


def validation_id(network_id: bytes, order_id: OrderId, mid: ModelId, validator: Address) -> Digest:
    """VID of a validator's score of a model (32 bytes); it has one for each model of the order."""
    return tagged_hash("pot-lab/validation-id/1", network_id, order_id, mid, validator)


def challenge_commitment(
    network_id: bytes, order_id: OrderId, challenger: Address, vid: bytes, index: int, salt: Salt
) -> Digest:
    """What a challenger commits to before it shows which example of which validation is wrong (section 3.3.3), so that
    nobody can copy what it found out.
    """
    return tagged_hash("pot-lab/challenge/1", network_id, order_id, challenger, vid, index.to_bytes(8, "big"), salt)


def sealing_binding(network_id: bytes, client: bytes, nonce: int, test_root: bytes) -> Digest:
    """What the test key, its shares and their boxes are bound to (32 bytes): network, client, order and test set.

    Without client and nonce, a copy of the victim's `TestData` in an order of one's own, with short windows, would make
    the aggregators publish the victim's shares while its providers still train. The nonce stands for the order, whose
    id names the shares and so cannot be known before them.
    """
    return tagged_hash("pot-lab/test-data/2", network_id, client, nonce.to_bytes(8, "big"), test_root)


def key_commitment(binding: bytes, key: bytes) -> Digest:
    """What an order commits to of its test-data key before the key is known; `binding` is `sealing_binding`."""
    return tagged_hash("pot-lab/test-key/2", binding, key)


def share_commitment(binding: bytes, share: Share) -> Digest:
    """What an order commits to of one key share, so a false share is refused when it is released."""
    return tagged_hash("pot-lab/key-share/2", binding, encode(share))


def share_context(binding: bytes, holder: bytes, index: int) -> Digest:
    """What a sealed share is bound to: the order's test data, the holder's account and its place."""
    return tagged_hash("pot-lab/sealed-share/2", binding, holder, index.to_bytes(2, "big"))


def _check_length(name: str, value: bytes, wanted: int) -> None:
    if len(value) != wanted:
        raise BadOrder(f"the order's {name} has the wrong length", seen=f"{len(value)} bytes", wanted=f"{wanted} bytes")
