"""Jupyter's own server fixtures, for this folder only: one of them touches the event loop of every test in sight."""

from pytest_jupyter.jupyter_server import *  # noqa: F403
