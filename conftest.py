"""What every test shares: one hypothesis profile, time for long tests, and skips for hardware that is not there."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.suite_order import spread

# No test depends on how fast this machine is, so no example has a deadline.
settings.register_profile("pot-lab", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pot-lab")


FORK_FOLDER = "POT_LAB_FORK_FOLDER"
"""One process imports torch for the jobs and helpers of all tests, whatever their homes."""


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder before the workers start, which inherit it."""
    if FORK_FOLDER not in os.environ:
        os.environ[FORK_FOLDER] = tempfile.mkdtemp(prefix="forks-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(FORK_FOLDER), ignore_errors=True))


LONG_TEST_S = 2 * 3_600


@pytest.fixture(autouse=True)
def _no_handler_outlives_its_test() -> Iterator[None]:
    """A log handler for a stream that a test captured would complain about the closed stream in the tests after it."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread slow files, give `long` tests time, and skip `gpu` tests, with the reason, where torch sees no CUDA."""
    items[:] = spread(items)
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_TEST_S))
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
