"""What queries answer: typed views, equal on every aggregator that has the same state.

A client accepts a view that f+1 aggregators answer in equal bytes, so a view depends on nothing but the state it shows
(section 3.1.1, Get and FetchOrders). Views are for reading only and hold no rule.
"""

from __future__ import annotations

from pot_lab.crypto.canonical import Record, Wide
from pot_lab.crypto.identity import Address
from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.protocol.contact import Contact
from pot_lab.protocol.cycle import Phase, Window
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.proposals import OwnerActSignature, ParameterChange
from pot_lab.protocol.records import ClaimScore, ModelId, OrderId, OrderRecord
from pot_lab.protocol.settlement import Settlement
from pot_lab.protocol.state import Genesis, Member

ARGUMENT_LIMIT_BYTES = 1_024


class UnknownQuery(PotLabError):
    """There is no such query.

    What to do: update the package, or the aggregators.
    """


class ClaimView(Record, frozen=True, kw_only=True):
    """A claim as others see it: the model's id and its ciphertext's link are empty until it is revealed, `key` (32
    bytes) until the test data are proven; `assigned` has an account for each seat that scores the model.
    """

    provider: Address
    commitment: bytes
    place: int
    committed_ms: int
    revealed_ms: int
    mid: ModelId
    ciphertext: Link | None
    key: bytes
    assigned: tuple[Address, ...]
    agreed: ClaimScore | None
    agreed_root: bytes


class ValidationView(Record, frozen=True, kw_only=True):
    """A validation as others see it: score and transcript are empty until it is opened."""

    validator: Address
    mid: ModelId
    commitment: bytes
    committed_ms: int
    opened_ms: int
    score: ClaimScore | None
    transcript_root: bytes
    transcript: Link | None


class DisputeView(Record, frozen=True, kw_only=True):
    """A score that aggregators judge: `opened_by_itself` where opened scores differ, else somebody challenged the
    result for the example `index`. `right` is None until f+1 aggregators agree; `votes` counts their verdicts.
    """

    name: bytes
    mid: ModelId
    score: ClaimScore
    root: bytes
    challenger: Address
    index: int
    votes: int
    right: bool | None

    @property
    def opened_by_itself(self) -> bool:
        """Whether it opened without a challenger, because opened scores of the model differ."""
        return not self.challenger


class ChallengeView(Record, frozen=True, kw_only=True):
    """A challenger's commitment; `dispute` names the dispute once it is opened."""

    challenger: Address
    commitment: bytes
    dispute: bytes


class SpanView(Record, frozen=True):
    """One window of the timeline; `closed_ms` is 0 while it is open."""

    name: str
    opened_ms: int
    closed_ms: int


class PayoutView(Record, frozen=True):
    """Money credited by the order's end."""

    account: Address
    grains: int
    reason: str


class OrderView(Record, frozen=True, kw_only=True):
    """One order and everything public about its task cycle; `next_bond_grains` is what the next claim would lock."""

    id: OrderId
    order: OrderRecord
    window: Window
    phase: Phase
    put_ms: int
    t0_ms: int
    closes_ms: int
    timeline: tuple[SpanView, ...]
    claims: tuple[ClaimView, ...]
    validations: tuple[ValidationView, ...]
    test_key: bytes
    winner: Address
    void_reason: str
    payouts: tuple[PayoutView, ...]
    epoch: int
    ended_ms: int
    challenges: tuple[ChallengeView, ...] = ()
    disputes: tuple[DisputeView, ...] = ()
    next_bond_grains: int = 0

    def __repr__(self) -> str:
        """A line for whoever looks at it in a notebook; the record itself is pages of keys and digests."""
        reason = f", void_reason={self.void_reason!r}" if self.void_reason else ""
        name = f"0x{self.id.hex()[:12]}..., {self.order.title!r}, window={self.window.value!r}"
        return f"OrderView({name}, claims={len(self.claims)}, validations={len(self.validations)}{reason})"

    @property
    def ended(self) -> bool:
        """Whether the order has reached SETTLED or VOID."""
        return self.phase is Phase.ENDED

    def claim_by(self, provider: Address) -> ClaimView | None:
        """The provider's claim, if it has one."""
        return next((claim for claim in self.claims if claim.provider == provider), None)


class OrderSummary(Record, frozen=True, kw_only=True):
    """One line of an order list."""

    id: OrderId
    client: Address
    title: str
    window: Window
    phase: Phase
    t0_ms: int
    closes_ms: int
    reward_grains: int
    train_ms: int
    score_name: str
    claims: int
    leader: Address
    leader_score: ClaimScore | None
    void_reason: str
    ended_ms: int


class StakeView(Record, frozen=True, kw_only=True):
    """Stake of one role, in grains."""

    role: int
    active: bool
    bonded_grains: int
    unbonding_grains: int
    locked_grains: int
    slashed_grains: int


class SlashView(Record, frozen=True, kw_only=True):
    """A slash that anybody may carry out on the chain."""

    node: Address
    role: int
    cumulative_grains: int
    to: Address
    proof: tuple[bytes, ...]


class AccountView(Record, frozen=True, kw_only=True):
    """One account: what it has at stake, what it earned in all, what it may claim on the chain now, and the proof."""

    address: Address
    nonce: int
    stakes: tuple[StakeView, ...]
    wins: int
    claims: int
    agreeing_validations: int
    wrong_validations: int
    forfeits: int
    absences: int
    earned_grains: Wide
    claimable_epoch: int
    claimable_cumulative_grains: Wide
    claim_proof: tuple[bytes, ...]


class EpochView(Record, frozen=True, kw_only=True):
    """The pending settlement with the signatures it has so far, and the last confirmed one."""

    settlement: Settlement | None
    order_ids: tuple[OrderId, ...]
    signers: tuple[Address, ...]
    signatures: tuple[bytes, ...]
    quorum: int
    confirmed_epoch: int
    confirmed_root: bytes
    confirmed_total_grains: Wide
    slashes: tuple[SlashView, ...]


class NetworkView(Record, frozen=True, kw_only=True):
    """The network as a whole; `orders_live` counts those that have not ended, `validator_stake_grains` the stake of all
    registered validators, `members` are the aggregators now, to whose keys an order's shares are sealed.
    """

    genesis: Genesis
    parameters: Parameters
    next_chain_event: int
    orders_live: int
    providers: int
    validators: int
    verifiers: int
    validator_stake_grains: int
    deposited_grains: Wide
    members: tuple[Member, ...]


class SeatView(Record, frozen=True, kw_only=True):
    """A seat among the aggregators; `contact` is None where it stands in `network.toml`, `against` are the accounts of
    those who voted to take it away.
    """

    account: Address
    key: Address
    sealing_public: bytes
    contact: Contact | None
    convicted: bool
    against: tuple[Address, ...]


class CandidateView(Record, frozen=True, kw_only=True):
    """Who applied for a seat, and the accounts of the aggregators that are for it."""

    account: Address
    key: Address
    contact: Contact
    votes: tuple[Address, ...]


class SeatsView(Record, frozen=True, kw_only=True):
    """The aggregators as the ledger has them, and how many votes give or take a seat. While `change_pending` no other
    change can be made. `signers` are the keys that the chain's contract counts, under the number `signer_set_id`;
    `next_signers` the accounts that shall sign instead, empty while the contract has the wanted set.
    """

    seats: tuple[SeatView, ...]
    candidates: tuple[CandidateView, ...]
    quorum: int
    change_pending: bool
    signer_set_id: int
    signers: tuple[Address, ...]
    next_signers: tuple[Address, ...]


class ProposalView(Record, frozen=True, kw_only=True):
    """A proposal: what it changes, who is for and against it, and how it stands or ended.

    `outcome` is "voting" and then "passed", until it takes force, and one of `proposals.OUTCOMES` after. Stakes are
    grains: for it, against it, and in all. `closes_ms` is when the vote, `activates_ms` when the delay ends; 0 where it
    does not apply.
    """

    number: int
    proposer: Address
    bond_grains: int
    changes: tuple[ParameterChange, ...]
    version: int
    install: str
    for_grains: int
    against_grains: int
    total_grains: int
    quorum_bp: int
    majority_bp: int
    closes_ms: int
    activates_ms: int
    outcome: str


class OwnerActView(Record, frozen=True, kw_only=True):
    """An act of the contracts' owner that the vote on `proposal` asks for: until when the ledger keeps it, how many
    signatures it takes, and what each signer signed.
    """

    proposal: int
    until_ms: int
    quorum: int
    signatures: tuple[tuple[Address, OwnerActSignature], ...]


class GovernanceView(Record, frozen=True, kw_only=True):
    """Parameters and version of the rules in force, since which batch, what a proposal must bond now, the proposals by
    number, those that ended last among them, and the acts of the contracts' owner that votes ask for.
    """

    parameters: Parameters
    version: int
    since: int
    bond_grains: int
    proposals: tuple[ProposalView, ...]
    acts: tuple[OwnerActView, ...] = ()


class OrderQuery(Record, frozen=True):
    """Arguments of `order`."""

    order_id: OrderId


class OrdersQuery(Record, frozen=True):
    """Arguments of `orders` (newest first; empty client: everybody's) and of `fetch_orders`."""

    limit: int = 100
    client: Address = Address(b"")


class WhyQuery(Record, frozen=True):
    """Arguments of `why`."""

    order_id: OrderId
    account: Address


class WhyLine(Record, frozen=True):
    """One thing that decided what an account got: in words, the grains that it brought (or, below zero, cost), and the
    heading of protocol.md with the rule.
    """

    text: str
    grains: int
    rule: str


class WhyView(Record, frozen=True, kw_only=True):
    """Why an account was paid what it was for an order, or was not."""

    order_id: OrderId
    account: Address
    lines: tuple[WhyLine, ...]

    def __repr__(self) -> str:
        """A line for each reason, with the rule."""
        return "\n".join(f"{line.text}  [protocol.md, {line.rule}]" for line in self.lines)


class WindowsQuery(Record, frozen=True, kw_only=True):
    """Arguments of `orders_in`: the orders that are in one of these windows, by id, from the one after `after` on.

    With `assigned`, only those with a revealed model that this account was drawn for.
    """

    windows: tuple[Window, ...]
    assigned: Address = Address(b"")
    after: OrderId = OrderId(b"")
    limit: int = 500


class AccountQuery(Record, frozen=True):
    """Arguments of `account`."""

    address: Address
