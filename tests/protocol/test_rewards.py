"""Splits give away exactly the escrow, whatever the amounts, and rank scores by integers alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pot_lab.protocol.cycle import VoidReason
from pot_lab.protocol.parameters import BASIS_POINTS, Direction, Parameters
from pot_lab.protocol.records import MICRO, ClaimScore
from pot_lab.protocol.rewards import (
    UNPROVEN,
    beats_baseline,
    better,
    sealed_payouts,
    share_out,
    unimproved_payouts,
    void_payouts,
)
from pot_lab.protocol.state import Escrow, Payout

CLIENT, TREASURY, WINNER = b"\x01" * 20, b"\x02" * 20, b"\x03" * 20
MEMBERS = [bytes([100 + i]) * 20 for i in range(7)]
PEOPLE = [bytes([10 + i]) * 20 for i in range(7)]

escrows = st.builds(
    Escrow, client=st.just(CLIENT), reward_grains=st.integers(1, 10**18), fee_grains=st.integers(0, 10**18),
    bond_grains=st.integers(0, 10**18), seal_by_s=st.just(0),
)  # fmt: skip
weights = st.dictionaries(st.sampled_from(PEOPLE), st.integers(1, 10**18), max_size=7)


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    winner = draw(st.integers(5_000, 10_000))
    validators = draw(st.integers(0, min(5_000, 10_000 - winner)))
    aggregators = draw(st.integers(0, min(2_000, 10_000 - winner - validators)))
    found = structs.replace(
        Parameters(), winner_bp=winner, validators_bp=validators, aggregators_bp=aggregators, treasury=TREASURY
    )
    found.check()
    return found


def paid(payouts: list[Payout], reason: str) -> int:
    return sum(payout.grains for payout in payouts if payout.reason == reason)


@given(escrows, parameters(), weights.filter(bool), weights, st.integers(1, 7))
def test_a_sealed_order_pays_out_exactly_its_escrow(
    escrow: Escrow, terms: Parameters, winning: dict[bytes, int], others: dict[bytes, int], members: int
) -> None:
    payouts = sealed_payouts(escrow, terms, WINNER, winning, others, MEMBERS[:members])
    assert sum(payout.grains for payout in payouts) == escrow.total_grains
    assert all(payout.grains > 0 for payout in payouts)
    assert paid(payouts, "winner") == escrow.reward_grains * terms.winner_bp // BASIS_POINTS
    assert paid(payouts, "bond back") == escrow.bond_grains
    assert paid(payouts, "fee back") == (0 if others else escrow.fee_grains)
    shares = terms.winner_bp + terms.validators_bp + terms.aggregators_bp
    unallotted = escrow.reward_grains * (BASIS_POINTS - shares) // BASIS_POINTS
    rounding = paid(payouts, "rounding")
    assert unallotted <= rounding <= unallotted + 4 + len(winning) + len(others) + members
    assert {p.account for p in payouts if p.reason == "rounding"} <= {TREASURY}


@given(escrows, parameters(), st.sampled_from(VoidReason), st.lists(st.sampled_from(PEOPLE), unique=True), weights)
def test_a_void_order_pays_out_exactly_its_escrow_and_the_reward_goes_back(
    escrow: Escrow, terms: Parameters, reason: VoidReason, revealers: list[bytes], work: dict[bytes, int]
) -> None:
    payouts = void_payouts(escrow, terms, reason, revealers, work, claim_bond_grains=5)
    assert sum(payout.grains for payout in payouts) == escrow.total_grains
    assert paid(payouts, "reward back") == escrow.reward_grains
    if reason in UNPROVEN:
        assert paid(payouts, "client's bond") <= min(escrow.bond_grains, 5 * len(revealers))
        assert all(each.grains <= 5 for each in payouts if each.reason == "client's bond")
        assert paid(payouts, "bond back") == paid(payouts, "fee back") == 0
        assert paid(payouts, "client's forfeit") >= escrow.fee_grains + escrow.bond_grains - 5 * len(revealers)
        return
    forfeited = reason is VoidReason.NOT_RELEASED and bool(revealers)
    assert paid(payouts, "bond back") == (0 if forfeited else escrow.bond_grains)
    assert escrow.bond_grains - 7 <= paid(payouts, "client's bond") <= escrow.bond_grains if forfeited else True
    if reason is VoidReason.TEST_DATA_NOT_JUDGED:
        assert paid(payouts, "training in vain") == escrow.fee_grains - paid(payouts, "fee back") - paid(
            payouts, "rounding"
        )
        assert all(each.grains <= 5 for each in payouts if each.reason == "training in vain")
        assert paid(payouts, "fee back") == max(0, escrow.fee_grains - 5 * len(revealers))
        return
    scored = reason is VoidReason.NO_QUORUM and bool(work)
    assert paid(payouts, "fee back") == (0 if scored else escrow.fee_grains)


@given(escrows, parameters(), weights, weights, weights, st.integers(1, 7))
def test_without_improvement_scoring_is_paid_as_with_a_winner_and_the_rest_goes_back(
    escrow: Escrow,
    terms: Parameters,
    seats: dict[bytes, int],
    work: dict[bytes, int],
    found: dict[bytes, int],
    members: int,
) -> None:
    payouts = unimproved_payouts(escrow, terms, seats, work, MEMBERS[:members], found)
    sealed = sealed_payouts(escrow, terms, WINNER, seats, work, MEMBERS[:members], found)
    assert sum(payout.grains for payout in payouts) == escrow.total_grains
    for reason in ("validator", "aggregator", "challenger", "validation fee", "fee back", "bond back"):
        assert paid(payouts, reason) == paid(sealed, reason), reason
    assert paid(payouts, "reward less scoring") >= escrow.reward_grains - terms.scoring_grains(escrow.reward_grains)
    if any(seats.values()):
        few = len(seats) + len(found) + members + 4
        assert paid(payouts, "reward less scoring") <= (
            escrow.reward_grains - terms.scoring_grains(escrow.reward_grains) + few
        )


@given(st.integers(0, 10**18), weights)
def test_shares_are_in_proportion_and_never_more_than_all(amount: int, by: dict[bytes, int]) -> None:
    shares, total = share_out(amount, by), sum(by.values())
    assert sum(shares.values()) <= amount and set(shares) == set(by)
    assert all(0 <= Fraction(amount * by[who], total) - grains < 1 for who, grains in shares.items())
    assert amount - sum(shares.values()) < max(1, len(by)) if by else not shares


def test_odd_amounts_round_to_the_treasury() -> None:
    terms = structs.replace(Parameters(), treasury=TREASURY)
    escrow = Escrow(client=CLIENT, reward_grains=101, fee_grains=7, bond_grains=3, seal_by_s=0)
    payouts = sealed_payouts(
        escrow, terms, WINNER, dict.fromkeys(PEOPLE[:2], 1), dict.fromkeys(PEOPLE[:3], 1), MEMBERS[:4]
    )
    assert [(p.reason, p.grains) for p in payouts] == [
        ("winner", 80), ("validator", 7), ("validator", 7), ("aggregator", 1), ("aggregator", 1), ("aggregator", 1),
        ("aggregator", 1), ("validation fee", 2), ("validation fee", 2), ("validation fee", 2), ("bond back", 3),
        ("rounding", 4),
    ]  # fmt: skip


scores = st.builds(
    ClaimScore, total=st.integers(-(1 << 63), (1 << 63) - 1), count=st.integers(1, 1 << 40), valid=st.booleans()
)


@given(scores, scores, st.sampled_from(Direction))
def test_better_is_a_strict_order_of_exact_fractions(a: ClaimScore, b: ClaimScore, direction: Direction) -> None:
    assert not better(a, a, direction)
    assert not (better(a, b, direction) and better(b, a, direction))
    if a.valid and b.valid:
        assert better(a, b, direction) == ((Fraction(a.total, a.count) - Fraction(b.total, b.count)) * direction > 0)
    else:
        assert better(a, b, direction) == (a.valid and not b.valid)


@given(st.lists(scores, min_size=2, max_size=6), st.sampled_from(Direction))
def test_one_of_many_is_beaten_by_none(many: list[ClaimScore], direction: Direction) -> None:
    best = many[0]
    for score in many[1:]:
        best = score if better(score, best, direction) else best
    assert not any(better(score, best, direction) for score in many)


@given(
    scores,
    st.integers(-(1 << 61), 1 << 61),
    st.integers(1, 1 << 40),
    st.integers(0, 1 << 39),
    st.sampled_from(Direction),
)
def test_the_margin_is_exact(
    score: ClaimScore, total: int, count: int, margin_micro: int, direction: Direction
) -> None:
    gain = (Fraction(score.total, score.count) - Fraction(total, count)) * direction
    wanted = score.valid and gain > 0 and gain >= Fraction(margin_micro, MICRO)
    assert beats_baseline(score, total, count, margin_micro, direction) == wanted


@pytest.mark.parametrize(
    ("score", "wins"),
    [
        (ClaimScore(90, 100, True), False),
        (ClaimScore(91, 100, True), True),
        (ClaimScore(100, 100, False), False),
        (ClaimScore(1, 0, True), False),
    ],
)
def test_a_tie_with_the_baseline_is_no_improvement(score: ClaimScore, wins: bool) -> None:
    assert beats_baseline(score, 9, 10, 0, Direction.HIGHER) is wins


def test_without_a_baseline_any_valid_score_will_do() -> None:
    assert beats_baseline(ClaimScore(0, 10, True), 0, 0, 10**9, Direction.HIGHER)
    assert not beats_baseline(ClaimScore(10, 10, False), 0, 0, 0, Direction.HIGHER)
