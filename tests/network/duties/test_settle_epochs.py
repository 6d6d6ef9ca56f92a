"""A pending settlement is signed, sent by one aggregator after the other, and followed by claims and slashes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pot_lab.chain.errors import ChainReverted, ChainUnreachable
from pot_lab.crypto.canonical import decode, encode
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.settle_epochs import CHAIN_RETRY_MS, SettleEpochs, confirmed_slashes
from pot_lab.protocol import views
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.queries import query
from pot_lab.protocol.settlement import Settlement
from pot_lab.protocol.transactions import SignEpoch, open_body
from tests.network.duties.parts import HeldQueue, opened, signer_of
from tests.protocol.scenes import bring_to, new_world
from tests.protocol.test_epochs import ended_orders, finish_due, pending
from tests.protocol.world import World, key

PATIENCE_MS = 8_000


@dataclass
class Wallet:
    """What a chain wallet was told to do."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    error: Exception | None = None

    def settle(self, settlement: Settlement, order_ids: list[bytes], signatures: dict[bytes, bytes]) -> None:
        self._call("settle", settlement, tuple(order_ids), frozenset(signatures))

    def missing_escrows(self, order_ids: list[bytes]) -> list[bytes]:
        self.calls.append(("missing_escrows", tuple(order_ids)))
        return order_ids[:1]

    def claim(self, account: bytes, cumulative_grains: int, proof: list[bytes]) -> None:
        self._call("claim", account, cumulative_grains, tuple(proof))

    def apply_slash(self, node: bytes, role: int, cumulative_grains: int, to: bytes, proof: list[bytes]) -> None:
        self._call("apply_slash", node, role, cumulative_grains, to, tuple(proof))

    def _call(self, *what: object) -> None:
        self.calls.append(what)
        if self.error is not None:
            raise self.error


class Settling:
    """One aggregator's duty in a world, with its queue and its wallet."""

    def __init__(self, world: World, index: int) -> None:
        self.world, self.queue, self.wallet = world, HeldQueue(), Wallet()
        signer = signer_of(world, world.aggregators[index])
        self.duty = SettleEpochs(lambda: world.ledger, signer, lambda: self.wallet, self.queue, PATIENCE_MS)

    def poll(self, now_ms: int) -> list[bytes]:
        return self.duty.poll(now_ms)

    def worked(self) -> list[tuple[object, ...]]:
        """What the wallet was told, by the work that waited."""
        self.queue.work()
        calls, self.wallet.calls[:] = list(self.wallet.calls), []
        return calls


@pytest.fixture
def world() -> World:
    """A world whose first epoch waits for signatures."""
    world = World()
    ended_orders(world, 1)
    finish_due(world)
    return world


def test_nothing_is_signed_or_sent_before_an_epoch_is_pending() -> None:
    settling = Settling(World(), 0)
    assert settling.poll(0) == [] and settling.worked() == []


def test_the_settlement_is_signed_again_after_a_while_until_the_signature_shows(world: World) -> None:
    settling = Settling(world, 1)
    requests = settling.poll(10_000)
    [body] = [open_body(each) for each in opened(world, requests)]
    assert isinstance(body, SignEpoch) and (body.epoch, body.round) == (1, 1)
    assert settling.poll(10_000 + REPEAT_AFTER_MS - 1) == []
    assert len(settling.poll(10_000 + REPEAT_AFTER_MS)) == 1
    assert world.ordered(*requests)[0].accepted
    assert settling.poll(20_000) == [] and settling.worked() == []


def test_an_account_without_a_seat_signs_nothing(world: World) -> None:
    signer = signer_of(world, key("stranger"))
    duty = SettleEpochs(lambda: world.ledger, signer, Wallet, HeldQueue())
    assert duty.poll(10_000) == []


def test_a_signed_settlement_is_sent_by_one_aggregator_after_the_other(world: World) -> None:
    world.sign_epoch()
    settlement, n = pending(world), len(world.aggregators)
    state = world.ledger.state
    assert state.pending is not None
    for index in range(n):
        place = (index - settlement.epoch - settlement.round) % n
        settling = Settling(world, index)
        settling.poll(10_000)
        if place:
            assert settling.worked() == []
            settling.poll(10_000 + place * PATIENCE_MS - 1)
            assert settling.worked() == []
            settling.poll(10_000 + place * PATIENCE_MS)
        [(kind, sent, order_ids, signers)] = settling.worked()
        assert (kind, sent, order_ids) == ("settle", settlement, tuple(state.pending.order_ids))
        assert len(signers) == state.signing_quorum and signers <= {each.address for each in world.aggregators}
        settling.poll(10_001 + n * PATIENCE_MS)
        assert settling.worked() == [], "sent once for each round"


def test_below_the_quorum_nothing_is_sent(world: World) -> None:
    world.sign_epoch(world.ledger.state.signing_quorum - 1)
    for index in range(4):
        settling = Settling(world, index)
        settling.poll(10_000)
        settling.poll(10_000 + 10 * PATIENCE_MS)
        assert settling.worked() == []


def test_a_new_round_of_the_same_epoch_is_signed_and_sent_anew(world: World) -> None:
    world.sign_epoch()
    settlement = pending(world)
    first = Settling(world, (settlement.epoch + settlement.round) % 4)
    first.poll(10_000)
    assert len(first.worked()) == 1
    world.wait(world.parameters.settlement_timeout_ms)
    assert pending(world).round == 2
    assert len(first.poll(10_001)) == 1, "another round is another thing to sign"
    world.sign_epoch()
    first.poll(10_002)
    first.poll(10_002 + 3 * PATIENCE_MS)
    [(_, sent, _, _)] = first.worked()
    assert sent == pending(world)


def test_a_sending_that_fails_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.sign_epoch()
    settling = Settling(world, 2)
    settling.wallet.error = ChainUnreachable("no node")
    settling.poll(10_000)
    assert len(settling.worked()) == 1 and "epoch_not_sent epoch=1" in caplog.text


@pytest.mark.parametrize("name", ["UnknownOrder", "Insolvent"])
def test_an_epoch_that_the_contract_refuses_is_told_with_the_orders_it_lacks(
    world: World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    world.sign_epoch()
    settling = Settling(world, 2)
    settling.wallet.error = ChainReverted(name)
    settling.poll(10_000)
    state = world.ledger.state
    assert state.pending is not None
    assert [call[0] for call in settling.worked()] == ["settle", "missing_escrows"]
    assert f"event=epoch_refused epoch=1 round=1 reason='the contract refused the call with {name}" in caplog.text
    assert f"missing_escrows={state.pending.order_ids[0].hex()}" in caplog.text
    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_an_epoch_that_another_sent_first_is_no_refused_one(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.sign_epoch()
    settling = Settling(world, 2)
    settling.wallet.error = ChainReverted("WrongEpoch", (1, 2))
    settling.poll(10_000)
    assert [call[0] for call in settling.worked()] == ["settle"]
    assert "epoch_not_sent" in caplog.text and "epoch_refused" not in caplog.text


def decode_account(world: World, address: bytes) -> views.AccountView:
    raw = query(world.ledger, "account", encode(views.AccountQuery(address)))
    return decode(raw, views.AccountView, limit_bytes=1 << 20)


def slashed_world() -> World:
    """A world whose confirmed epoch pays an aggregator and takes from a provider's stake."""
    world = new_world()
    order_id, _ = world.start(nonce=50)
    assert world.claim(order_id, key("provider 0"), "model 0").accepted
    world.wait_for(order_id, Window.VOID)
    finish_due(world)
    world.sign_epoch()
    world.settle()
    bring_to(world, Window.FINALIZATION)
    finish_due(world)
    world.sign_epoch()
    world.settle()
    return world


def test_after_a_confirmation_f_plus_1_aggregators_apply_the_slashes_and_each_claims_once() -> None:
    world = slashed_world()
    epoch, slashes = world.ledger.state.confirmed.epoch, confirmed_slashes(world.ledger)
    assert slashes
    applied = []
    for index, aggregator in enumerate(world.aggregators):
        settling = Settling(world, index)
        settling.poll(10_000)
        calls = settling.worked()
        kinds = [call[0] for call in calls]
        own = decode_account(world, aggregator.address)
        assert kinds.count("claim") == (own.claimable_cumulative_grains > 0)
        if kinds.count("claim"):
            assert calls[0] == ("claim", aggregator.address, own.claimable_cumulative_grains, own.claim_proof)
        taken = [call for call in calls if call[0] == "apply_slash"]
        if taken:
            applied.append((index - epoch) % 4)
            assert taken == [
                ("apply_slash", each.node, each.role, each.cumulative_grains, each.to, each.proof) for each in slashes
            ]
        settling.poll(20_000)
        assert settling.worked() == [], "once for each epoch"
    assert sorted(applied) == list(range(world.ledger.book.faulty + 1))


def test_what_the_chain_refuses_after_a_confirmation_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world = slashed_world()
    settling = Settling(world, world.ledger.state.confirmed.epoch % 4)
    settling.wallet.error = ChainUnreachable("no node")
    settling.poll(10_000)
    calls = settling.worked()
    slashes = len(confirmed_slashes(world.ledger))
    assert [call[0] for call in calls].count("apply_slash") == slashes
    assert caplog.text.count("slash_not_applied") == slashes
    assert caplog.text.count("not_claimed") == [call[0] for call in calls].count("claim")


def test_claims_and_slashes_are_sent_again_until_a_chain_that_was_away_takes_them() -> None:
    world = slashed_world()
    settling = Settling(world, world.ledger.state.confirmed.epoch % 4)
    settling.wallet.error = ChainUnreachable("no node")
    settling.poll(10_000)
    first = settling.worked()
    settling.poll(10_001)
    settling.poll(10_001 + CHAIN_RETRY_MS - 1)
    assert first and settling.worked() == []
    settling.wallet.error = ChainReverted("NothingToClaim")
    settling.poll(10_001 + CHAIN_RETRY_MS)
    assert settling.worked() == first
    settling.poll(10_002 + CHAIN_RETRY_MS)
    settling.poll(10_002 + 3 * CHAIN_RETRY_MS)
    assert settling.worked() == [], "what the contract refuses is not sent again"
