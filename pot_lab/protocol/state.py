"""What the ledger remembers: L = (models, txPool, table, nInfo) of Table 1, plus accounts, money, epochs and
parameters.

Plain data, changed only by `ledger.py` and its rules, encoded canonically for snapshots. Nothing derived is stored.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pot_lab.crypto.canonical import Record, Wide, encode, tagged_hash
from pot_lab.crypto.identity import ADDRESS_BYTES, Address
from pot_lab.crypto.link import Link
from pot_lab.crypto.merkle import SumProof
from pot_lab.crypto.sealed_model import KeyBoxes
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.journal import Holder, State
from pot_lab.protocol.parameters import BadParameter, Parameters, Role
from pot_lab.protocol.proposals import Governance
from pot_lab.protocol.records import ClaimScore, HeldBlob, ModelId, OrderId, OrderRecord, Salt
from pot_lab.protocol.settlement import Settlement

MAX_MEMBERS = 255
"""Key shares are numbered by one byte."""


class Member(Record, frozen=True):
    """One aggregator: its account, and the X25519 key to which shares are sealed."""

    address: Address
    sealing_public: bytes


class Genesis(Record, frozen=True, kw_only=True):
    """What a network begins with; its hash is the network's id. `version` is that of the protocol's rules at first."""

    name: str
    chain_id: int
    settlement_contract: bytes
    members: tuple[Member, ...]
    parameters: Parameters
    version: int = 1

    @property
    def network_id(self) -> bytes:
        """32 bytes that every signature names."""
        return tagged_hash("pot-lab/network/1", encode(self))

    def check(self) -> None:
        """Raise BadParameter for a network that cannot work."""
        self.parameters.check()
        addresses = {member.address for member in self.members}
        if not 0 < len(self.members) <= MAX_MEMBERS or len(addresses) != len(self.members):
            raise BadParameter(
                "a network needs distinct aggregators",
                seen=f"{len(self.members)} members, {len(addresses)} accounts",
                wanted=f"1 .. {MAX_MEMBERS}",
            )
        lengths = {*map(len, addresses), len(self.settlement_contract)}
        if lengths != {ADDRESS_BYTES} or any(len(member.sealing_public) != 32 for member in self.members):
            raise BadParameter("an aggregator's account or key, or the contract's address, has the wrong length")
        if not 0 < self.version < 1 << 16:
            raise BadParameter("the rules' version is impossible", seen=self.version, wanted=f"1 .. {(1 << 16) - 1}")
        if not 0 < self.chain_id < 1 << 63:
            raise BadParameter("the chain's id is impossible", seen=self.chain_id)


class Stake(State, kw_only=True):
    """An account's stake in one role, in grains: `bonded` counts, `unbonding` can still be slashed, `locked` is
    promised to live orders.
    """

    bonded: int = 0
    unbonding: int = 0
    locked: int = 0
    slashed: int = 0


class Reputation(State, kw_only=True):
    """Counts shown to others; they order lists and never decide truth."""

    wins: int = 0
    claims: int = 0
    agreeing_validations: int = 0
    wrong_validations: int = 0
    forfeits: int = 0
    absences: int = 0


class Account(Holder, kw_only=True):
    """One account of nInfo: last nonce, stake in each role, roles in use, reputation, and everything it ever earned
    (cumulative grains).
    """

    nonce: int = 0
    stakes: list[Stake] = msgspec.field(default_factory=lambda: [Stake() for _ in Role])
    active: list[bool] = msgspec.field(default_factory=lambda: [False for _ in Role])
    reputation: Reputation = msgspec.field(default_factory=Reputation)
    earned_grains: Wide = Wide(0)


class Escrow(State, kw_only=True):
    """What the chain holds for one order."""

    client: Address
    reward_grains: int
    fee_grains: int
    bond_grains: int
    seal_by_s: int

    @property
    def total_grains(self) -> int:
        """Everything under the order's id."""
        return self.reward_grains + self.fee_grains + self.bond_grains


class SealedModelState(Holder, kw_only=True):
    """How far the opening of a revealed model is.

    Attributes:
        ciphertext: where the encrypted model is.
        boxes: its key, in a box for each holder; None once the key is known.
        holders: accounts of those that attested that their box holds their share.
        shares: released shares by the holder's place; empty once the key is known.
        key: 32 bytes once enough shares are released.
        votes: each aggregator's verdict, by account.
        right: whether it opens to the model's id, as f+1 equal verdicts say.
    """

    ciphertext: Link
    boxes: KeyBoxes | None
    holders: list[Address] = msgspec.field(default_factory=list)
    shares: dict[int, bytes] = msgspec.field(default_factory=dict)
    key: bytes = b""
    votes: dict[Address, bool] = msgspec.field(default_factory=dict)
    right: bool | None = None


class ClaimState(State, kw_only=True):
    """A provider's claim; `place` is its order among all claims of the ledger and decides ties, `fee_grains` what
    scoring its model costs unless the order's fee pays it, `seat_set` says which of the order's sets of seats scores
    its model, `sealed` is there from the reveal on.
    """

    provider: Address
    commitment: bytes
    place: int
    committed_ms: int
    bond_grains: int
    fee_grains: int = 0
    mid: ModelId = ModelId(b"")
    sealed: SealedModelState | None = None
    salt: Salt = Salt(b"")
    revealed_ms: int = 0
    seat_set: int = 0
    agreed: ClaimScore | None = None
    agreed_root: bytes = b""


class ValidationState(State, kw_only=True):
    """One validator's score of one model, first committed, then opened.

    One whose transcript did not come into custody in time has a score and no transcript: it counts as not opened.
    """

    validator: Address
    mid: ModelId
    commitment: bytes
    committed_ms: int
    score: ClaimScore | None = None
    transcript_root: bytes = b""
    transcript: Link | None = None
    opened_ms: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it is opened and counts."""
        return self.score is not None and self.transcript is not None


class ShownLeaf(Record, frozen=True):
    """The result for one example in a validator's transcript, the sum of all results, and the proof of both."""

    leaf: int
    leaves_total: int
    proof: SumProof


class Dispute(Holder, kw_only=True):
    """Whether an opened score of a model is right, which the aggregators find out by re-execution.

    `score` and `root` name what was opened, by however many validators. `challenger` is empty where the dispute opened
    by itself, because opened scores of the model differ; then the whole transcript is judged, else the leaf in `shown`.
    `votes` has the verdict of each aggregator's account, `right` the one that f+1 agree on.
    """

    name: bytes
    mid: ModelId
    score: ClaimScore
    root: bytes
    challenger: Address = Address(b"")
    shown: ShownLeaf | None = None
    votes: dict[Address, bool] = msgspec.field(default_factory=dict)
    right: bool | None = None


class ChallengeState(State, kw_only=True):
    """A challenger's commitment with its bond; `dispute` names the dispute once it is opened."""

    challenger: Address
    role: int
    bond_grains: int
    commitment: bytes
    dispute: bytes = b""


class Span(State):
    """One window that the order has been through or is in; `closed_ms` is 0 while it is open."""

    window: str
    opened_ms: int
    closed_ms: int = 0


class Payout(State):
    """Money that an order's end credited to an account, and why."""

    account: Address
    grains: int
    reason: str


class OrderNote(State):
    """Something that an account should know of an order's past: a claim that was dropped, or stake that it lost."""

    account: Address
    what: str
    grains: int = 0


class GenesisAggregator(State, kw_only=True):
    """A seat among the aggregators.

    Attributes:
        account: who staked for it, and is paid.
        key: the address that signs its votes and its statements; the account's own at first.
        sealing_public: the X25519 key to which shares are sealed.
        contact: canonical bytes of its `Contact`; empty where it stands in `network.toml`.
    """

    account: Address
    key: Address
    sealing_public: bytes
    contact: bytes = b""


class Candidate(Holder):
    """An account that applied for a seat, when, and the accounts of the aggregators that are for it."""

    seat: GenesisAggregator
    asked_ms: int
    votes: list[Address] = msgspec.field(default_factory=list)


class OrderState(Holder, kw_only=True):
    """One order and its task cycle data.

    `sealed_to` names the set of aggregators (`LedgerState.sets`) that hold the shares of its test key,
    `validators_at` the validators with their weights at t0 (`LedgerState.validator_sets`). `electors` are those of them
    that may be drawn, `seats` the account of each seat in each set, `silent` whose seats others got, with the set's
    number, `locked` everybody whose stake is locked for the order. `beacon` is the ledger's digest after the batch that
    ended the reveals, which nobody knew before, `salts` those of the claims that were revealed then. `test_votes` has
    the aggregators' verdicts on the opened test data, by account, `test_right` the one that f+1 agree on.
    `released_twice` and `judged_twice` say that the release and the judge window opened a second time,
    `lost` what each validator was slashed for this order, `found` how many seats' lies each challenger proved, `dues`
    what others get of stakes that were slashed for it, `missed` the accounts of aggregators for whose share or verdict
    it waited in vain.
    """

    order: OrderRecord
    window: Window
    put_ms: int
    closes_ms: int
    parameters: Parameters
    t0_ms: int = 0
    timeline: list[Span] = msgspec.field(default_factory=list)
    claims: dict[Address, ClaimState] = msgspec.field(default_factory=dict)
    shares: dict[int, bytes] = msgspec.field(default_factory=dict)
    test_key: bytes = b""
    test_votes: dict[Address, bool] = msgspec.field(default_factory=dict)
    test_right: bool | None = None
    released_twice: bool = False
    salts: list[Salt] = msgspec.field(default_factory=list)
    validations: list[ValidationState] = msgspec.field(default_factory=list)
    extended: bool = False
    winner: Address = Address(b"")
    void_reason: VoidReason | None = None
    payouts: list[Payout] = msgspec.field(default_factory=list)
    epoch: int = 0
    ended_ms: int = 0
    sealed_to: int = 0
    validators_at: int = 0
    electors: list[Address] = msgspec.field(default_factory=list)
    seats: list[list[Address]] = msgspec.field(default_factory=list)
    beacon: bytes = b""
    silent: list[tuple[Address, int]] = msgspec.field(default_factory=list)
    locked: list[Address] = msgspec.field(default_factory=list)
    challenges: list[ChallengeState] = msgspec.field(default_factory=list)
    disputes: list[Dispute] = msgspec.field(default_factory=list)
    judged_twice: bool = False
    lost: dict[Address, int] = msgspec.field(default_factory=dict)
    found: dict[Address, int] = msgspec.field(default_factory=dict)
    notes: list[OrderNote] = msgspec.field(default_factory=list)
    dues: list[Payout] = msgspec.field(default_factory=list)
    missed: list[Address] = msgspec.field(default_factory=list)

    @property
    def lock_grains(self) -> int:
        """L: what each validator with a seat has locked for this order."""
        return self.parameters.score_lock_grains(self.order.reward_grains)

    def seats_of(self, claim: ClaimState) -> list[Address]:
        """The account of each seat that scores the claim's model; empty before the draw."""
        return self.seats[claim.seat_set] if self.seats else []

    def claim_of(self, mid: ModelId) -> ClaimState | None:
        """The revealed claim of this model."""
        return next((claim for claim in self.claims.values() if claim.mid == mid), None) if mid else None

    def revealed(self) -> list[ClaimState]:
        """Claims whose model is known, in their places."""
        return sorted((claim for claim in self.claims.values() if claim.mid), key=lambda claim: claim.place)


class OrderHeader(State, kw_only=True):
    """What is kept of an order: its roots and its outcome (the paper's Append-Remove ledger), and how to find and open
    the winning model: its graph, its ciphertext and its key, which is public.

    `kept_until_s` is 0 where it is kept for good, and the order's `seal_by` where it ended without a model: until then
    it keeps the record from being put again.
    """

    client: Address
    title: str
    spec_hash: bytes
    window: Window
    winner: Address
    winner_mid: ModelId
    score: ClaimScore | None
    void_reason: VoidReason | None
    epoch: int
    ended_ms: int
    kept_until_s: int = 0
    graph: HeldBlob | None = None
    ciphertext: HeldBlob | None = None
    key: bytes = b""


class PendingEpoch(Holder, kw_only=True):
    """A settlement that waits for signatures, then for the chain; `denials` has the accounts of the members whose
    chain does not hold an order's escrow, `passed_on_grains` what had been passed on of slashed stakes by then.
    """

    settlement: Settlement
    order_ids: list[OrderId]
    opened_ms: int
    rewards: dict[Address, Wide]
    slashes: dict[Address, list[int]]
    passed_on_grains: Wide = Wide(0)
    signatures: dict[Address, bytes] = msgspec.field(default_factory=dict)
    denials: dict[OrderId, list[Address]] = msgspec.field(default_factory=dict)


class ForgottenEpoch(Holder, kw_only=True):
    """A settlement that was given up since orders of it were denied, with what was taken back for these: should their
    money come to the escrow later, signatures of it may still settle it.
    """

    pending: PendingEpoch
    denied: dict[OrderId, list[Payout]]


class PendingRotation(Holder, kw_only=True):
    """A signer set that waits for signatures of the current one, then for the chain: its number, how many of it must
    sign, and the accounts that stake for it, by their signing keys.
    """

    set_id: int
    threshold: int
    stakers: list[Address]
    signatures: dict[Address, bytes] = msgspec.field(default_factory=dict)


class Confirmed(Holder, kw_only=True):
    """The last settlement that the chain has confirmed; its leaves are what members may claim now."""

    epoch: int = 0
    root: bytes = b""
    total_grains: Wide = Wide(0)
    rewards: dict[Address, Wide] = msgspec.field(default_factory=dict)
    slashes: dict[Address, list[int]] = msgspec.field(default_factory=dict)
    passed_on_grains: Wide = Wide(0)


class LedgerState(Holder, kw_only=True):
    """Everything; equal ledgers have equal canonical bytes.

    `rounds` counts the settlements made for the epoch after the confirmed one: no two of them may share a round, since
    the contract takes two signatures under one (epoch, round) for equivocation.

    `aggregators` are the members whose votes count, and the set that consensus shall have; `changed` is the batch that
    named them, `era` the checkpoint after which consensus took the last set. `keys` names the account of every key
    that ever was an aggregator's; `convicted` are those that equivocated.
    `signers` are the keys that the chain's contract counts, ascending, `signing_quorum` how many of them it requires,
    `chain_keys` the keys that staking accounts named there; `rotation` is the set that shall follow.
    `forgotten` are the settlements for the same epoch that were given up.
    `sets` holds the sets to which live orders are sealed, account and sealing key, by the batch that named the set;
    `validator_sets` the registered validators with their stake in grains when orders started, by a batch that did.
    `dues` are what accounts get of slashed stakes once the chain has taken these, `treasury_due_grains` what the
    treasury gets after them; `recovered_grains` is what the chain has taken and nobody got yet, `passed_on_grains` what
    somebody got.
    `downtime` counts the settlements that an aggregator's account did not sign, less those that it signed since.
    `custody` names, for each blob that an order names (`HeldBlob.key`), the accounts of the members that attested it.
    """

    genesis: Genesis
    parameters: Parameters
    sequence: int = 0
    time_ms: int = 0
    digest: bytes = b""
    claim_places: int = 0
    accounts: dict[Address, Account] = msgspec.field(default_factory=dict)
    orders: dict[OrderId, OrderState] = msgspec.field(default_factory=dict)
    headers: dict[OrderId, OrderHeader] = msgspec.field(default_factory=dict)
    escrows: dict[OrderId, Escrow] = msgspec.field(default_factory=dict)
    next_chain_event: int = 0
    attestations: dict[int, dict[bytes, list[Address]]] = msgspec.field(default_factory=dict)
    deposited_grains: Wide = Wide(0)
    withdrawn_grains: Wide = Wide(0)
    staked_grains: int = 0
    escrowed_grains: int = 0
    earned_grains: Wide = Wide(0)
    slashed_grains: int = 0
    pending: PendingEpoch | None = None
    unsettled: list[OrderId] = msgspec.field(default_factory=list)
    confirmed: Confirmed = msgspec.field(default_factory=Confirmed)
    next_update_ms: int = 0
    signer_set_id: int = 1
    rounds: int = 0
    aggregators: list[GenesisAggregator] = msgspec.field(default_factory=list)
    changed: int = 0
    era: int = 0
    sets: dict[int, list[Member]] = msgspec.field(default_factory=dict)
    validator_sets: dict[int, dict[Address, int]] = msgspec.field(default_factory=dict)
    custody: dict[bytes, list[Address]] = msgspec.field(default_factory=dict)
    keys: dict[Address, Address] = msgspec.field(default_factory=dict)
    signers: list[Address] = msgspec.field(default_factory=list)
    convicted: list[Address] = msgspec.field(default_factory=list)
    candidates: dict[Address, Candidate] = msgspec.field(default_factory=dict)
    removals: dict[Address, list[Address]] = msgspec.field(default_factory=dict)
    signing_quorum: int = 0
    chain_keys: dict[Address, Address] = msgspec.field(default_factory=dict)
    rotation: PendingRotation | None = None
    governance: Governance = msgspec.field(default_factory=Governance)
    forgotten: list[ForgottenEpoch] = msgspec.field(default_factory=list)
    dues: dict[Address, int] = msgspec.field(default_factory=dict)
    treasury_due_grains: int = 0
    recovered_grains: int = 0
    passed_on_grains: Wide = Wide(0)
    downtime: dict[Address, int] = msgspec.field(default_factory=dict)


class Event(Record, frozen=True, kw_only=True):
    """Something that happened in the ledger, for subscribers, duties and histories.

    `kind` names it, `order` and `account` say whose it is (empty where nobody's), `detail` holds the rest under
    readable names.
    """

    kind: str
    order: OrderId = OrderId(b"")
    account: Address = Address(b"")
    detail: dict[str, Any] = msgspec.field(default_factory=dict)
