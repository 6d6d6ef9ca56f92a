"""The extension's two ways to read: the state over REST, and a websocket that follows it.

Both require the server's token or cookie and the authorizer's leave to read `pot_lab`. A websocket and not
server-sent events, since those would hold one of the browser's six connections for each tab.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import msgspec
import tornado.web
from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from pot_lab.server.deltas import FOLLOWED_LIMIT, Listener
from pot_lab.server.feed import NetworkFeed

FEED = "pot_lab_feed"
MESSAGE_LIMIT_BYTES = 8_192
OrderIdText = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class FollowedOrders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a follower sends: the orders whose cards it shows."""

    follow: Annotated[list[OrderIdText], msgspec.Meta(max_length=FOLLOWED_LIMIT)]


class SnapshotHandler(ExtensionHandlerMixin, APIHandler):
    """GET /pot-lab/snapshot: network, orders and jobs as they are now."""

    auth_resource = "pot_lab"

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the newest snapshot as JSON."""
        feed: NetworkFeed = self.settings[FEED]
        self.finish(json.dumps(await feed.snapshot()))


class StreamHandler(ExtensionHandlerMixin, WebSocketMixin, WebSocketHandler, JupyterHandler):
    """GET /pot-lab/stream: the state on connecting, and the differences whenever it changes.

    A follower may say whose orders' cards it shows: `{"follow": [ids]}`.
    """

    auth_resource = "pot_lab"
    _listener: Listener | None = None
    _pump: asyncio.Task[None] | None = None

    @ws_authenticated
    @authorized
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Upgrade to a websocket, for a user who is logged in and whom the server's authorizer lets read."""
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Begin to send."""
        super().open(*args, **kwargs)
        feed: NetworkFeed = self.settings[FEED]
        self._listener = feed.listen()
        self._pump = asyncio.create_task(self._send(self._listener))

    async def _send(self, listener: Listener) -> None:
        try:
            while (message := await listener.next()) is not None:
                await self.write_message(json.dumps(message))
            self.close(1001, "the server stops")
        except WebSocketClosedError:
            pass

    def on_message(self, message: str | bytes) -> None:
        """Take the list of followed orders; anything else ends the stream."""
        try:
            if len(message) > MESSAGE_LIMIT_BYTES:
                raise msgspec.ValidationError("a message is too long")
            wanted = msgspec.json.decode(message, type=FollowedOrders).follow
        except (msgspec.DecodeError, UnicodeError) as error:
            self.close(1008, str(error)[:120])
            return
        if self._listener is not None:
            self.settings[FEED].follow(self._listener, wanted)

    def on_close(self) -> None:
        """Stop sending and leave the feed."""
        if self._listener is not None:
            self.settings[FEED].leave(self._listener)
        if self._pump is not None:
            self._pump.cancel()
        super().on_close()
