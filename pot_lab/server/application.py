"""The extension application: registers the handlers and owns the feed, which starts with the first request."""

from __future__ import annotations

from jupyter_server.extension.application import ExtensionApp

from pot_lab.server.desk import DeskProcess
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED
from pot_lab.server.money_handlers import ATTEMPTS, DESK
from pot_lab.server.routes import ROUTES


class PotLabApp(ExtensionApp):
    """The server extension `pot_lab`."""

    name = "pot_lab"
    app_name = "PoT Lab"
    description = "Networks, orders and jobs of PoT Lab in the sidebar."
    extension_url = "/pot-lab"
    load_other_extensions = True
    handlers = [(route.pattern, route.handler) for route in ROUTES]  # noqa: RUF012 - the base class asks for a list

    def initialize_settings(self) -> None:
        """Make the feed and the desk; they do nothing yet."""
        self.settings[FEED] = NetworkFeed()
        self.settings[DESK] = DeskProcess()
        self.settings[ATTEMPTS] = {}

    async def stop_extension(self) -> None:
        """End the feed's thread and the desk's process with the server."""
        self.settings[FEED].stop()
        self.settings[DESK].stop()
