"""In which order the suite's files run."""

from __future__ import annotations

import pytest

SLOW_ARE_BEGUN_IN = 0.8
"""The last slow file has so much of the others before it."""


def spread(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests with the files that wait much (`slow`: whole orders, real networks, browsers) spread evenly among the
    others, and none of them at the end, so that the processors have something to do all the time.

    Workers take file by file in this order; within a file the order stays.
    """
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    slow = [name for name, tests in files.items() if any(test.get_closest_marker("slow") for test in tests)]
    quick = [name for name in files if name not in set(slow)]
    every = SLOW_ARE_BEGUN_IN * len(quick) / max(1, len(slow))
    places = [(every * at, 0, name) for at, name in enumerate(slow)] + [(at, 1, name) for at, name in enumerate(quick)]
    return [test for _, _, name in sorted(places) for test in files[name]]
