"""The strategies: each is played dishonestly, and honestly by the same accounts with the same seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Unregister
from pot_lab.simulator.economics.game import (
    EXAMPLES,
    POT,
    TRAINING_GRAINS,
    Game,
)
from pot_lab.simulator.economics.plan import Challenged, OrderPlan

RIVALS = ("provider 0", "provider 1")
OWN = "provider 2"
CARTEL_ACCOUNTS = 4
JUNK = 12
"""Right answers of a model that nobody trained."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A way to cheat.

    Attributes:
        name: one word or a few.
        role: who can.
        words: what is done.
        plan: the plan of one order, of the game and whether it is the dishonest one.
        open: the known limit (security.md) that makes it pay, if it does; empty where the rules stop it.
    """

    name: str
    role: str
    words: str
    plan: Callable[[Game, bool], OrderPlan]
    open: str = ""


def _qualities(game: Game) -> dict[str, int]:
    """Models of three honest trainings, and one that nobody trained."""
    found = {f"model {index}": game.random.randrange(40, EXAMPLES - 4) for index in range(3)}
    return {**found, "junk": JUNK, "broken": -1}


def _honest_claims() -> list[tuple[str, str]]:
    return [(f"provider {index}", f"model {index}") for index in range(3)]


def _provider(change: Callable[[Game, OrderPlan], None] | None, game: Game, dishonest: bool) -> OrderPlan:
    plan = OrderPlan(
        coalition=frozenset({OWN}),
        qualities=_qualities(game),
        claims=_honest_claims(),
        worked_grains=TRAINING_GRAINS,
    )
    if dishonest and change is not None:
        change(game, plan)
    return plan


def provider(name: str, words: str, change: Callable[[Game, OrderPlan], None], open_: str = "") -> Strategy:
    """A strategy of the third provider; honest is to train and claim."""
    return Strategy(
        name=name, role="provider", words=words, open=open_, plan=lambda game, bad: _provider(change, game, bad)
    )


def _cartel(game: Game, accounts: int = CARTEL_ACCOUNTS) -> list[str]:
    """Accounts with together half of what the honest validators have: a third of all stake."""
    book = game.ledger.book
    honest = sum(book.free(each, Role.VALIDATOR) for each in book.active[Role.VALIDATOR])
    names = [f"cartel {index}" for index in range(accounts)]
    for name in names:
        game.join(name, Role.VALIDATOR, max(20, honest // 2 // accounts // POT))
    return names


def validator(
    name: str,
    words: str,
    change: Callable[[Game, OrderPlan, list[str]], None],
    *,
    accounts: int = CARTEL_ACCOUNTS,
    with_provider: bool = False,
    open_: str = "",
) -> Strategy:
    """A strategy of validators with a third of all stake; honest is to score and open."""

    def plan(game: Game, dishonest: bool) -> OrderPlan:
        names = _cartel(game, accounts)
        members = {*names, OWN} if with_provider else set(names)
        made = OrderPlan(
            coalition=frozenset(members),
            qualities=_qualities(game),
            claims=_honest_claims(),
            worked_grains=TRAINING_GRAINS if with_provider else 0,
        )
        if dishonest:
            change(game, made, names)
        return made

    return Strategy(name=name, role="validator", words=words, plan=plan, open=open_)


def client(name: str, words: str, change: Callable[[Game, OrderPlan], None], open_: str = "") -> Strategy:
    """A strategy of the client; honest is to order, pay and get the best model."""

    def plan(game: Game, dishonest: bool) -> OrderPlan:
        made = OrderPlan(coalition=frozenset({"client"}), qualities=_qualities(game), claims=_honest_claims())
        if dishonest:
            change(game, made)
        return made

    return Strategy(name=name, role="client", words=words, plan=plan, open=open_)


def _scores_as(names: list[str], rule: Callable[[str, int], int | None]) -> Callable[[str, str, int], int | None]:
    return lambda who, model, truth: rule(model, truth) if who in names else truth


# --- providers -------------------------------------------------------------------------------------------------
def _copies(game: Game, plan: OrderPlan) -> None:
    plan.claims = [*_honest_claims()[:2], (OWN, "model 0")]
    plan.copied, plan.worked_grains = {OWN: "provider 0"}, 0


def _duplicates(game: Game, plan: OrderPlan) -> None:
    game.join("twin", Role.PROVIDER, 100)
    plan.coalition = frozenset({OWN, "twin"})
    plan.claims = [*_honest_claims(), ("twin", "model 2")]


def _hides(game: Game, plan: OrderPlan) -> None:
    plan.hidden = frozenset({OWN})


def _junk(game: Game, plan: OrderPlan) -> None:
    plan.claims, plan.worked_grains = [*_honest_claims()[:2], (OWN, "junk")], 0


def _does_not_open(game: Game, plan: OrderPlan) -> None:
    plan.unopenable, plan.worked_grains = frozenset({OWN}), 0


def _broken(game: Game, plan: OrderPlan) -> None:
    plan.claims, plan.worked_grains = [*_honest_claims()[:2], (OWN, "broken")], 0


def _replaces(game: Game, plan: OrderPlan) -> None:
    plan.claims = [(OWN, "junk"), *_honest_claims()]


def _grinds_claims(game: Game, plan: OrderPlan) -> None:
    names = [f"straw {index}" for index in range(4)]
    for name in names:
        game.join(name, Role.PROVIDER, 20)
    plan.coalition = frozenset({OWN, *names})
    plan.claims = [*_honest_claims(), *((name, f"junk of {name}") for name in names)]
    plan.qualities = {**plan.qualities, **{f"junk of {name}": JUNK for name in names}}
    plan.hidden = frozenset(names[: game.random.randrange(1, 5)])


def _squats(game: Game, plan: OrderPlan) -> None:
    names = [f"squatter {index}" for index in range(game.parameters.max_claims_per_order - 1)]
    for name in names:
        game.join(name, Role.PROVIDER, 20)
    plan.coalition = frozenset({OWN, *names})
    plan.qualities = {**plan.qualities, **{f"junk of {name}": JUNK for name in names}}
    plan.claims = [(OWN, "model 2"), *((name, f"junk of {name}") for name in names), *_honest_claims()[:2]]


def _challenges_the_best(game: Game, plan: OrderPlan) -> None:
    best = max(("model 0", "model 1"), key=plan.qualities.__getitem__)
    plan.challenges = [
        Challenged(challenger=OWN, validator=name, model=best, role=Role.PROVIDER) for name in game.validators[:2]
    ]


def _challenges_and_hides(game: Game, plan: OrderPlan) -> None:
    plan.challenges = [
        Challenged(challenger=OWN, validator=game.validators[0], model="model 0", role=Role.PROVIDER, opens=False)
    ]


# --- validators ------------------------------------------------------------------------------------------------
def _lazy(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.score = _scores_as(names, lambda model, truth: 50)
    plan.works = lambda who, model: who not in names


def _one_lazy(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.score = _scores_as(names[:1], lambda model, truth: 50)
    plan.works = lambda who, model: who not in names[:1]


def _silent(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.score = _scores_as(names, lambda model, truth: None)
    plan.works = lambda who, model: who not in names


def _vetoes_the_best(game: Game, plan: OrderPlan, names: list[str]) -> None:
    best = max(("model 0", "model 1"), key=plan.qualities.__getitem__)
    plan.score = _scores_as(names, lambda model, truth: None if model == best else truth)


def _hides_scores(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.unopened = frozenset(names)


def _hides_scores_of_losers(game: Game, plan: OrderPlan, names: list[str]) -> None:
    if plan.qualities["model 2"] < max(plan.qualities["model 0"], plan.qualities["model 1"]):
        plan.unopened = frozenset(names)


def _lies_up(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.score = _scores_as(names, lambda model, truth: EXAMPLES if model == "model 2" else truth)


def _lies_down(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.score = _scores_as(names, lambda model, truth: truth if model == "model 2" else 1)


def _calls_invalid(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.score = _scores_as(names, lambda model, truth: truth if model == "model 2" else -1)


def _junk_wins(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.claims, plan.worked_grains = [*_honest_claims()[:2], (OWN, "junk")], 0
    plan.score = _scores_as(names, lambda model, truth: EXAMPLES if model == "junk" else 0)
    plan.works = lambda who, model: who not in names


def _half(game: Game, plan: OrderPlan, names: list[str]) -> None:
    plan.score = _scores_as(names, lambda model, truth: truth if model == "model 0" else None)
    plan.works = lambda who, model: who not in names or model == "model 0"


def _unregisters(game: Game, plan: OrderPlan, names: list[str]) -> None:
    _silent(game, plan, names)

    def leave() -> None:
        for name in names:
            game.submit(name, Unregister(int(Role.VALIDATOR)))

    plan.after_draw = leave


def _lies_and_goes(game: Game, plan: OrderPlan, names: list[str]) -> None:
    _lies_up(game, plan, names)

    def leave() -> None:
        for name in names:
            game.unstake(name, Role.VALIDATOR)

    plan.after_draw = leave


def _split(game: Game, dishonest: bool) -> OrderPlan:
    names = _cartel(game, 12 if dishonest else 1)
    return OrderPlan(coalition=frozenset(names), qualities=_qualities(game), claims=_honest_claims())


# --- clients ---------------------------------------------------------------------------------------------------
def _breaks_off(game: Game, plan: OrderPlan) -> None:
    plan.false_key = True


def _names_wrong_test_data(game: Game, plan: OrderPlan) -> None:
    plan.false_test_data = True


def _makes_judging_too_heavy(game: Game, plan: OrderPlan) -> None:
    plan.unjudged_in_ms = game.parameters.usual_release_ms


def _hurries_judges(game: Game, plan: OrderPlan) -> None:
    plan.unjudged_in_ms = game.parameters.min_window_ms + 1_000


def _breaks_off_with_claims(game: Game, plan: OrderPlan) -> None:
    names = [f"own {index}" for index in range(4)]
    for name in names:
        game.join(name, Role.PROVIDER, 20)
    plan.coalition = frozenset({"client", *names})
    plan.qualities = {**plan.qualities, **{f"junk of {name}": JUNK for name in names}}
    plan.claims = [*_honest_claims(), *((name, f"junk of {name}") for name in names)]
    plan.false_key = True


def _sets_the_baseline_high(game: Game, plan: OrderPlan) -> None:
    plan.baseline = EXAMPLES - 1


def _wins_its_own(game: Game, plan: OrderPlan) -> None:
    game.join("own", Role.PROVIDER, 100)
    plan.coalition = frozenset({"client", "own"})
    plan.qualities = {**plan.qualities, "overfitted": EXAMPLES}
    plan.claims = [*_honest_claims(), ("own", "overfitted")]


def _random_labels(game: Game, plan: OrderPlan) -> None:
    plan.qualities = {
        name: game.random.randrange(28, 37) if total > 0 else total for name, total in plan.qualities.items()
    }
    plan.values_model = False


def _short_escrow(game: Game, plan: OrderPlan) -> None:
    plan.escrow_off_grains = POT // 2


def _washes(game: Game, dishonest: bool) -> OrderPlan:
    """Nobody else takes part: to move money, or to buy a reputation."""
    game.join("own", Role.PROVIDER, 100)
    qualities = _qualities(game)
    claims = [("own", "junk")] if dishonest else []
    return OrderPlan(coalition=frozenset({"client", "own"}), qualities=qualities, claims=claims, values_model=False)


def _bond_bait(game: Game, dishonest: bool) -> OrderPlan:
    """The client hopes for the bonds of providers that cannot reveal in time."""
    hidden = frozenset({"provider 0", "provider 1", "provider 2"}) if dishonest else frozenset()
    return OrderPlan(
        coalition=frozenset({"client"}),
        qualities=_qualities(game),
        claims=_honest_claims(),
        hidden=hidden,
    )


# --- verifiers and aggregators -----------------------------------------------------------------------------------
def _verifier(opens: bool) -> Callable[[Game, bool], OrderPlan]:
    def plan(game: Game, dishonest: bool) -> OrderPlan:
        game.join("verifier", Role.VERIFIER, 20)
        made = OrderPlan(coalition=frozenset({"verifier"}), qualities=_qualities(game), claims=_honest_claims())
        if dishonest:
            made.challenges = [
                Challenged(challenger="verifier", validator=name, model="model 0", opens=opens)
                for name in game.validators[:2]
            ]
        return made

    return plan


def _aggregator(silent: int, lying: int) -> Callable[[Game, bool], OrderPlan]:
    def plan(game: Game, dishonest: bool) -> OrderPlan:
        made = OrderPlan(coalition=frozenset({"aggregator 0"}), qualities=_qualities(game), claims=_honest_claims())
        if dishonest:
            made.silent_aggregators, made.lying_aggregators = silent, lying
        return made

    return plan


STRATEGIES: tuple[Strategy, ...] = (
    provider("copied commitment", "signs a rival's commitment as its own, and trains nothing", _copies),
    provider("duplicate", "claims one model under two accounts", _duplicates),
    provider("no reveal", "trains, claims, and breaks off", _hides),
    provider("junk model", "claims a model that it has not trained", _junk),
    provider("model that does not open", "claims the best model, and seals something else", _does_not_open),
    provider("broken model", "claims a model without a valid result", _broken),
    provider("early place", "claims junk early and replaces it by its model later", _replaces),
    provider("grinding by claims", "claims junk under four names and reveals some, to choose the draw", _grinds_claims),
    provider("slot squatting", "takes all places of an order by junk claims", _squats),
    provider("false challenge", "challenges right scores of the best rival", _challenges_the_best),
    provider("challenge unopened", "commits to a challenge to gain time, and does not open it", _challenges_and_hides),
    validator("lazy cartel", "a third of the stake commits to a guess without scoring", _lazy),
    validator("one lazy validator", "one account of it does", _one_lazy),
    validator("silence", "a third of the stake commits to nothing", _silent),
    validator(
        "veto of the best", "a third of the stake leaves out the best rival model", _vetoes_the_best, with_provider=True
    ),
    validator("unopened scores", "a third of the stake commits and does not open", _hides_scores),
    validator("veto after the fact", "opens only if its own model wins", _hides_scores_of_losers, with_provider=True),
    validator("own model praised", "calls its provider's model perfect", _lies_up, with_provider=True),
    validator("rivals run down", "calls all other models bad", _lies_down, with_provider=True),
    validator("rivals called invalid", "says that all other models have no result", _calls_invalid, with_provider=True),
    validator("junk praised", "calls an untrained model perfect and scores nothing", _junk_wins, with_provider=True),
    validator("half the models", "scores one model of three", _half),
    validator("unregister after the draw", "leaves its role when it is drawn", _unregisters),
    validator("lie and unstake", "lies, and takes its stake home at once", _lies_and_goes, with_provider=True),
    Strategy(name="split stake", role="validator", words="twelve accounts instead of one, honest", plan=_split),
    client("breaking off", "promises a key that opens nothing, once models are revealed", _breaks_off),
    client(
        "wrong test data",
        "opens other test data than its order names, once models are revealed",
        _names_wrong_test_data,
    ),
    client(
        "data nobody judges",
        "has its test data judged by nobody in the usual time, once models are revealed",
        _makes_judging_too_heavy,
    ),
    client("hurried judges", "leaves them a second", _hurries_judges),
    client(
        "breaking off with own claims",
        "the same, and gets its bond back by claims of its own",
        _breaks_off_with_claims,
    ),
    client(
        "baseline out of reach", "orders what no model can beat, and sees all", _sets_the_baseline_high, "Own orders"
    ),
    client("own winner", "wins its own order by a model trained on the test data", _wins_its_own, "Own orders"),
    client("random labels", "pays for models of noise", _random_labels),
    client("short escrow", "escrows less than the order says", _short_escrow),
    Strategy(name="wash trading", role="client", words="pays itself through an order", plan=_washes),
    Strategy(name="bond bait", role="client", words="lets nobody reveal, for their bonds", plan=_bond_bait),
    Strategy(name="verifier's false challenge", role="verifier", words="challenges right scores", plan=_verifier(True)),
    Strategy(name="verifier's bluff", role="verifier", words="commits to challenges only", plan=_verifier(False)),
    Strategy(name="share withheld", role="aggregator", words="publishes no share", plan=_aggregator(1, 0)),
    Strategy(name="false verdict", role="aggregator", words="votes against what it computed", plan=_aggregator(0, 1)),
)
"""All strategies, those against others' scores with a third of the stake."""
