"""A private JupyterLab on a free loopback port, and Debian's chromium to look at it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.network.loopback import free_ports

TOKEN = "browser-test-token"
PATIENCE_S = 400
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A server extension that lets a JSON file stand for the ledger, so that each state of an order can be looked at.
SCRIPTED = """
import json, os, pathlib
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED

class FileSource:
    name = "scripted"

    def _read(self):
        return json.loads(pathlib.Path(os.environ["POT_LAB_SCRIPT"]).read_text())

    def network(self):
        return self._read()["network"]

    def orders(self):
        return self._read()["orders"]

    def order(self, order_id):
        cards = {card["id"]: card for card in self._read().get("cards", [])}
        if order_id not in cards:
            raise UnknownOrder("the ledger has no such order", seen=order_id)
        return cards[order_id]

    def on_change(self, wake):
        pass

    def close(self):
        pass

def _jupyter_server_extension_points():
    return [{"module": "scripted_feed"}]

def _load_jupyter_server_extension(app):
    app.web_app.settings[FEED] = NetworkFeed(FileSource, interval_s=0.2)
"""


class Lab:
    """A running JupyterLab with a home and a configuration of its own.

    Args:
        root: its folder.
        script: what the scripted ledger says; None for a real one.
        base: the base URL, as a JupyterHub gives each user one of their own.
    """

    def __init__(self, root: Path, script: dict[str, Any] | None, base: str = "/") -> None:
        self.root = root
        self.base = base
        self.script = root / "script.json"
        (root / "work").mkdir(parents=True)
        config = root / "config"
        (config / "labconfig").mkdir(parents=True)
        announcements = {"@jupyterlab/apputils-extension:announcements": True}
        (config / "labconfig" / "page_config.json").write_text(json.dumps({"disabledExtensions": announcements}))
        extensions = {"pot_lab.server": True}
        if script is not None:
            self.show(script)
            (root / "scripted_feed.py").write_text(SCRIPTED)
            extensions["scripted_feed"] = True
        (config / "jupyter_server_config.json").write_text(
            json.dumps({"ServerApp": {"jpserver_extensions": extensions}})
        )
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}{base.rstrip('/')}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ,
            "HOME": str(self.root),
            "POT_LAB_HOME": os.environ.get("POT_LAB_HOME", str(self.root / "pot-lab")),
            "POT_LAB_SCRIPT": str(self.script),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self.root), os.environ.get("PYTHONPATH")))),
            "JUPYTER_CONFIG_DIR": str(self.root / "config"),
            "PYTHONFAULTHANDLER": "1",
            "JUPYTER_DATA_DIR": str(self.root / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.root / "runtime"),
        }
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={self.port}",
        ]
        command += [
            "--ServerApp.port_retries=0",
            f"--ServerApp.base_url={self.base}",
            f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.root_dir={self.root / 'work'}",
        ]
        command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
        with open(self.root / "lab.log", "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/api/status?token={TOKEN}", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.root / "lab.log").read_text()
                assert time.monotonic() < deadline, (self.root / "lab.log").read_text()
                time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)  # all its threads say where they are
                self.process.wait(PATIENCE_S)
                raise AssertionError("JupyterLab does not stop\n" + (self.root / "lab.log").read_text()) from None
            finally:
                self.process = None

    def show(self, script: dict[str, Any]) -> None:
        """Change what the scripted ledger says."""
        temporary = self.script.with_suffix(".tmp")
        temporary.write_text(json.dumps(script))
        os.replace(temporary, self.script)


@pytest.fixture(scope="module")  # its event loop must be gone before other tests want theirs
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; `make install` gets it where apt-get works")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(PATIENCE_S * 1000)
    one = context.new_page()
    one.problems = []
    one.on("pageerror", lambda error: one.problems.append(str(error)))
    yield one
    context.close()


@pytest.fixture
def open_panel(page: Any):
    def open_(lab: Lab, page: Any = page, workspace: str = "") -> Any:
        """Load Lab (again) and show our sidebar, in the test's tab or another one; returns the panel.

        A second tab needs a workspace of its own: Lab leads it from one that is in use to another, whenever it notices.
        """
        place = f"lab/workspaces/{workspace}" if workspace else "lab"
        page.goto(f"{lab.url}/{place}?token={TOKEN}&reset")
        page.wait_for_function("() => window.jupyterapp !== undefined")
        page.evaluate("async () => { await window.jupyterapp.restored; }")
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.evaluate("() => window.jupyterapp.commands.execute('pot-lab:open')")
        panel = page.locator("#pot-lab-panel")
        panel.wait_for(state="visible")
        return panel

    return open_


@pytest.fixture
def shots() -> Path:
    """Where screenshots go, to be looked at."""
    folder = Path("test-results")
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def show_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Make the scripted ledger say something, in a Lab that the tests of a module share."""
    running: list[Lab] = []

    def show(script: dict[str, Any]) -> Lab:
        if running:
            running[0].show(script)
        else:
            running.append(Lab(tmp_path_factory.mktemp("lab") / "lab", script))
        return running[0]

    yield show
    for lab in running:
        lab.stop()


@pytest.fixture
def start_lab(tmp_path: Path):
    count = itertools.count()
    with contextlib.ExitStack() as running:

        def start(script: dict[str, Any] | None = None, base: str = "/") -> Lab:
            lab = Lab(tmp_path / f"lab{next(count)}", script, base)
            running.callback(lab.stop)
            return lab

        yield start
