"""The Jupyter Server extension: networks, orders and jobs for the sidebar of JupyterLab.

REST for a snapshot and a websocket for changes, both fed by one background thread that starts at the first request. It
reads and never signs, and it imports nothing of the notebook.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from pot_lab.server.application import PotLabApp

    return [{"module": "pot_lab.server", "app": PotLabApp}]
