"""Routes that order and move money, each through the desk's process, which holds the account's key.

All need the server's token or its cookie with the XSRF token, and the authorizer's leave to write `pot_lab`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, TypeVar

import msgspec
import tornado.web
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin

from pot_lab.server.desk import DeskProcess, DeskRefusal

DESK = "pot_lab_desk"
ATTEMPTS = "pot_lab_attempts"
BODY_LIMIT_BYTES = 16_384
_REMEMBERED_ATTEMPTS = 200

T = TypeVar("T")
ShortText = Annotated[str, msgspec.Meta(max_length=200)]


class OrderForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order as the form has it, in the user's words.

    Attributes:
        template: which ready-made order.
        reward: POT, e.g. `25`.
        train_for: how long providers may train, e.g. `60s`.
        title: what people see in lists; by default the template's.
        baseline: the score to beat, in the score function's unit; by default that of the first weights.
    """

    template: ShortText
    reward: ShortText
    train_for: ShortText
    title: ShortText = ""
    baseline: ShortText = ""


class PlacedForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A form that was sent off. `attempt` is made anew for each: one that is sent twice is ordered and paid once."""

    attempt: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    order: OrderForm


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty body."""


class TypedHandler(ExtensionHandlerMixin, APIHandler):
    """Reads a body of one type and answers JSON; a refusal names the field of the form."""

    auth_resource = "pot_lab"

    def body(self, type_: type[T]) -> T:
        """The request's body. Raises `tornado.web.HTTPError` (413, 400) if it is not of the type."""
        if len(self.request.body) > BODY_LIMIT_BYTES:
            raise tornado.web.HTTPError(413, "the body is too large")
        try:
            return msgspec.json.decode(self.request.body or b"{}", type=type_)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise tornado.web.HTTPError(400, _one_line(str(error))) from error

    async def answer_from_desk(self, question: str, what: dict[str, Any]) -> None:
        """Ask the desk and answer with what it says; a refusal is a 422."""
        desk: DeskProcess = self.settings[DESK]
        try:
            self.finish(json.dumps(await desk.ask(question, what)))
        except DeskRefusal as refusal:
            self.refuse(str(refusal), refusal.field)

    def refuse(self, message: str, field: str = "") -> None:
        """Answer that it cannot be done (422), in the user's words."""
        self.set_status(422)
        self.finish(json.dumps({"message": message, "field": field}))


class TemplatesHandler(TypedHandler):
    """GET /pot-lab/templates: the ready-made orders."""

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with names, titles and what the form begins with."""
        await self.answer_from_desk("templates", {})


class QuoteHandler(TypedHandler):
    """POST /pot-lab/quote: what an order would cost; nothing is sent or paid."""

    @tornado.web.authenticated
    @authorized
    async def post(self) -> None:
        """Check the form, and answer with cost, refund, times and miners."""
        await self.answer_from_desk("quote", msgspec.to_builtins(self.body(OrderForm)))


class OrdersHandler(TypedHandler):
    """POST /pot-lab/orders: post an order and pay for it."""

    @tornado.web.authenticated
    @authorized
    async def post(self) -> None:
        """Order once for each attempt, however often it is sent; answer with the order's id."""
        form = self.body(PlacedForm)
        attempts: dict[str, asyncio.Task[dict[str, Any]]] = self.settings[ATTEMPTS]
        if form.attempt not in attempts:
            desk: DeskProcess = self.settings[DESK]
            what = msgspec.to_builtins(form.order)
            attempts[form.attempt] = asyncio.create_task(desk.ask("order", what))
            while len(attempts) > _REMEMBERED_ATTEMPTS:
                attempts.pop(next(iter(attempts)))
        try:
            # shielded: a browser that goes away ends the answer and not the order
            self.finish(json.dumps(await asyncio.shield(attempts[form.attempt])))
        except DeskRefusal as refusal:
            self.refuse(str(refusal), refusal.field)


class WalletHandler(TypedHandler):
    """GET /pot-lab/wallet: balance, stakes, what is on its way."""

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the account's money; what a settlement released is claimed first."""
        await self.answer_from_desk("wallet", {})


class HistoryHandler(TypedHandler):
    """GET /pot-lab/wallet/history: what orders cost and brought back, and why."""

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the account's newest orders: paid, credited, and for what."""
        await self.answer_from_desk("history", {})


class CollectHandler(TypedHandler):
    """POST /pot-lab/wallet/collect: claim refunds and earnings."""

    @tornado.web.authenticated
    @authorized
    async def post(self) -> None:
        """Claim, and answer with the account's money."""
        self.body(Nothing)
        await self.answer_from_desk("collect", {})


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
