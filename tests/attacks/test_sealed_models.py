"""Seeing models without paying for them, reading one early, or stopping others by what does not open; each against the
rule, and with the rule switched off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from pot_lab.agreement.quorum import correct, faulty
from pot_lab.crypto.canonical import sha256, tagged_hash
from pot_lab.crypto.sealed_model import KeyBoxes
from pot_lab.crypto.shamir import combine, split
from pot_lab.network.duties import model_keys
from pot_lab.network.duties.model_keys import ModelKeys
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.orders import opening, windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import OrderId, opening_name
from pot_lab.protocol.state import OrderState
from pot_lab.protocol.transactions import AttestBoxes, HeldBox, ReleaseShare, Verdict
from tests.protocol import world as worlds
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT, World, deterministic_bytes, key, link, salt

MALLORY = key("mallory")
OWN, RIVAL = PROVIDERS


def revealed(world: World) -> bytes:
    """An order whose reveals are over."""
    return bring_to(world, Window.RELEASE)


def opened_models(world: World, order_id: bytes) -> int:
    """How many models anybody can read."""
    claims = world.order(order_id).claims.values()
    return sum(bool(claim.sealed is not None and claim.sealed.key) for claim in claims)


def stake_of(world: World, provider: object) -> tuple[int, int]:
    """What a provider was slashed, and what it has locked."""
    stake = world.ledger.book.stake(provider.address, Role.PROVIDER)  # type: ignore[attr-defined]
    return stake.slashed, stake.locked


# --- a client that breaks off --------------------------------------------------------------------------------------
def broken_off(world: World) -> tuple[OrderState, int]:
    """The client's test data are not what its order names: the order, and how many models are open to it."""
    order_id = revealed(world)
    world.release(order_id, count=3)
    for place, holder in world.holders(order_id).items():  # all that can be had before the verdict
        world.submit(holder, world.model_shares(order_id, place))
    world.judge(order_id, right=False)
    for place, holder in world.holders(order_id).items():
        world.submit(holder, world.model_shares(order_id, place))
    return world.order(order_id), opened_models(world, order_id)


def test_a_client_with_wrong_test_data_sees_no_model_and_pays() -> None:
    world = new_world()
    order, seen = broken_off(world)
    assert order.void_reason is VoidReason.INVALID_TEST_DATA and seen == 0
    paid = {(each.account, each.reason): each.grains for each in order.payouts}
    assert paid == {
        (world.client.address, "reward back"): 25 * POT,
        **{(each.address, "client's bond"): POT for each in PROVIDERS},
        (world.parameters.treasury, "client's forfeit"): POT,
    }
    assert all(stake_of(world, each) == (0, 0) for each in PROVIDERS)


def test_were_models_opened_before_the_verdict_it_would_have_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "models_may_open", lambda order: True)
    order, seen = broken_off(new_world())
    assert order.void_reason is VoidReason.INVALID_TEST_DATA and seen == 2


def test_one_aggregator_calls_no_test_data_wrong_and_none_right() -> None:
    world = new_world()
    order_id = revealed(world)
    world.release(order_id, count=3)
    name = opening_name(world.network_id, order_id)
    world.must(world.aggregators[0], Verdict(order_id, name, False))
    assert world.submit(world.aggregators[0], Verdict(order_id, name, False)).code == "AlreadyDone"
    assert world.order(order_id).test_right is None
    for aggregator in world.aggregators[1:3]:
        world.must(aggregator, Verdict(order_id, name, True))
    assert world.order(order_id).test_right is True


def test_a_verdict_of_one_order_or_of_one_model_counts_for_no_other() -> None:
    world = new_world()
    first, second = revealed(world), revealed(world)
    world.release(second, count=3)
    name = opening_name(world.network_id, first)
    assert world.submit(world.aggregators[0], Verdict(second, name, False)).code == "UnknownDispute"
    mid = opening_name(world.network_id, second, world.mid(second, MODELS[0]))
    assert world.submit(world.aggregators[0], Verdict(second, mid, False)).code == "UnknownDispute"


# --- reading early -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("aggregators", [4, 7])
def test_fewer_than_n_minus_f_aggregators_read_no_model(aggregators: int) -> None:
    world = new_world(aggregators=aggregators)
    order_id = revealed(world)
    shares, secret = world.sealed(order_id, OWN, MODELS[0]).shares, sha256(MODELS[0].encode())
    enough = correct(aggregators)
    assert combine(shares[:enough]) == secret
    assert combine(shares[: enough - 1]) != secret
    world.release(order_id, count=enough)
    world.judge(order_id)
    for place, holder in list(world.holders(order_id).items())[: enough - 1]:
        world.must(holder, world.model_shares(order_id, place))
    assert opened_models(world, order_id) == 0
    world.must(world.holders(order_id)[enough - 1], world.model_shares(order_id, enough - 1))
    assert opened_models(world, order_id) == 2


def test_were_f_plus_1_enough_two_friends_would_read_it() -> None:
    secret = sha256(b"model key")
    assert combine(split(secret, faulty(4) + 1, 4, deterministic_bytes("x"))[:2]) == secret
    assert combine(split(secret, correct(4), 4, deterministic_bytes("x"))[:2]) != secret


def said_by_duties(world: World) -> list[str]:
    """Each aggregator's real duty does its work once; what the ledger answers."""
    codes = []
    for identity, sealing in zip(world.aggregators, world.sealing, strict=True):
        signer = TransactionSigner(world.network_id, identity)
        for request in ModelKeys(lambda: world.ledger, signer, [sealing]).poll(world.now_ms):
            codes.append(world.ordered(request)[0].code)
    return codes


def stolen(world: World) -> int:
    """Mallory copies what a victim revealed into a claim on another order, so that the aggregators open it for her
    there: how many models they open.
    """
    world.stake(MALLORY, Role.PROVIDER)
    victim = bring_to(world, Window.REVEAL)
    shown = world.order(victim).claims[RIVAL.address].sealed
    assert shown is not None and shown.boxes is not None
    other = bring_to(world, Window.COMMIT, claimed=False)
    copied = worlds.SealedModel(bytes(32), shown.ciphertext, shown.boxes, [], salt("mallory"))
    world.must(MALLORY, world.claim_of(other, MALLORY, copied))
    world.wait_for(other, Window.REVEAL)
    world.keeps = False
    world.must(MALLORY, world.reveal_of(other, copied))
    blobs = [each.blob for each in world.ledger.book.custody.of_order(other)]
    for aggregator in world.aggregators[:2]:
        world.submit(aggregator, worlds.AttestBlobs(tuple(blobs)))
    said_by_duties(world)
    world.nonces = dict.fromkeys((each.address for each in world.aggregators), 1 << 62)
    if world.order(other).window is not Window.RELEASE:
        world.wait_for(other, Window.VOID)
        return 0
    world.release(other, count=3)
    world.judge(other)
    binding = worlds.model_binding(world.network_id, other, MALLORY.address, shown.ciphertext.digest)
    for place, sealing in enumerate(world.sealing[:3]):
        holder = world.aggregators[place]
        share = worlds.open_model_share(
            shown.boxes.boxes[place], sealing, binding=binding, holder=holder.address, place=place
        )
        item = worlds.ModelShare(MALLORY.address, share)
        world.must(holder, worlds.ReleaseModelShares(other, (item,)))
    return opened_models(world, other)


def test_a_copied_ciphertext_with_its_boxes_opens_for_nobody_else_and_costs_a_bond() -> None:
    world = new_world()
    assert stolen(world) == 0
    assert stake_of(world, MALLORY) == (POT, 0)


def test_were_boxes_not_bound_to_account_and_order_they_would_be_opened_for_her(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unbound(network_id: bytes, order_id: bytes, provider: bytes, ciphertext_digest: bytes) -> bytes:
        return tagged_hash("unbound", network_id, ciphertext_digest)

    for module in (model_keys, opening, worlds):
        monkeypatch.setattr(module, "model_binding", unbound)
    assert stolen(new_world()) == 1


# --- what does not open --------------------------------------------------------------------------------------------
def with_junk(world: World) -> tuple[bytes, OrderState]:
    """A provider's ciphertext opens to something else than its claim says; the other's is right."""
    order_id = revealed(world)
    world.release(order_id, count=3)
    world.judge(order_id)
    world.open_models(order_id)
    world.judge(order_id, world.mid(order_id, MODELS[0]), right=False)
    if world.order(order_id).window is Window.RELEASE:
        world.judge(order_id, world.mid(order_id, MODELS[1]))
    return order_id, world.order(order_id)


def test_a_ciphertext_that_is_not_the_claimed_model_costs_its_bond_and_stalls_nobody() -> None:
    world = new_world()
    order_id, order = with_junk(world)
    assert order.window is Window.SCORE and not order.released_twice and list(order.claims) == [RIVAL.address]
    assert stake_of(world, OWN) == (POT, 0) and stake_of(world, RIVAL) == (0, POT)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, {MODELS[1]: SCORES[MODELS[1]]}).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.order(order_id).winner == RIVAL.address


def test_were_it_not_dropped_validators_would_have_to_score_what_nobody_can_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "forfeit", lambda *claim: None)
    monkeypatch.setattr(windows, "_is_proven", lambda claim: claim.sealed.right is not None)
    world = new_world()
    _, order = with_junk(world)
    assert order.window is Window.SCORE and len(order.claims) == 2 and stake_of(world, OWN) == (0, POT)


def test_shares_that_give_another_key_cost_the_bond_of_who_sealed_them() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    made = world.sealed(order_id, OWN, MODELS[0])
    false = made._replace(boxes=KeyBoxes(sha256(b"another key"), made.boxes.boxes))
    world.must(OWN, world.claim_of(order_id, OWN, false))
    assert world.claim(order_id, RIVAL, MODELS[1]).accepted
    world.wait_for(order_id, Window.REVEAL)
    world.must(OWN, world.reveal_of(order_id, false))
    assert world.reveal(order_id, RIVAL, MODELS[1]).accepted
    world.release(order_id)
    assert world.order(order_id).window is Window.SCORE
    assert stake_of(world, OWN) == (POT, 0) and list(world.order(order_id).claims) == [RIVAL.address]


# --- silence -------------------------------------------------------------------------------------------------------
def with_silent(world: World, silent: int) -> OrderState:
    """So many aggregators say nothing from the reveals on."""
    order_id = bring_to(world, Window.REVEAL)
    world.aggregators = world.aggregators[silent:]
    assert world.reveal(order_id, OWN, MODELS[0]).accepted
    world.wait_for(order_id, Window.RELEASE)
    for aggregator in world.aggregators:
        if not world.order(order_id).test_key:
            place = next(place for place, each in world.holders(order_id).items() if each is aggregator)
            world.must(aggregator, ReleaseShare(order_id, world.shares[order_id][place]))
    world.judge(order_id)
    for place, holder in world.holders(order_id).items():
        if (shares := world.model_shares(order_id, place)).items:
            world.must(holder, shares)
    for claim in list(world.order(order_id).claims.values()):
        if claim.sealed is not None and claim.sealed.key:
            world.judge(order_id, claim.mid)
    return world.order(order_id)


@pytest.mark.parametrize("aggregators", [4, 7, 10])
def test_f_silent_aggregators_stop_nothing(aggregators: int) -> None:
    order = with_silent(new_world(aggregators=aggregators), faulty(aggregators))
    assert order.window is Window.SCORE and len(order.claims) == 2 and not order.released_twice


def test_were_all_shares_needed_one_silent_aggregator_would_stop_every_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "correct", lambda holders: holders)
    world = new_world()
    order = with_silent(world, 1)
    assert order.window is Window.RELEASE
    world.wait_for(order.order.id, Window.VOID)
    assert order.void_reason is VoidReason.NOT_JUDGED


def test_more_than_f_silent_judges_of_models_void_the_order_and_nobody_pays() -> None:
    world = new_world()
    order_id = revealed(world)
    world.release(order_id, count=3)
    world.judge(order_id)
    world.open_models(order_id)
    world.wait_for(order_id, Window.VOID)
    order = world.order(order_id)
    assert order.void_reason is VoidReason.NOT_JUDGED and order.released_twice
    assert {(each.account, each.reason) for each in order.payouts} == {
        (world.client.address, reason) for reason in ("reward back", "bond back", "fee back")
    }
    assert all(stake_of(world, each) == (0, 0) for each in PROVIDERS)


def with_accomplice(world: World) -> tuple[bytes, Sequence[bytes]]:
    """A provider whose box for an honest aggregator is empty, and whose friend among them attests its own and then
    keeps its share back: the order, and its seats.
    """
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.claim(order_id, provider, model).accepted
    world.wait_for(order_id, Window.REVEAL)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.reveal(order_id, provider, model).accepted
    world.release(order_id, count=3)
    world.judge(order_id)
    items = {place: world.model_shares(order_id, place) for place in range(3)}
    friend = items[2].items
    items[2] = structs.replace(items[2], items=tuple(each for each in friend if each.provider != OWN.address))
    for place, body in items.items():
        world.must(world.aggregators[place], body)
    world.judge(order_id, world.mid(order_id, MODELS[1]))
    world.wait_for(order_id, Window.SCORE)
    return order_id, world.order(order_id).seats[0]


def test_a_model_that_is_kept_back_by_a_friend_is_left_out_and_chooses_no_other_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a model opens is known after key and beacon are: were the draw to follow, its provider could choose."""
    world = new_world()
    order_id, seats = with_accomplice(world)
    order = world.order(order_id)
    assert list(order.claims) == [RIVAL.address] and order.released_twice and stake_of(world, OWN) == (0, 0)
    assert [note.what for note in order.notes] == ["not opened and judged in time"]

    def follows(order_id: OrderId, order: OrderState) -> bytes:
        salts = [claim.salt for claim in order.revealed()]
        return windows.draw_seed(order_id, salts, order.test_key, order.beacon)

    monkeypatch.setattr(windows, "_seed", follows)
    assert with_accomplice(new_world())[1] != seats


def test_who_does_not_hold_the_orders_keys_attests_no_box() -> None:
    world = new_world()
    order_id = bring_to(world, Window.REVEAL)
    for who in (MALLORY, OWN, VALIDATORS[0], world.client):
        assert world.submit(who, AttestBoxes(order_id, (HeldBox(RIVAL.address),))).code == "NotAllowed"


def test_a_model_without_enough_attested_boxes_costs_its_bond() -> None:
    world = new_world()
    order_id = bring_to(world, Window.REVEAL)
    world.keeps = False
    assert world.reveal(order_id, OWN, MODELS[0]).accepted
    blob = next(each.blob for each in world.ledger.book.custody.of_order(order_id) if each.link == link(MODELS[0]))
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, worlds.AttestBlobs((blob,)))
        world.must(aggregator, AttestBoxes(order_id, (HeldBox(OWN.address),)))
    assert world.order(order_id).window is Window.REVEAL
    world.wait_for(order_id, Window.RELEASE)
    assert stake_of(world, OWN) == (POT, 0) and list(world.order(order_id).claims) == [RIVAL.address]
    assert world.order(order_id).notes[0].what == "key boxes not attested"
