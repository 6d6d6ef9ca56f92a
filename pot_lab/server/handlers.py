"""The extension's two endpoints: the snapshot over REST, and a websocket that follows it.

Both require the server's token or cookie and the authorizer's leave to read `pot_lab`; neither accepts input. A
websocket and not server-sent events, since those would hold one of the browser's six connections for each tab.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import tornado.web
from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from pot_lab.server.feed import Listener, NetworkFeed

FEED = "pot_lab_feed"


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
    """GET /pot-lab/stream: the snapshot on connecting, and again whenever it changes."""

    auth_resource = "pot_lab"
    _listener: Listener | None = None
    _pump: asyncio.Task[None] | None = None

    @ws_authenticated
    @authorized
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Upgrade to a websocket, for a user who is logged in and whom the server's authorizer lets read."""
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Begin to send snapshots."""
        super().open(*args, **kwargs)
        feed: NetworkFeed = self.settings[FEED]
        self._listener = feed.listen()
        self._pump = asyncio.create_task(self._send(self._listener))

    async def _send(self, listener: Listener) -> None:
        try:
            while (snapshot := await listener.next()) is not None:
                await self.write_message(json.dumps(snapshot))
            self.close(1001, "the server stops")
        except WebSocketClosedError:
            pass

    def on_message(self, message: str | bytes) -> None:
        """Ignore it: the stream has no input."""

    def on_close(self) -> None:
        """Stop sending and leave the feed."""
        if self._listener is not None:
            self.settings[FEED].leave(self._listener)
        if self._pump is not None:
            self._pump.cancel()
        super().on_close()
