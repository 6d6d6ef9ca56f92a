"""What a client offers, checked against its units: the arguments that `Lab.order` and `Lab.quote` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Required, TypedDict

from pot_lab.errors import one_of
from pot_lab.notebook import arguments, posting
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.posting import OrderTerms
from pot_lab.notebook.score_names import completed
from pot_lab.protocol.parameters import Parameters


class OrderArguments(TypedDict, total=False):
    """The arguments of `Lab.order` besides model and data, as it documents them."""

    reward: Required[str | float | Decimal]
    train_for: Required[str | float | timedelta]
    score: str
    output: str | int | None
    baseline: float | Fraction | None
    margin: float | Fraction
    fee: str | float | Decimal | None
    bond: str | float | Decimal | None
    claim_bond: str | float | Decimal | None
    windows: Mapping[str, str | float | timedelta] | None
    title: str
    tags: Sequence[str]


def check_labels_and_score(given: OrderArguments) -> None:
    """Check what needs no network.

    Raises:
        BadArgument, BadQuantity, UnknownScoreFunction: which argument is wrong, and what would be right.
    """
    from pot_lab.scoring import score_function

    if unknown := set(given) - set(OrderArguments.__annotations__):
        raise BadArgument(
            "an order has no such argument",
            seen=", ".join(sorted(unknown)),
            wanted=one_of(min(unknown), OrderArguments.__annotations__),
        )
    for name in ("reward", "train_for"):
        if name not in given:
            raise BadArgument(f"`{name}` is missing", wanted='e.g. reward=25, train_for="10min"')
    function = score_function(completed(arguments.check_score_name(given.get("score", "accuracy"))))
    arguments.check_labels(given.get("title", ""), given.get("tags", ()))
    arguments.check_baseline(function.full_name, function.version, given.get("baseline"), given.get("margin", 0.0))


def terms_of(parameters: Parameters, given: OrderArguments) -> OrderTerms:
    """What a client offers, in exact units; what is left out is the network's minimum.

    Raises:
        BadArgument, BadQuantity, BadWindows, RewardTooSmall, UnknownScoreFunction: which argument is wrong, and what
            would be right.
    """
    check_labels_and_score(given)
    money = {"fee": given.get("fee"), "bond": given.get("bond"), "claim_bond": given.get("claim_bond")}
    arguments.check_money(parameters, reward=given["reward"], **money)
    arguments.check_durations(parameters, given["train_for"], given.get("windows"))
    return posting.order_terms(
        parameters,
        reward=given["reward"],
        train_for=given["train_for"],
        baseline=given.get("baseline"),
        margin=given.get("margin", 0.0),
        windows=given.get("windows"),
        title=given.get("title", ""),
        tags=given.get("tags", ()),
        **money,
    )
