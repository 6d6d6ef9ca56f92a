"""A process that orders and pays for the panel, so that Jupyter's server holds no key and loads no torch.

It reads one JSON request a line, `{"id", "ask", "with"}`, and answers each by one line: `{"id", "answer"}`, or `{"id",
"error", "field"}` in the user's words. It ends when its input does. Only the server that started it can write to it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import msgspec

from pot_lab.discovery import find_network, open_account
from pot_lab.errors import PotLabError, one_of
from pot_lab.network.config import NetworkConfig
from pot_lab.notebook import arguments, posting
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.miners import is_of_this_host, miners_of, require_miners
from pot_lab.notebook.quantities import exact_fraction, grains
from pot_lab.notebook.templates import TEMPLATES, OrderTemplate
from pot_lab.protocol.parameters import Role

_log = logging.getLogger(__name__)
HISTORY_LIMIT = 20


class WantedOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the form asks for, as a person typed it."""

    template: str
    reward: str
    train_for: str
    title: str = ""
    baseline: str = ""


class DeskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One line of input."""

    id: int
    ask: str
    what: dict[str, Any] = msgspec.field(name="with", default_factory=dict)


class _FieldRefused(Exception):
    """A field of the form does not hold what it must; the text is that of the cause."""

    def __init__(self, field: str, cause: PotLabError) -> None:
        super().__init__(str(cause))
        self.field = field


@contextlib.contextmanager
def _field(name: str) -> Iterator[None]:
    try:
        yield
    except PotLabError as error:
        raise _FieldRefused(name, error) from error


class OrderDesk:
    """Answers the panel's questions for one account of one network.

    Args:
        connect: opens the connection, when it is first needed, and anew after it failed.
    """

    def __init__(self, connect: Callable[[], Lab]) -> None:
        self._connect = connect
        self._lab: Lab | None = None

    @property
    def lab(self) -> Lab:
        """The connection."""
        if self._lab is None:
            self._lab = self._connect()
        return self._lab

    def close(self) -> None:
        """End the connection."""
        if self._lab is not None:
            self._lab.close()
            self._lab = None

    def answer(self, request: DeskRequest) -> dict[str, Any]:
        """The answer to one request, errors included."""
        asked = {
            "templates": self.templates,
            "quote": self.quote,
            "order": self.order,
            "wallet": self.wallet,
            "collect": self.collect,
            "history": self.history,
        }
        try:
            if request.ask not in asked:
                raise BadArgument("there is no such question", seen=request.ask, wanted=", ".join(asked))
            return {"id": request.id, "answer": asked[request.ask](request.what)}
        except _FieldRefused as error:
            return {"id": request.id, "error": str(error), "field": error.field}
        except (PotLabError, msgspec.ValidationError, OSError, TimeoutError) as error:
            self.close()  # a network that was restarted has new addresses
            return {"id": request.id, "error": str(error) or type(error).__name__, "field": ""}
        except Exception as error:
            _log.exception("event=desk_failed ask=%s", request.ask)
            return {"id": request.id, "error": f"it failed: {type(error).__name__}; see the server's log", "field": ""}

    def templates(self, what: dict[str, Any]) -> dict[str, Any]:
        """The ready-made orders, for the form."""
        names = ("name", "title", "task", "about", "score", "reward", "train_for")
        return {"templates": [{name: getattr(one, name) for name in names} for one in TEMPLATES.values()]}

    def quote(self, what: dict[str, Any]) -> dict[str, Any]:
        """What an order would cost, when it would end, and what comes back; nothing is sent or paid."""
        wanted, template = self._wanted(what)
        network = self.lab.client.network()
        parameters, title = network.parameters, wanted.title or template.title
        with _field("reward"):
            arguments.check_money(parameters, reward=wanted.reward)
        with _field("train_for"):
            arguments.check_durations(parameters, wanted.train_for)
        with _field("baseline"):
            self._check_baseline(wanted, template)
        with _field("title"):
            _check_title(title)
        terms = posting.order_terms(parameters, reward=wanted.reward, train_for=wanted.train_for, title=title)
        balance = self.lab.chain_wallet.balance_grains()
        network_id, reward = network.genesis.network_id, grains(wanted.reward)
        miners = miners_of(network, reward, network_id, here=is_of_this_host(network_id))
        notes = _notes_of(lambda: require_miners(network, reward, miners, without=True))
        if balance < terms.escrow_grains:
            notes.append("the account has less than the order costs")
        return {
            "cost_grains": str(terms.escrow_grains),
            "reward_grains": str(terms.reward_grains),
            "fee_grains": str(terms.fee_grains),
            "bond_grains": str(terms.bond_grains),
            "balance_grains": str(balance),
            "after_grains": str(balance - terms.escrow_grains),
            "refund_grains": str(terms.reward_grains - parameters.scoring_grains(reward) + terms.bond_grains),
            "train_ms": terms.windows.train_ms,
            "longest_ms": terms.windows.longest_ms,
            "providers": network.providers,
            "validators": network.validators,
            "notes": notes,
            "can_order": balance >= terms.escrow_grains and network.providers > 0 and network.validators > 0,
        }

    def order(self, what: dict[str, Any]) -> dict[str, Any]:
        """Post an order and pay for it; the form's fields are checked once more."""
        wanted, template = self._wanted(what)
        self.quote(what)
        module, train, test = template.parts()
        placed = self.lab.order(
            module,
            train,
            test,
            reward=wanted.reward,
            train_for=wanted.train_for,
            score=template.score,
            baseline=_baseline(wanted),
            title=wanted.title or template.title,
        )
        return {"order": placed.id.hex()}

    def wallet(self, what: dict[str, Any]) -> dict[str, Any]:
        """Balance, stakes, and what is on its way; what a settlement released is claimed first."""
        lab = self.lab
        with contextlib.suppress(PotLabError, TimeoutError):
            lab.collect()
        return self._money()

    def collect(self, what: dict[str, Any]) -> dict[str, Any]:
        """Claim refunds and earnings that a settlement released."""
        collected = grains(self.lab.collect())
        return {**self._money(), "collected_grains": str(collected)}

    def history(self, what: dict[str, Any]) -> dict[str, Any]:
        """The account's newest orders, newest first: what went into escrow, what was credited, and for what."""
        lab, rows = self.lab, []
        for order in lab.orders()[:HISTORY_LIMIT]:
            view = order.view()
            record = view.order
            own = [one for one in view.payouts if one.account == lab.identity.address]
            rows.append(
                {
                    "order": view.id.hex(),
                    "title": record.title,
                    "window": view.window.value,
                    "time_ms": view.ended_ms or view.put_ms,
                    "paid_grains": str(record.reward_grains + record.fee_grains + record.bond_grains),
                    "credited_grains": str(sum(one.grains for one in own)),
                    "reasons": [{"reason": one.reason, "grains": str(one.grains)} for one in own],
                    "void_reason": view.void_reason,
                }
            )
        return {"orders": rows}

    def _money(self) -> dict[str, Any]:
        held = self.lab.wallet()
        return {
            "address": held.address,
            "balance_grains": str(held.balance_grains),
            "on_its_way_grains": str(held.on_its_way_grains),
            "earned_grains": str(held.account.earned_grains),
            "stakes": [
                {
                    "role": Role(one.role).name.lower(),
                    "bonded_grains": str(one.bonded_grains),
                    "unbonding_grains": str(one.unbonding_grains),
                    "slashed_grains": str(one.slashed_grains),
                }
                for one in held.account.stakes
                if one.bonded_grains or one.unbonding_grains or one.slashed_grains
            ],
        }

    def _wanted(self, what: dict[str, Any]) -> tuple[WantedOrder, OrderTemplate]:
        wanted = msgspec.convert(what, WantedOrder)
        if wanted.template not in TEMPLATES:
            known = one_of(wanted.template, TEMPLATES)
            raise _FieldRefused("template", BadArgument("no such template", seen=wanted.template, wanted=known))
        return wanted, TEMPLATES[wanted.template]

    def _check_baseline(self, wanted: WantedOrder, template: OrderTemplate) -> None:
        from pot_lab.scoring import score_function

        function = score_function(template.score)
        arguments.check_baseline(function.full_name, function.version, _baseline(wanted))


def _baseline(wanted: WantedOrder) -> Any:
    text = wanted.baseline.strip()
    return exact_fraction(text, "baseline") if text else None


def _check_title(title: str) -> None:
    if len(title) > 120 or not title.isprintable():
        raise BadArgument(
            "a title is text for lists", seen=f"{len(title)} characters", wanted="at most 120 printable ones"
        )


def _notes_of(check: Callable[[], None]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check()
    return [str(one.message) for one in caught]


def serve(desk: OrderDesk, source: TextIO, target: TextIO) -> None:
    """Answer requests until the input ends."""
    for line in source:
        try:
            request = msgspec.json.decode(line, type=DeskRequest)
        except msgspec.DecodeError as error:
            _log.warning("event=desk_request_unreadable reason=%r", str(error))
            continue
        target.write(msgspec.json.encode(desk.answer(request)).decode() + "\n")
        target.flush()
    desk.close()


def _connected() -> Lab:
    file, testnet = find_network()
    identity = open_account(testnet, os.environ.get("POT_LAB_ACCOUNT") or "client")
    return Lab(NetworkConfig.load(file), identity)


def main() -> None:
    """Serve standard input and output."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what anything prints must not stand among the answers
    serve(OrderDesk(_connected), sys.stdin, answers)


if __name__ == "__main__":
    main()
