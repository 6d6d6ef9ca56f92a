"""Every route of the extension with what it takes, and a description of them for other programs (OpenAPI 3.1)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import tornado.web
from jupyter_server.auth.decorator import authorized

from pot_lab.server import host_handlers, miner_handlers, money_handlers
from pot_lab.server.handlers import SnapshotHandler, StreamHandler
from pot_lab.server.money_handlers import TypedHandler

_ID = r"([A-Za-z0-9][A-Za-z0-9._-]{0,100})"
_NAME = r"([A-Za-z0-9_-]{1,64})"
NOTEBOOKS = ("tour", "order", "tasks", "provider", "validator", "verifier", "miner", "paper_tables")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route.

    Attributes:
        pattern: a regular expression of the path; each group is a parameter.
        handler: who answers.
        parameters: names of the groups.
        body: the type of a POST's body; None for a GET.
        query: what may follow a question mark, each with its schema; none is required.
    """

    pattern: str
    handler: type[tornado.web.RequestHandler]
    parameters: tuple[str, ...] = ()
    body: type[Any] | None = None
    query: tuple[tuple[str, dict[str, Any]], ...] = ()


class OpenApiHandler(TypedHandler):
    """GET /pot-lab/openapi.json: this description."""

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the description as JSON."""
        self.finish(json.dumps(openapi()))


ROUTES = (
    Route(pattern="/pot-lab/openapi.json", handler=OpenApiHandler),
    Route(pattern="/pot-lab/snapshot", handler=SnapshotHandler),
    Route(pattern="/pot-lab/stream", handler=StreamHandler),
    Route(pattern="/pot-lab/templates", handler=money_handlers.TemplatesHandler),
    Route(pattern="/pot-lab/quote", handler=money_handlers.QuoteHandler, body=money_handlers.OrderForm),
    Route(pattern="/pot-lab/orders", handler=money_handlers.OrdersHandler, body=money_handlers.PlacedForm),
    Route(pattern="/pot-lab/wallet", handler=money_handlers.WalletHandler),
    Route(pattern="/pot-lab/wallet/collect", handler=money_handlers.CollectHandler, body=money_handlers.Nothing),
    Route(
        pattern=f"/pot-lab/networks/{_NAME}/(start|stop)",
        handler=host_handlers.NetworkActionHandler,
        parameters=("name", "action"),
        body=money_handlers.Nothing,
    ),
    Route(
        pattern=f"/pot-lab/jobs/{_ID}/(stop|resume|rerun)",
        handler=host_handlers.JobActionHandler,
        parameters=("id", "action"),
        body=money_handlers.Nothing,
    ),
    Route(pattern="/pot-lab/wallet/history", handler=money_handlers.HistoryHandler),
    Route(pattern=f"/pot-lab/jobs/{_ID}", handler=host_handlers.JobHandler, parameters=("id",)),
    Route(pattern=f"/pot-lab/jobs/{_ID}/log", handler=host_handlers.JobLogHandler, parameters=("id",)),
    Route(pattern=f"/pot-lab/jobs/{_ID}/notebook", handler=host_handlers.JobNotebookHandler, parameters=("id",)),
    Route(pattern="/pot-lab/miners", handler=miner_handlers.MinersHandler, body=miner_handlers.MinerForm),
    Route(
        pattern=f"/pot-lab/miners/{_ID}/stop",
        handler=miner_handlers.MinerActionHandler,
        parameters=("id",),
        body=money_handlers.Nothing,
    ),
    Route(pattern=f"/pot-lab/miners/{_ID}/log", handler=miner_handlers.MinerLogHandler, parameters=("id",)),
    Route(
        pattern="/pot-lab/recipes/(provider|validator|verifier)",
        handler=miner_handlers.RecipeHandler,
        parameters=("role",),
        query=(("notebook", {"type": "string", "maxLength": 400}),),
    ),
    Route(pattern="/pot-lab/prune", handler=host_handlers.PruneHandler, body=host_handlers.PruneForm),
    Route(
        pattern=f"/pot-lab/notebooks/({'|'.join(NOTEBOOKS)})",
        handler=host_handlers.CopyNotebookHandler,
        parameters=("name",),
        body=money_handlers.Nothing,
    ),
    Route(
        pattern="/pot-lab/earnings",
        handler=miner_handlers.EarningsHandler,
        query=(("days", {"type": "integer", "minimum": 1, "maximum": miner_handlers.LONGEST_DAYS}),),
    ),
    Route(pattern="/pot-lab/standing", handler=miner_handlers.StandingHandler),
    Route(pattern="/pot-lab/host", handler=miner_handlers.HostUsageHandler),
)


def openapi() -> dict[str, Any]:
    """The description of every route, in OpenAPI 3.1; the stream is described in words, since it is a websocket."""
    from pot_lab import __version__

    bodies = [route.body for route in ROUTES if route.body is not None]
    _, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PoT Lab's Jupyter Server extension",
            "version": __version__,
            "description": "Every route needs the server's token (or its cookie with the XSRF token), and the "
            "authorizer's leave for `pot_lab`. Money goes as decimal strings of grains, 10^-9 POT; times in Unix "
            "milliseconds. /pot-lab/stream is a websocket: the whole state first, then what changed; a follower may "
            'send {"follow": [order ids]}.',
        },
        "security": [{"token": []}],
        "paths": {_path(route): _described(route) for route in ROUTES if route.handler is not StreamHandler},
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
    }


def _path(route: Route) -> str:
    names = iter(route.parameters)
    return re.sub(r"\([^)]*\)", lambda _: "{" + next(names) + "}", route.pattern)


def _described(route: Route) -> dict[str, Any]:
    method = "get" if route.body is None else "post"
    groups = re.findall(r"\(([^)]*)\)", route.pattern)
    document = (getattr(route.handler, method).__doc__ or "").strip()
    answers = {
        "200": {"description": document, "content": {"application/json": {"schema": {"type": "object"}}}},
        "403": {"description": "Not logged in, or not allowed."},
        "404": {"description": "There is no such route."},
    }
    described: dict[str, Any] = {"summary": document.splitlines()[0], "responses": answers}
    described["parameters"] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^({group})$"}}
        for name, group in zip(route.parameters, groups, strict=True)
    ]
    described["parameters"] += [
        {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in route.query
    ]
    if route.query:
        answers["400"] = {"description": "What follows the question mark is not of its type."}
    refusal = {"schema": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}}
    answers["422"] = {"description": "Refused, in the user's words.", "content": {"application/json": refusal}}
    if route.body is not None:
        answers["400"] = {"description": "The body is not of this type."}
        answers["413"] = {"description": "The body is too large."}
        schema = {"$ref": f"#/components/schemas/{route.body.__name__}"}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {method: described}
