"""What every attack begins with: a network with two honest providers and four honest validators."""

from __future__ import annotations

import pytest

from tests.protocol.scenes import new_world
from tests.protocol.world import World


@pytest.fixture
def world() -> World:
    return new_world()
