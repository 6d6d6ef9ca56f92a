"""The extension application: registers the handlers and owns the feed, which starts with the first request."""

from __future__ import annotations

from jupyter_server.extension.application import ExtensionApp

from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED, SnapshotHandler, StreamHandler


class PotLabApp(ExtensionApp):
    """The server extension `pot_lab`."""

    name = "pot_lab"
    app_name = "PoT Lab"
    description = "Networks, orders and jobs of PoT Lab in the sidebar."
    extension_url = "/pot-lab"
    load_other_extensions = True
    handlers = [  # noqa: RUF012 - the base class asks for a list here
        (r"/pot-lab/snapshot", SnapshotHandler),
        (r"/pot-lab/stream", StreamHandler),
    ]

    def initialize_settings(self) -> None:
        """Make the feed; it does nothing yet."""
        self.settings[FEED] = NetworkFeed()

    async def stop_extension(self) -> None:
        """End the feed's thread with the server."""
        self.settings[FEED].stop()
