"""What orders name: files of every order that started, models, transcripts; nothing of orders that cost nothing."""

from __future__ import annotations

from pot_lab.errors import PotLabError
from pot_lab.network.client.references import named_digests
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.views import OrderView
from tests.jobs.in_process import InProcessClient, Market
from tests.protocol.scenes import RESTING, bring_to, new_world
from tests.protocol.world import World, key


def reader(world: World) -> InProcessClient:
    assert isinstance(world, World)
    client = InProcessClient.__new__(InProcessClient)
    client.market, client.read, client.failing = world, [], None  # type: ignore[assignment]
    return client


def test_an_order_names_its_files_models_and_transcripts_in_every_window_but_the_first() -> None:
    for window in RESTING:
        world = new_world()
        order_id = bring_to(world, window)
        state, named = world.order(order_id), named_digests(reader(world))
        if window is Window.WAITING:
            assert named == set()
            continue
        wanted = {link.digest for link in state.order.files}
        wanted |= {each.sealed.ciphertext.digest for each in state.claims.values() if each.sealed is not None}
        wanted |= {each.transcript.digest for each in state.validations if each.transcript is not None}
        assert named == wanted and len(wanted) >= 4
    assert len({link.digest for link in state.order.files}) == 4


def test_an_order_that_is_forgotten_meanwhile_names_nothing() -> None:
    market = Market()
    market.start()

    class Forgetful(InProcessClient):
        def order(self, order_id: bytes) -> OrderView:
            raise UnknownOrder("there is no such order", seen=OrderId(order_id))

    assert named_digests(Forgetful(market, key("reader"))) == set()


def test_where_the_network_does_not_answer_nothing_is_known() -> None:
    client = InProcessClient(Market(), key("reader"))
    client.failing = PotLabError("away")
    try:
        named_digests(client)
    except PotLabError as error:
        assert error is client.failing
    else:
        raise AssertionError("an empty set would let everything be removed")
