"""What the network's members may set, and the hard bounds that no vote can leave.

An order is judged by the parameters in force at its t0: it keeps a copy, so a later vote changes no live order
(protocol.md, "Records"). Shares are basis points (10,000 = all), money is grains, time is milliseconds.
"""

from __future__ import annotations

import re
from enum import IntEnum

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Address
from pot_lab.errors import PotLabError

GRAINS_PER_POT = 10**9
BASIS_POINTS = 10_000
PRICE_STEPS = 8
"""How often the price of a claim doubles until all places of its order are taken."""
LOCKS_TO_START, LOCKS_TO_REVEAL = 10, 7
"""How many locks the validators' stakes must be worth together for an order to start, and for models to be revealed."""
BURN_ADDRESS = Address(bytes.fromhex("000000000000000000000000000000000000dead"))


class Role(IntEnum):
    """What an account may register as; the numbers are the stake contract's."""

    PROVIDER = 0
    VALIDATOR = 1
    VERIFIER = 2
    AGGREGATOR = 3


class Direction(IntEnum):
    """Whether more or less of a score is better."""

    HIGHER = 1
    LOWER = -1


class ParameterBounds(Record, frozen=True):
    """Of a score function's parameter: lowest and highest value, and the usual one, which a name leaves out."""

    low: int
    high: int
    usual: int | None


class ScoreRule(Record, frozen=True, kw_only=True):
    """What the ledger knows of a score function.

    Attributes:
        direction: which way is better.
        parameters: bounds by name.
        sums: whether its total is the sum of the transcript's leaves.
        best: where more is better, the best score per example.
    """

    direction: Direction
    parameters: tuple[tuple[str, ParameterBounds], ...] = ()
    sums: bool = True
    best: int = 1


_MILLION = 10**6
_DECIMALS = ("decimals", ParameterBounds(0, 12, 6))
_SCALE = (("exponent", ParameterBounds(0, 40, None)), ("scale", ParameterBounds(100_000, 999_999, None)))
_THRESHOLD = ("threshold", ParameterBounds(1, 999, 500))
SLICES = ("slices", ParameterBounds(1, 2, 1))
SCORE_FUNCTIONS: dict[tuple[str, int], ScoreRule] = {
    ("accuracy", 1): ScoreRule(direction=Direction.HIGHER),
    ("top_k_accuracy", 1): ScoreRule(direction=Direction.HIGHER, parameters=(("k", ParameterBounds(2, 1000, 5)),)),
    ("cross_entropy", 1): ScoreRule(direction=Direction.LOWER),
    ("perplexity", 1): ScoreRule(direction=Direction.LOWER),
    ("next_token_loss", 1): ScoreRule(direction=Direction.LOWER),
    ("macro_f1", 1): ScoreRule(
        direction=Direction.HIGHER, parameters=(("classes", ParameterBounds(2, 4096, None)),), sums=False, best=_MILLION
    ),
    ("mse", 1): ScoreRule(direction=Direction.LOWER, parameters=(_DECIMALS,)),
    ("mae", 1): ScoreRule(direction=Direction.LOWER, parameters=(_DECIMALS,)),
    ("scaled_mse", 1): ScoreRule(direction=Direction.LOWER, parameters=_SCALE),
    ("scaled_mae", 1): ScoreRule(direction=Direction.LOWER, parameters=_SCALE),
    ("quantile_loss", 1): ScoreRule(
        direction=Direction.LOWER, parameters=(_DECIMALS, ("permille", ParameterBounds(1, 999, 500)))
    ),
    ("brier", 1): ScoreRule(direction=Direction.LOWER),
    ("weighted_accuracy", 1): ScoreRule(direction=Direction.HIGHER, best=1000),
    ("weighted_cross_entropy", 1): ScoreRule(direction=Direction.LOWER),
    ("token_accuracy", 1): ScoreRule(direction=Direction.HIGHER, best=_MILLION),
    ("mean_iou", 1): ScoreRule(direction=Direction.HIGHER, best=_MILLION),
    ("auc", 1): ScoreRule(direction=Direction.HIGHER, sums=False, best=_MILLION),
    ("ndcg", 1): ScoreRule(
        direction=Direction.HIGHER, parameters=(("k", ParameterBounds(1, 1000, 10)),), best=_MILLION
    ),
    ("multilabel_micro_f1", 1): ScoreRule(
        direction=Direction.HIGHER, parameters=(_THRESHOLD,), sums=False, best=_MILLION
    ),
    ("multilabel_macro_f1", 1): ScoreRule(
        direction=Direction.HIGHER,
        parameters=(("labels", ParameterBounds(2, 18, None)), _THRESHOLD),
        sums=False,
        best=_MILLION,
    ),
}
"""Score functions that an order may name, with their version (scoring.md): clients choose, never supply code. Every one
has the parameter `slices` too."""

_SCORE_NAME = re.compile(r"([a-z0-9_]{1,64})(?:\[([a-z0-9_=,]{1,128})\])?")
_SCORE_PARAMETER = re.compile(r"([a-z0-9_]{1,32})=(0|[1-9][0-9]{0,8})")


def score_direction(name: str, version: int) -> Direction | None:
    """Which way is better for a score function, named as `name` or `name[parameter=value,...]`; None if there is none.

    One function has one name: parameters stand in alphabetical order, and only those that differ from the usual.
    """
    match = _SCORE_NAME.fullmatch(name)
    rule = SCORE_FUNCTIONS.get((match[1], version)) if match else None
    if match is None or rule is None:
        return None
    bounds = dict((*rule.parameters, SLICES))
    given: list[str] = []
    for part in match[2].split(",") if match[2] is not None else ():
        parameter = _SCORE_PARAMETER.fullmatch(part)
        if parameter is None or parameter[1] not in bounds or (given and parameter[1] <= given[-1]):
            return None
        one, value = bounds[parameter[1]], int(parameter[2])
        if not one.low <= value <= one.high or value == one.usual:
            return None
        given.append(parameter[1])
    needed = {parameter for parameter, one in bounds.items() if one.usual is None}
    return rule.direction if needed <= set(given) else None


def score_is_sum(name: str, version: int) -> bool:
    """Whether the total of a score function that `score_direction` knows is the sum of its transcript's leaves."""
    return SCORE_FUNCTIONS[name.partition("[")[0], version].sums


def best_score(name: str, version: int) -> int:
    """The best score per example of a function that `score_direction` knows: 0 where less is better."""
    rule = SCORE_FUNCTIONS[name.partition("[")[0], version]
    return rule.best if rule.direction is Direction.HIGHER else 0


class BadParameter(PotLabError):
    """A parameter lies outside its hard bounds.

    What to do: choose a value within the bounds; the parameter table lists them.
    """


class Parameters(Record, frozen=True, kw_only=True):
    """The network's settings in force.

    Attributes:
        min_train_ms, max_train_ms: bounds of an order's commit window, in which providers train.
        min_window_ms, max_window_ms: bounds of each other window that an order asks for.
        min_challenge_ms: least length of its challenge window.
        window_bytes_per_s: how fast everybody is expected to fetch the files of an order; its windows may be no shorter
            than the least length and the time that its files take at this rate.
        usual_windows_ms: windows an order gets unless it asks for others: reveal, release, score, open scores,
            challenge, open challenges, judge.
        pool_ms: how long a posted order waits for its escrow before it ends void.
        update_ms: time between two settlement epochs.
        settlement_timeout_ms: how long a signed epoch may stay unconfirmed before it is signed again.
        retention_ms: how long the ledger keeps an order after its end.
        unbonding_ms: how long the chain holds stake after its owner asked for it; the founder takes it from the
            contract, and no vote changes it. No order may last longer, since a stake must outlive what it backs.
        candidate_ms: how long an account stays a candidate for an aggregator's seat.
        seal_margin_ms: what an order's `seal_by` date must leave after its longest cycle, beside `pool_ms`, `update_ms`
            and `settlement_timeout_ms`.
        min_reward_grains, min_fee_grains, min_bond_grains: least that an order escrows of each.
        min_stake_grains: least stake of a provider, a validator, a verifier, an aggregator.
        client_bond_bp: share of the reward that a client's bond is at least.
        min_claim_bond_grains, claim_bond_bp: what a provider bonds with a claim: at least so much, and at most that or
            this share of the reward.
        min_scoring_fee_grains, scoring_fee_bp: what scoring a model costs its provider, if it is none of the best that
            the order's fee pays for: this share of the reward, and at least so much; twice as much for each eighth of
            the order's places that was taken before.
        min_score_lock_grains, score_lock_bp: what a validator has locked of its stake for an order that it scores, once
            for all models: this share of the reward, and at least so much.
        winner_bp, validators_bp, aggregators_bp: shares of the reward; what is left goes to the treasury.
        unopened_bp: share of that lock that a validator loses if it opens not all the scores that it committed to.
        absence_bp, min_absence_grains: what a validator loses for each of its seats on an order that it did not score,
            as a share of what a seat earns (20,000: twice as much), and at least.
        withheld_bp: what an aggregator loses that holds a share of a model's key and does not publish it, so that the
            model stays closed: this share of the reward, once for an order.
        jail_marks: how many settlements an aggregator may leave unsigned, less those that it signs, until orders pay it
            nothing.
        finder_bp: share of what a wrong score costs that goes to who proved it, or to the seats that scored right; and
            of a lost challenge's bond that goes to the validators whose score was called wrong.
        min_challenge_bond_grains, challenge_bond_bp: what a challenge locks: this share of the reward, and at least so
            much.
        seats_per_order: how many seats, drawn by stake, score an order's models.
        min_validators: how many registered validators an order waits for before it starts.
        max_live_orders_per_account: how many orders of an account may be live at once.
        max_claims_per_order: how many claims an order takes.
        treasury: the account (20 bytes) that gets what rounding leaves of a reward.
        voting_ms: how long members vote on a proposal.
        timelock_ms: how long a proposal that passed waits until it takes force.
        proposal_bond_grains: what a proposal bonds of its proposer's stake, twice as much for each one that there is.
        quorum_bp: share of all members' stake that has to vote.
        majority_bp: share of the votes that has to be for it.
    """

    # windows an order may ask for
    min_train_ms: int = 1_000
    max_train_ms: int = 10 * 86_400_000
    min_window_ms: int = 500
    max_window_ms: int = 7 * 86_400_000
    min_challenge_ms: int = 1_000
    window_bytes_per_s: int = 1_000_000
    usual_windows_ms: tuple[int, int, int, int, int, int, int] = (
        60_000,
        60_000,
        900_000,
        60_000,
        120_000,
        60_000,
        120_000,
    )
    # how long things may wait
    pool_ms: int = 600_000
    update_ms: int = 60_000
    settlement_timeout_ms: int = 60_000
    retention_ms: int = 86_400_000
    seal_margin_ms: int = 60_000
    unbonding_ms: int = 21 * 86_400_000
    candidate_ms: int = 7 * 86_400_000
    # money
    min_reward_grains: int = GRAINS_PER_POT // 100
    min_fee_grains: int = GRAINS_PER_POT // 100
    min_bond_grains: int = GRAINS_PER_POT // 10
    client_bond_bp: int = 1_000
    min_stake_grains: tuple[int, int, int, int] = (
        10 * GRAINS_PER_POT,
        20 * GRAINS_PER_POT,
        5 * GRAINS_PER_POT,
        100 * GRAINS_PER_POT,
    )
    min_claim_bond_grains: int = GRAINS_PER_POT
    claim_bond_bp: int = 500
    min_scoring_fee_grains: int = GRAINS_PER_POT // 100
    scoring_fee_bp: int = 50
    min_score_lock_grains: int = GRAINS_PER_POT
    score_lock_bp: int = 1_000
    # shares of the reward
    winner_bp: int = 8_000
    validators_bp: int = 1_500
    aggregators_bp: int = 500
    # penalties
    unopened_bp: int = 5_000
    absence_bp: int = 20_000
    min_absence_grains: int = GRAINS_PER_POT // 50
    withheld_bp: int = 500
    finder_bp: int = 5_000
    jail_marks: int = 60
    min_challenge_bond_grains: int = GRAINS_PER_POT
    challenge_bond_bp: int = 500
    # people
    seats_per_order: int = 7
    min_validators: int = 4
    max_live_orders_per_account: int = 64
    max_claims_per_order: int = 256
    treasury: Address = BURN_ADDRESS
    # votes on all this
    voting_ms: int = 3 * 86_400_000
    timelock_ms: int = 2 * 86_400_000
    proposal_bond_grains: int = 10 * GRAINS_PER_POT
    quorum_bp: int = 4_000
    majority_bp: int = 6_667

    def client_bond_grains(self, reward_grains: int) -> int:
        """Least that a client bonds for an order of this reward."""
        return max(self.min_bond_grains, reward_grains * self.client_bond_bp // BASIS_POINTS)

    def claim_bond_grains(self, reward_grains: int) -> int:
        """Most that an order of this reward may ask providers to bond, and what it asks unless its client asks less."""
        return max(self.min_claim_bond_grains, reward_grains * self.claim_bond_bp // BASIS_POINTS)

    def scoring_fee_grains(self, reward_grains: int, claims: int) -> int:
        """What scoring the next model of an order costs that has so many claims, unless the order's fee pays it.

        It doubles with each eighth of the places, so that who takes all of them pays for it many times the reward.
        """
        base = max(self.min_scoring_fee_grains, reward_grains * self.scoring_fee_bp // BASIS_POINTS)
        return base << (PRICE_STEPS * claims // self.max_claims_per_order)

    def next_bond_grains(self, reward_grains: int, claim_bond_grains: int, claims: int) -> int:
        """What the next claim on an order locks that has so many: its bond, which scoring its model may be taken of."""
        return max(claim_bond_grains, self.scoring_fee_grains(reward_grains, claims))

    def scoring_grains(self, reward_grains: int) -> int:
        """What scoring and ordering get of a reward, with a winner or where no model beats the baseline."""
        return sum(reward_grains * share_bp // BASIS_POINTS for share_bp in (self.validators_bp, self.aggregators_bp))

    def score_lock_grains(self, reward_grains: int) -> int:
        """L: what a validator has locked for an order of this reward whose models it scores, however many they are."""
        return max(self.min_score_lock_grains, reward_grains * self.score_lock_bp // BASIS_POINTS)

    def challenge_bond_grains(self, reward_grains: int) -> int:
        """What a challenge to a score of an order of this reward bonds."""
        return max(self.min_challenge_bond_grains, reward_grains * self.challenge_bond_bp // BASIS_POINTS)

    def absence_grains(self, reward_grains: int) -> int:
        """What a seat that is left silent costs on an order of this reward."""
        earned = reward_grains * self.validators_bp // BASIS_POINTS // self.seats_per_order
        return max(self.min_absence_grains, earned * self.absence_bp // BASIS_POINTS)

    def fetching_ms(self, size_bytes: int) -> int:
        """How long files of this size may take at the rate that everybody is expected to have."""
        return size_bytes * 1_000 // self.window_bytes_per_s

    @property
    def usual_release_ms(self) -> int:
        """The usual release window: in what is shorter nobody has to have judged test data."""
        return self.usual_windows_ms[1]

    @property
    def settling_ms(self) -> int:
        """The time that an order's end may take to reach the chain."""
        return self.update_ms + self.settlement_timeout_ms + self.seal_margin_ms

    def check(self) -> None:
        """Raise BadParameter for the first value outside its bounds."""
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadParameter(f"parameter {name} is out of bounds", seen=value, wanted=f"{low} .. {high}")
        for low_name, high_name in (
            ("min_train_ms", "max_train_ms"),
            ("min_window_ms", "max_window_ms"),
            ("min_challenge_ms", "max_window_ms"),
        ):
            if getattr(self, low_name) > getattr(self, high_name):
                raise BadParameter(
                    f"{low_name} is above {high_name}, so no order could be placed",
                    seen=getattr(self, low_name),
                    wanted=f"at most {getattr(self, high_name)}",
                )
        if self.min_train_ms + sum(self.usual_windows_ms) + self.settling_ms > self.unbonding_ms:
            raise BadParameter(
                "the chain's unbonding is over before an order with the usual windows is settled",
                seen=f"{self.unbonding_ms} ms",
                wanted=f"at least {self.min_train_ms + sum(self.usual_windows_ms) + self.settling_ms} ms",
            )
        if self.voting_ms + self.timelock_ms > self.unbonding_ms:
            raise BadParameter(
                "voters could take their stake back before what they voted for takes force",
                seen=f"voting_ms and timelock_ms are {self.voting_ms + self.timelock_ms} ms",
                wanted=f"at most unbonding_ms, {self.unbonding_ms} ms",
            )
        shares = self.winner_bp + self.validators_bp + self.aggregators_bp
        if shares > BASIS_POINTS:
            raise BadParameter(
                "the shares of the reward add up to more than all of it", seen=shares, wanted=f"at most {BASIS_POINTS}"
            )
        if any(not 0 <= stake <= 10**18 for stake in self.min_stake_grains) or len(self.min_stake_grains) != len(Role):
            raise BadParameter(
                "a minimum stake is out of bounds", seen=self.min_stake_grains, wanted="0 .. 10^18 grains for each role"
            )
        if any(not self.min_window_ms <= window <= self.max_window_ms for window in self.usual_windows_ms):
            raise BadParameter(
                "a usual window is out of bounds",
                seen=self.usual_windows_ms,
                wanted=f"{self.min_window_ms} .. {self.max_window_ms} ms",
            )
        if len(self.treasury) != 20:
            raise BadParameter("the treasury is not an account", seen=self.treasury, wanted="20 bytes")


_DAY_MS = 86_400_000
_BOUNDS = (
    ("min_train_ms", 100, _DAY_MS),
    ("max_train_ms", 1_000, 365 * _DAY_MS),
    ("min_window_ms", 100, _DAY_MS),
    ("max_window_ms", 1_000, 60 * _DAY_MS),
    ("min_challenge_ms", 100, _DAY_MS),
    ("window_bytes_per_s", 1_000, 10**12),
    ("pool_ms", 1_000, 7 * _DAY_MS),
    ("update_ms", 500, 30 * _DAY_MS),
    ("settlement_timeout_ms", 1_000, 7 * _DAY_MS),
    ("retention_ms", 0, 3650 * _DAY_MS),
    ("seal_margin_ms", 0, 30 * _DAY_MS),
    ("unbonding_ms", 60_000, 365 * _DAY_MS),
    ("candidate_ms", 60_000, 365 * _DAY_MS),
    ("min_reward_grains", 1, 10**18),
    ("min_fee_grains", 0, 10**18),
    ("min_bond_grains", 0, 10**18),
    ("client_bond_bp", 0, BASIS_POINTS),
    ("min_claim_bond_grains", 0, 10**18),
    ("claim_bond_bp", 0, BASIS_POINTS),
    ("min_scoring_fee_grains", 0, 10**15),
    ("scoring_fee_bp", 0, 500),
    ("min_score_lock_grains", 0, 10**18),
    ("score_lock_bp", 0, BASIS_POINTS),
    ("winner_bp", 5_000, BASIS_POINTS),
    ("validators_bp", 0, 5_000),
    ("aggregators_bp", 0, 2_000),
    ("unopened_bp", 0, BASIS_POINTS),
    ("absence_bp", 0, 10 * BASIS_POINTS),
    ("min_absence_grains", 0, 10**18),
    ("withheld_bp", 0, BASIS_POINTS),
    ("jail_marks", 1, 1_000_000),
    ("finder_bp", 0, 9_000),  # all of it would let a liar prove its own lie for nothing
    ("min_challenge_bond_grains", 0, 10**18),
    ("challenge_bond_bp", 0, BASIS_POINTS),
    ("seats_per_order", 3, 63),
    ("min_validators", 3, 1_000),
    ("max_live_orders_per_account", 1, 10_000),
    ("max_claims_per_order", 1, 10_000),
    ("voting_ms", 1_000, 30 * _DAY_MS),
    ("timelock_ms", 1_000, 30 * _DAY_MS),
    ("proposal_bond_grains", 1, 10**18),
    ("quorum_bp", 3_334, 9_000),  # a third of the stake decides nothing alone, and a tenth stops nothing by silence
    ("majority_bp", 5_001, 9_000),
)
