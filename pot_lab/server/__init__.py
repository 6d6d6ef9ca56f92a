"""The Jupyter Server extension: networks, orders and jobs for the sidebar of JupyterLab.

REST for a snapshot and a websocket for changes, both fed by one background thread that starts at the first request. It
imports nothing of the notebook and holds no key: orders and money go through a process of their own (`desk`).
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from pot_lab.server.application import PotLabApp

    return [{"module": "pot_lab.server", "app": PotLabApp}]
