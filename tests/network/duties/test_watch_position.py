"""A position is saved only when the ledger has what came before it; a ledger that lost events gets them again."""

from __future__ import annotations

from pot_lab.chain.watcher import Position
from pot_lab.network.duties.attest_chain import AttestChain, ChainWatch, ConfirmedEvents
from pot_lab.network.duties.watch_position import GAP_POLLS, SAVE_EVERY_S, PositionKeeper
from pot_lab.protocol.records import ChainEvent
from tests.network.duties.parts import signer_of
from tests.network.duties.test_attest_chain import staked
from tests.protocol.world import World


class Clock:
    """Seconds that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Kept:
    """Keeps a position in memory; `saved` are all that were ever saved."""

    def __init__(self, position: Position | None = None) -> None:
        self.position = position
        self.saved: list[int] = []

    def save(self, position: Position) -> None:
        self.position = position
        self.saved.append(position.events)

    def forget(self) -> None:
        self.position = None


def at(events: int) -> Position:
    return Position(100 + events, bytes([events]) * 32, events)


def test_a_position_waits_for_the_ledger() -> None:
    kept, clock = Kept(), Clock()
    keeper = PositionKeeper(kept, now_s=clock)
    for events, applied, saved in (
        (2, None, []),  # nobody has looked at the ledger yet
        (2, 1, []),
        (5, 1, []),
        (5, 2, [2]),
        (9, 5, [2]),  # not again within the interval
    ):
        keeper.on_poll(at(events), applied)
        assert kept.saved == saved
    clock.now_s = SAVE_EVERY_S
    keeper.on_poll(at(9), 8)
    assert kept.saved == [2, 5]


def test_a_start_without_a_block_is_not_saved() -> None:
    kept = Kept()
    PositionKeeper(kept).on_poll(Position(7, b"", 0), 3)
    assert kept.saved == []


class Chain:
    """A chain of events, a block each, and watchers of it."""

    def __init__(self, events: list[ChainEvent], position: Position | None) -> None:
        self.events, self.position = events, position or Position(0, b"", 0)

    def poll(self) -> list[ChainEvent]:
        new = self.events[self.position.events :]
        self.position = at(len(self.events))
        return new


def watch_of(world: World, kept: Kept, chain: list[ChainEvent]) -> tuple[ChainWatch, ConfirmedEvents, AttestChain]:
    events = ConfirmedEvents()
    duty = AttestChain(lambda: world.ledger, signer_of(world, world.aggregators[0]), events)
    watch = ChainWatch(lambda: Chain(chain, kept.position), events, lambda: None, keeper=PositionKeeper(kept))
    return watch, events, duty


def test_a_restart_goes_on_with_the_numbers_of_the_ledger() -> None:
    world, chain = World(), []
    chain += [staked(world, 0), staked(world, 1)]
    world.chain(*chain)
    kept = Kept()
    watch, _, duty = watch_of(world, kept, chain)
    duty.poll(10_000)
    watch.poll()
    assert kept.position is not None and kept.saved == [2]
    chain.append(staked(world, 2))
    watch, events, duty = watch_of(world, kept, chain)
    watch.poll()
    assert events.first == 2 and events.read(2, 9) == (staked(world, 2),)
    assert duty.poll(20_000) != []


def test_a_ledger_that_came_back_with_less_is_given_everything_again() -> None:
    world = World()
    chain = [staked(world, index) for index in range(3)]
    kept = Kept(at(3))  # and the ledger has applied none of them
    watch, events, duty = watch_of(world, kept, chain)
    for _ in range(GAP_POLLS):
        watch.poll()
        assert events.read(0, 9) == ()
        duty.poll(10_000)
    for _ in range(3):
        watch.poll()
    assert events.first == 0 and events.read(0, 9) == tuple(chain)
