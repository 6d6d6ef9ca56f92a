"""Who gets what when an order ends: the split of section 5.2, and the refund rule of each way to end void.

Integers only; what rounding leaves goes to the treasury. Every split gives away exactly the escrow, which is
checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pot_lab.crypto.identity import Address
from pot_lab.errors import InvariantBroken
from pot_lab.protocol.cycle import VoidReason
from pot_lab.protocol.parameters import BASIS_POINTS, Direction, Parameters
from pot_lab.protocol.records import MICRO, ClaimScore
from pot_lab.protocol.shares import share_out
from pot_lab.protocol.state import Escrow, Payout

UNPROVEN = (VoidReason.INVALID_TEST_DATA, VoidReason.RELEASE_TOO_SHORT)
"""The ends of an order whose client has not shown the test data that it promised, or has left no time to look."""


def sealed_payouts(
    escrow: Escrow,
    parameters: Parameters,
    winner: Address,
    seats: Mapping[Address, int],
    other_validations: Mapping[Address, int],
    aggregators: Sequence[Address],
    found: Mapping[Address, int] | None = None,
) -> list[Payout]:
    """Payouts of an order that has a winner.

    Args:
        winner: the provider's address.
        seats: how many seats each validator has whose scores stand.
        other_validations: how many agreeing validations of other models each validator has; paid from the fee.
        found: how many seats each challenger proved wrong; it gets what these would have had.
    Returns: payouts that add up to the escrow; the client gets its bond back, and the fee where no other model was
        scored.
    """
    payouts = [Payout(winner, escrow.reward_grains * parameters.winner_bp // BASIS_POINTS, "winner")]
    payouts += _for_scoring(escrow, parameters, seats, aggregators, found or {})
    payouts += _named(share_out(escrow.fee_grains, other_validations), "validation fee")
    if not other_validations:
        payouts.append(Payout(escrow.client, escrow.fee_grains, "fee back"))
    payouts.append(Payout(escrow.client, escrow.bond_grains, "bond back"))
    return _complete(payouts, escrow, parameters)


def void_payouts(
    escrow: Escrow,
    parameters: Parameters,
    reason: VoidReason,
    revealers: Sequence[Address],
    validations: Mapping[Address, int],
    found: Mapping[Address, int] | None = None,
    seats: int = 0,
    claim_bond_grains: int = 0,
) -> list[Payout]:
    """Payouts of an order that ended without a winner: the reward goes back to the client, but for what proved lies.

    Where no model beat the baseline, see `unimproved_payouts`.

    Args:
        revealers: providers whose models are known; they share the client's bond where the test data was not released.
            Where these are not what was promised, or the client left no time to tell, each gets of it what its own
            claim bonded, and the treasury the rest with the fee: a client with claims of its own shall not get its
            money back. Where the aggregators did not tell though they had the time, the bond goes back, and the fee in
            the same way to who trained in vain: else who orders what nobody can judge would have that for nothing.
        validations: how many validations each validator opened; they share the fee where scoring was done.
        found: how many seats each challenger proved wrong; it gets what these would have had of the reward.
        seats: how many seats the order had.
        claim_bond_grains: what each claim of the order bonded.
    """
    validators = escrow.reward_grains * parameters.validators_bp // BASIS_POINTS
    challenged = validators * sum((found or {}).values()) // max(1, seats)
    payouts = [Payout(escrow.client, escrow.reward_grains - challenged, "reward back")]
    payouts += _named(share_out(challenged, found or {}), "challenger")
    if reason in UNPROVEN:
        damages = min(escrow.bond_grains, claim_bond_grains * len(revealers))
        payouts += _named(share_out(damages, dict.fromkeys(revealers, 1)), "client's bond")
        rest = escrow.bond_grains + escrow.fee_grains - damages
        return _complete([*payouts, Payout(parameters.treasury, rest, "client's forfeit")], escrow, parameters)
    if reason is VoidReason.NOT_RELEASED and revealers:
        payouts += _named(share_out(escrow.bond_grains, dict.fromkeys(revealers, 1)), "client's bond")
    else:
        payouts.append(Payout(escrow.client, escrow.bond_grains, "bond back"))
    if reason is VoidReason.NO_QUORUM and validations:
        payouts += _named(share_out(escrow.fee_grains, validations), "validation fee")
    elif reason is VoidReason.TEST_DATA_NOT_JUDGED:
        damages = min(escrow.fee_grains, claim_bond_grains * len(revealers))
        payouts += _named(share_out(damages, dict.fromkeys(revealers, 1)), "training in vain")
        payouts.append(Payout(escrow.client, escrow.fee_grains - damages, "fee back"))
    else:
        payouts.append(Payout(escrow.client, escrow.fee_grains, "fee back"))
    return _complete(payouts, escrow, parameters)


def unimproved_payouts(
    escrow: Escrow,
    parameters: Parameters,
    seats: Mapping[Address, int],
    validations: Mapping[Address, int],
    aggregators: Sequence[Address],
    found: Mapping[Address, int] | None = None,
) -> list[Payout]:
    """Payouts of an order whose models were scored and did not beat its baseline: scoring and ordering are paid as if
    there were a winner, and the rest of the reward goes back to the client.

    Else a baseline that nobody can beat would show the client all models for nothing.

    Args: as of `sealed_payouts`; `validations` are those of all models.
    """
    payouts = _for_scoring(escrow, parameters, seats, aggregators, found or {})
    back = escrow.reward_grains - sum(payout.grains for payout in payouts)
    payouts.insert(0, Payout(escrow.client, back, "reward less scoring"))
    payouts.append(Payout(escrow.client, escrow.bond_grains, "bond back"))
    payouts += _named(share_out(escrow.fee_grains, validations), "validation fee")
    if not validations:
        payouts.append(Payout(escrow.client, escrow.fee_grains, "fee back"))
    return _complete(payouts, escrow, parameters)


def better(a: ClaimScore, b: ClaimScore, direction: Direction) -> bool:
    """Whether score `a` beats `b`; compares integers only, an invalid score beats nothing, a tie is not a win."""
    if not a.valid or not b.valid:
        return a.valid and not b.valid
    return (a.total * b.count - b.total * a.count) * direction > 0


def beats_baseline(
    score: ClaimScore, baseline_total: int, baseline_count: int, margin_micro: int, direction: Direction
) -> bool:
    """Whether a score is at least `margin_micro` millionths per example better than the baseline; always, when the
    order has none.
    """
    if not score.valid or score.count <= 0:
        return False
    if baseline_count == 0:
        return True
    gain = (score.total * baseline_count - baseline_total * score.count) * direction
    return gain > 0 and gain * MICRO >= margin_micro * score.count * baseline_count


def _for_scoring(
    escrow: Escrow,
    parameters: Parameters,
    seats: Mapping[Address, int],
    aggregators: Sequence[Address],
    found: Mapping[Address, int],
) -> list[Payout]:
    validators = escrow.reward_grains * parameters.validators_bp // BASIS_POINTS
    challenged = validators * sum(found.values()) // max(1, sum(found.values()) + sum(seats.values()))
    payouts = _named(share_out(validators - challenged, seats), "validator")
    payouts += _named(share_out(challenged, found), "challenger")
    aggregated = escrow.reward_grains * parameters.aggregators_bp // BASIS_POINTS
    return payouts + _named(share_out(aggregated, dict.fromkeys(aggregators, 1)), "aggregator")


def _named(amounts: Mapping[Address, int], reason: str) -> list[Payout]:
    return [Payout(account, grains, reason) for account, grains in amounts.items()]


def _complete(payouts: list[Payout], escrow: Escrow, parameters: Parameters) -> list[Payout]:
    rest = escrow.total_grains - sum(payout.grains for payout in payouts)
    if rest < 0:
        raise InvariantBroken("an order paid out more than its escrow", seen=f"{-rest} grains too much")
    return [payout for payout in [*payouts, Payout(parameters.treasury, rest, "rounding")] if payout.grains]
