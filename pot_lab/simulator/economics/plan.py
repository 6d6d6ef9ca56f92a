"""How one order of the economy's game is played: who does what, honestly unless the plan says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pot_lab.protocol.parameters import Role


@dataclass(frozen=True, kw_only=True)
class Challenged:
    """A challenge: who, of whose score of which model, and whether it is opened."""

    challenger: str
    validator: str
    model: str
    role: Role = Role.VERIFIER
    opens: bool = True


def honest_score(validator: str, model: str, truth: int) -> int | None:
    """The score that an honest validator commits to."""
    return truth


@dataclass(kw_only=True)
class OrderPlan:
    """How one order is played; the defaults are honest.

    Attributes:
        coalition: whose gain is counted.
        client: who orders.
        qualities: right answers of each model, of `EXAMPLES`; -1 is a model without a valid result.
        claims: who claims which model, in order; a later claim of an account replaces the earlier.
        copied: accounts that sign the commitment of another's claim as theirs.
        hidden: accounts that do not reveal.
        score: what a validator commits to, None for nothing: of validator, model and the truth.
        unopened: validators that do not open.
        false_key: whether the client's key opens nothing.
        false_test_data: whether the test data that it opens are not those that the order names.
        unjudged_in_ms: the release window of an order whose test data no aggregator comes to a verdict on; 0 where they
            do.
        unopenable: accounts whose ciphertexts do not open to the models that they claim.
        escrow_off_grains: what the escrow lacks of the fee that the order names.
        baseline: right answers that a model has to beat.
        after_draw: called once when seats are drawn.
        silent_aggregators, lying_aggregators: how many withhold shares, and give false verdicts.
        works: whether a validator pays for running a model.
        challenges: committed to in the challenge window.
        worked_grains: what the coalition's own training cost.
        values_model: whether models that the client has seen are worth something to it.
    """

    coalition: frozenset[str]
    qualities: Mapping[str, int]
    claims: Sequence[tuple[str, str]]
    client: str = "client"
    copied: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    score: Callable[[str, str, int], int | None] = honest_score
    works: Callable[[str, str], bool] = lambda validator, model: True
    unopened: frozenset[str] = frozenset()
    false_key: bool = False
    false_test_data: bool = False
    unjudged_in_ms: int = 0
    unopenable: frozenset[str] = frozenset()
    escrow_off_grains: int = 0
    baseline: int = 0
    after_draw: Callable[[], None] = lambda: None
    challenges: Sequence[Challenged] = ()
    silent_aggregators: int = 0
    lying_aggregators: int = 0
    worked_grains: int = 0
    values_model: bool = True
