"""Confirmed chain events are attested in order, from where the ledger stands, and again when nothing came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pot_lab.chain.errors import ChainUnreachable
from pot_lab.network.duties.attest_chain import EVENTS_PER_ATTESTATION, AttestChain, ChainWatch, ConfirmedEvents
from pot_lab.network.duties.chain_queue import Work
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Attest, open_body
from tests.network.duties.parts import opened, signer_of
from tests.protocol.world import POT, World


def staked(world: World, index: int) -> ChainEvent:
    return ChainEvent(
        kind="staked",
        block=1,
        log_index=index,
        account=world.aggregators[index % 4].address,
        role=int(Role.AGGREGATOR),
        amount_grains=POT,
        subject=b"",
        detail=(POT * (1 + index // 4),),
    )


def attested(world: World, requests: list[bytes]) -> list[tuple[int, int]]:
    """First event and number of events of each attestation."""
    bodies = [open_body(each) for each in opened(world, requests)]
    return [(body.first, len(body.events)) for body in bodies if isinstance(body, Attest)]


def test_events_are_attested_once_and_again_after_a_while_until_the_ledger_has_them() -> None:
    world, events = World(), ConfirmedEvents()
    duty = AttestChain(lambda: world.ledger, signer_of(world, world.aggregators[0]), events)
    assert duty.poll(10_000) == []
    events.add([staked(world, 0), staked(world, 1)])
    requests = duty.poll(10_000)
    assert attested(world, requests) == [(0, 2)]
    assert duty.poll(10_001) == []
    assert duty.poll(10_000 + REPEAT_AFTER_MS - 1) == []
    assert attested(world, duty.poll(10_000 + REPEAT_AFTER_MS)) == [(0, 2)]
    events.add([staked(world, 2)])
    assert attested(world, duty.poll(10_001 + REPEAT_AFTER_MS)) == [(2, 1)]

    assert world.ordered(*requests)[0].accepted
    world.must(world.aggregators[1], Attest(0, (staked(world, 0), staked(world, 1))))
    assert world.ledger.state.next_chain_event == 2
    later_ms = 20_000 + REPEAT_AFTER_MS
    assert attested(world, duty.poll(later_ms)) == [(2, 1)]


def test_many_events_are_attested_in_parts() -> None:
    world, events = World(), ConfirmedEvents()
    duty = AttestChain(lambda: world.ledger, signer_of(world, world.aggregators[0]), events)
    events.add([staked(world, index) for index in range(EVENTS_PER_ATTESTATION + 3)])
    assert attested(world, duty.poll(10_000)) == [(0, EVENTS_PER_ATTESTATION)]
    assert attested(world, duty.poll(10_000)) == [(EVENTS_PER_ATTESTATION, 3)]
    assert duty.poll(10_000) == []


def test_applied_events_are_dropped_whoever_attested_them() -> None:
    world, events = World(), ConfirmedEvents()
    world.chain(staked(world, 0), staked(world, 1))
    duty = AttestChain(lambda: world.ledger, signer_of(world, world.aggregators[0]), events)
    events.add([staked(world, 0)])
    assert duty.poll(10_000) == []
    assert events.drop_applied(0) == 1
    events.add([staked(world, 1), staked(world, 2)])
    assert attested(world, duty.poll(10_000)) == [(2, 1)]


def test_nothing_is_dropped_or_counted_before_anything_is_applied() -> None:
    world, events = World(), ConfirmedEvents()
    assert events.drop_applied(0) == 0
    events.add([staked(world, 0)])
    assert events.drop_applied(0) == 0 and events.read(0, 9) == (staked(world, 0),)
    assert events.drop_applied(1) == 1 and events.read(0, 9) == ()
    assert events.drop_applied(0) == 1, "numbers never go back"
    events.add([staked(world, 1), staked(world, 2)])
    assert events.read(0, 9) == (staked(world, 1), staked(world, 2)), "what was dropped is not there any more"


class Chain:
    """A chain's watcher that answers what the test has laid there."""

    def __init__(self) -> None:
        self.answers: list[list[ChainEvent] | ChainUnreachable] = []

    def poll(self) -> list[ChainEvent]:
        answer = self.answers.pop(0)
        if isinstance(answer, ChainUnreachable):
            raise answer
        return answer


def test_a_chain_that_is_away_is_logged_once_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world, events, chain = World(), ConfirmedEvents(), Chain()
    woken: list[int] = []
    watch = ChainWatch(lambda: chain, events, lambda: woken.append(1))
    away = ChainUnreachable("nothing answers")
    chain.answers = [[], [staked(world, 0)], away, away, [staked(world, 1)], []]
    for _ in range(6):
        watch.poll()
    assert events.read(0, 10) == (staked(world, 0), staked(world, 1)) and len(woken) == 2
    assert caplog.text.count("chain_unreachable") == 1 and caplog.text.count("chain_back") == 1


def test_a_watcher_that_cannot_be_opened_is_tried_again() -> None:
    events, chain = ConfirmedEvents(), Chain()
    makers: list[Callable[[], Chain]] = []

    def refuse() -> Chain:
        raise ChainUnreachable("no node")

    watch = ChainWatch(lambda: makers.pop(0)(), events, lambda: None)
    makers[:] = [refuse, lambda: chain]
    chain.answers = [[], []]
    for _ in range(3):
        watch.poll()
    assert makers == [] and chain.answers == []


def test_the_watch_polls_until_it_is_stopped() -> None:
    world, events, chain = World(), ConfirmedEvents(), Chain()
    woken = threading.Semaphore(0)
    chain.answers = [[], [staked(world, 0)], [], [staked(world, 1)], *([[]] * 100_000)]
    watch = ChainWatch(lambda: chain, events, woken.release, interval_s=0.001)
    watch.start()
    assert woken.acquire(timeout=240) and woken.acquire(timeout=240)
    watch.stop()
    assert events.read(0, 3) == (staked(world, 0), staked(world, 1))
    assert not any(thread.name == "chain-watch" for thread in threading.enumerate())


def test_a_watch_that_never_began_can_be_stopped() -> None:
    started: list[Work] = []
    watch = ChainWatch(Chain, ConfirmedEvents(), lambda: None, start=started.append)  # type: ignore[arg-type]
    watch.stop()
    assert started == []
