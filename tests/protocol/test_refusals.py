"""Every refusal has a name, can be reached, and changes nothing but the nonce of whom it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.votes import SignedVote
from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.merkle import SumNode
from pot_lab.crypto.sealed_model import KeyBox
from pot_lab.crypto.shamir import Share
from pot_lab.protocol import errors
from pot_lab.protocol.contact import Contact, possession_digest
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import Refused
from pot_lab.protocol.orders import transactions as orders
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.proposals import change
from pot_lab.protocol.records import HeldBlob, ScoreSpec
from pot_lab.protocol.transactions import (
    Accuse,
    Attest,
    AttestBlobs,
    Claim,
    CommitScores,
    HeldBox,
    Leave,
    ModelShare,
    OpenScores,
    Propose,
    ProposeVersion,
    Put,
    Register,
    ReleaseKey,
    ReleaseModelShares,
    ReleaseShare,
    Reply,
    RevealModel,
    RotateKeys,
    ScoreCommitment,
    SignEpoch,
    SignOwnerAct,
    SignRotation,
    Unregister,
    Vote,
    Withdraw,
    sign,
)
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world, speech
from tests.protocol.world import POT, WINDOWS, World, key, link, salt, state_in

H = b"\x02" * 32
STRANGER = key("stranger")
Scene = Callable[[World], tuple[Identity, Record]]


def opened_by_first(world: World, **changes: object) -> OpenScores:
    order_id = bring_to(world, Window.OPEN_SCORES)
    items = [world.opened(order_id, VALIDATORS[0], model, total) for model, total in SCORES.items()]
    return OpenScores(order_id, (structs.replace(items[0], **changes), items[1]))


def changed(world: World, window: Window, kind: str, **changes: object) -> tuple[Identity, Record]:
    who, body = speech(world, bring_to(world, window, claimed=False), kind)
    return who, structs.replace(body, **changes)


def by(who: Identity, world: World, window: Window, kind: str) -> tuple[Identity, Record]:
    return who, speech(world, bring_to(world, window, claimed=False), kind)[1]


def again(world: World, window: Window, kind: str) -> tuple[Identity, Record]:
    said = speech(world, bring_to(world, window), kind)
    assert world.submit(*said).accepted
    return said


def revealed_again(world: World) -> tuple[Identity, Record]:
    order_id = bring_to(world, Window.REVEAL)
    return PROVIDERS[1], world.reveal_of(order_id, world.sealed(order_id, PROVIDERS[1], MODELS[1]))


def boxes_of(world: World, **changes: object) -> tuple[Identity, Record]:
    """A reveal whose key boxes differ from those of the claim."""
    who, body = speech(world, bring_to(world, Window.REVEAL, claimed=False), "reveal_model")
    assert isinstance(body, RevealModel)
    return who, structs.replace(body, boxes=structs.replace(body.boxes, **changes))


def shown_early(world: World) -> tuple[Identity, Record]:
    """A share of a model's key before the test data are proven."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id, count=3)
    return world.aggregators[0], world.model_shares(order_id, 0)


def another_share(world: World) -> tuple[Identity, Record]:
    """A share of one model's key under the name of the other."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id, count=3)
    world.judge(order_id)
    share = world.sealed(order_id, PROVIDERS[1], MODELS[1]).shares[0]
    return world.aggregators[0], ReleaseModelShares(order_id, (ModelShare(PROVIDERS[0].address, share),))


def names_twice(world: World, window: Window, kind: str) -> tuple[Identity, Record]:
    who, body = speech(world, bring_to(world, window), kind)
    assert isinstance(body, CommitScores | OpenScores)
    return who, structs.replace(body, items=(*body.items, body.items[0]))


def scene_too_many_live(world: World) -> tuple[Identity, Record]:
    for nonce in range(world.parameters.max_live_orders_per_account):
        world.must(world.client, Put(world.new_order(nonce=nonce)))
    return world.client, Put(world.new_order(nonce=999))


def scene_pool_full(world: World) -> tuple[Identity, Record]:
    for nonce in range(3):
        world.must(key(f"c{nonce}"), Put(world.new_order(client=key(f"c{nonce}").address, nonce=nonce)))
    return world.client, Put(world.new_order())


def scene_too_many_claims(world: World) -> tuple[Identity, Record]:
    order_id = bring_to(world, Window.COMMIT)
    world.must(PROVIDERS[0], Claim(order_id, H))
    world.stake(key("third"), Role.PROVIDER)
    return key("third"), Claim(order_id, H)


def scene_challenged_too_often(world: World) -> tuple[Identity, Record]:
    order_id = bring_to(world, Window.CHALLENGE)
    for index in range(8):
        world.must(PROVIDERS[0], world.challenge(order_id, PROVIDERS[0], VALIDATORS[1], MODELS[1], index))
    return PROVIDERS[0], world.challenge(order_id, PROVIDERS[0], VALIDATORS[1], MODELS[1], 8)


def scene_header(world: World) -> tuple[Identity, Record]:
    order = world.order(bring_to(world, Window.SETTLED)).order
    world.wait(world.parameters.retention_ms + 1)
    assert order.id in world.ledger.state.headers
    return world.client, Put(order)


def scene_claimed_twice(world: World) -> tuple[Identity, Record]:
    provider = key("poor")
    world.stake(provider, Role.PROVIDER, 10 * POT)
    large = {"reward_grains": 80 * POT, "claim_bond_grains": 4 * POT}
    for _ in range(2):
        order_id, _ = world.start(**large)
        world.must(provider, Claim(order_id, H))
    other, _ = world.start(**large)
    return provider, Claim(other, H)


def scene_unassigned(world: World) -> tuple[Identity, Record]:
    late = key("late validator")
    order_id = bring_to(world, Window.SCORE)
    world.stake(late, Role.VALIDATOR)
    return late, speech(world, order_id, "commit_scores")[1]


def short_seal(world: World) -> tuple[Identity, Record]:
    p, order = world.parameters, world.new_order()
    needed = order.windows.longest_ms + p.pool_ms + p.update_ms + p.settlement_timeout_ms + p.seal_margin_ms
    fits = structs.replace(order, seal_by_s=-(-(world.now_ms + needed) // 1000), nonce=70)
    world.must(world.client, Put(fits))
    return world.client, Put(structs.replace(fits, seal_by_s=fits.seal_by_s - 1, nonce=71))


def rotation(world: World, name: str) -> RotateKeys:
    contact = Contact(host="127.0.0.1", peer_port=1, client_port=2, custody_port=3, curve_public="0" * 40)
    sealing = bytes(32)
    digest = possession_digest(world.network_id, world.aggregators[0].address, contact, sealing)
    return RotateKeys(
        voting_key=key(name).address, sealing_public=sealing, contact=contact, possession=key(name).sign(digest)
    )


def scene_proposed_twice(w: World) -> tuple[Identity, Record]:
    body = Propose(0, (change("update_ms", 2_000),))
    w.must(PROVIDERS[0], body)
    return PROVIDERS[0], body


def scene_keys_twice(world: World) -> tuple[Identity, Record]:
    world.must(world.aggregators[0], rotation(world, "first"))
    return world.aggregators[0], rotation(world, "second")


def scene_nothing_to_accuse_of(world: World) -> tuple[Identity, Record]:
    vote = SignedVote(3, 0, 1, H, 0, H, bytes(65))
    return STRANGER, Accuse(encode(Equivocation(vote, vote)))


SCENES: list[tuple[str, Scene]] = [
    ("WrongNetwork", lambda w: (w.client, Put(w.new_order(network_id=H)))),
    ("StaleNonce", lambda w: (w.client, Put(w.new_order()))),  # replayed by the test
    ("NotAllowed", lambda w: (STRANGER, Put(w.new_order()))),
    ("NotAllowed", lambda w: (STRANGER, Withdraw(bring_to(w, Window.WAITING)))),
    ("NotAllowed", lambda w: by(STRANGER, w, Window.COMMIT, "claim")),
    ("NotAllowed", lambda w: by(VALIDATORS[0], w, Window.COMMIT, "claim")),
    ("NotAllowed", lambda w: by(STRANGER, w, Window.RELEASE, "release_share")),
    ("NotAllowed", lambda w: by(STRANGER, w, Window.RELEASE, "release_key")),
    ("NotAllowed", lambda w: (STRANGER, Attest(0, ()))),
    ("NotAllowed", lambda w: (STRANGER, SignEpoch(1, 1, bytes(65)))),
    ("NotAllowed", lambda w: (STRANGER, SignRotation(2, bytes(65)))),
    ("NotAllowed", lambda w: (w.aggregators[0], Register(3))),
    ("NotAllowed", lambda w: (STRANGER, Unregister(0))),
    ("NotAllowed", lambda w: (w.aggregators[0], Unregister(3))),
    ("Malformed", lambda w: (STRANGER, Register(4))),
    ("Malformed", lambda w: (STRANGER, Unregister(-1))),
    ("UnknownOrder", lambda w: (PROVIDERS[0], Claim(H, H))),
    ("UnknownOrder", lambda w: (w.client, Withdraw(H))),
    ("UnknownBlob", lambda w: (w.aggregators[0], AttestBlobs((HeldBlob(H, 1),)))),
    ("UnknownDispute", lambda w: by(w.aggregators[0], w, Window.CHALLENGE, "verdict")),
    ("TooManyChallenges", scene_challenged_too_often),
    ("OrderExists", lambda w: (w.client, Put(w.order(bring_to(w, Window.WAITING)).order))),
    ("OrderExists", lambda w: (w.client, Put(w.order(bring_to(w, Window.COMMIT)).order))),
    ("OrderExists", scene_header),
    ("TooManyOrders", scene_too_many_live),
    ("PoolFull", scene_pool_full),
    ("TooManyOrders", scene_too_many_claims),
    ("BadOrder", lambda w: (w.client, Put(w.new_order(title="x" * 121)))),
    ("BadWindows", lambda w: (w.client, Put(w.new_order(windows=structs.replace(WINDOWS, train_ms=1))))),
    ("BadWindows", short_seal),
    ("UnknownScoreFunction", lambda w: (w.client, Put(w.new_order(score=ScoreSpec("x", 1))))),
    ("RewardTooSmall", lambda w: (w.client, Put(w.new_order(reward_grains=1)))),
    ("TooEarly", lambda w: by(PROVIDERS[0], w, Window.COMMIT, "reveal_model")),
    ("TooLate", lambda w: by(PROVIDERS[0], w, Window.REVEAL, "claim")),
    ("TooLate", lambda w: (w.client, Withdraw(bring_to(w, Window.COMMIT)))),
    ("UnknownClaim", lambda w: by(VALIDATORS[1], w, Window.REVEAL, "reveal_model")),
    ("UnknownClaim", lambda w: changed(w, Window.SCORE, "commit_scores", items=(ScoreCommitment(H, H),))),
    ("UnknownClaim", lambda w: by(PROVIDERS[0], w, Window.OPEN_SCORES, "open_scores")),
    ("BadCommitment", lambda w: changed(w, Window.REVEAL, "reveal_model", salt=H)),
    ("BadCommitment", lambda w: changed(w, Window.REVEAL, "reveal_model", mid=H)),
    ("BadCommitment", lambda w: changed(w, Window.REVEAL, "reveal_model", ciphertext=link("others"))),
    ("BadCommitment", lambda w: boxes_of(w, key_commitment=H)),
    ("Malformed", lambda w: boxes_of(w, key_commitment=b"")),
    ("Malformed", lambda w: boxes_of(w, boxes=(KeyBox(H, b""),))),
    ("NotAllowed", lambda w: by(STRANGER, w, Window.REVEAL, "attest_boxes")),
    ("NotAllowed", lambda w: by(STRANGER, w, Window.RELEASE, "release_model_shares")),
    ("NotAllowed", lambda w: by(STRANGER, w, Window.RELEASE, "verdict")),
    ("AlreadyDone", lambda w: again(w, Window.REVEAL, "attest_boxes")),
    ("AlreadyDone", lambda w: changed(w, Window.REVEAL, "attest_boxes", items=(HeldBox(STRANGER.address),))),
    ("AlreadyDone", lambda w: again(w, Window.RELEASE, "release_model_shares")),
    ("AlreadyDone", lambda w: again(w, Window.RELEASE, "verdict")),
    ("UnknownDispute", lambda w: changed(w, Window.RELEASE, "verdict", dispute=H)),
    ("TooEarly", shown_early),
    ("BadShare", another_share),
    ("BadShare", lambda w: by(w.aggregators[1], w, Window.RELEASE, "release_model_shares")),
    ("BadCommitment", lambda w: changed(w, Window.RELEASE, "release_key", key=H)),
    *(
        ("BadCommitment", lambda w, change=change: (VALIDATORS[0], opened_by_first(w, **change)))
        for change in (
            {"salt": H},
            {"transcript_root": H},
            {"top": SumNode(H, 80)},
            {"top": SumNode(H[:-1], 80)},
            {"top": SumNode(H, 1 << 62)},
        )
    ),
    ("AlreadyDone", revealed_again),
    ("AlreadyDone", lambda w: by(VALIDATORS[1], w, Window.SCORE, "commit_scores")),
    ("AlreadyDone", lambda w: by(VALIDATORS[1], w, Window.OPEN_SCORES, "open_scores")),
    ("AlreadyDone", lambda w: names_twice(w, Window.SCORE, "commit_scores")),
    ("AlreadyDone", lambda w: names_twice(w, Window.OPEN_SCORES, "open_scores")),
    ("AlreadyDone", lambda w: again(w, Window.RELEASE, "release_share")),
    ("AlreadyDone", lambda w: (PROVIDERS[0], Register(0))),
    ("InsufficientStake", lambda w: (STRANGER, Register(0))),
    ("InsufficientStake", scene_claimed_twice),
    ("NotAssigned", scene_unassigned),
    ("BadShare", lambda w: changed(w, Window.RELEASE, "release_share", share=Share(1, H))),
    ("BadShare", lambda w: changed(w, Window.RELEASE, "release_share", share=Share(1, b""))),
    ("BadShare", lambda w: by(w.aggregators[1], w, Window.RELEASE, "release_share")),
    ("BadSeat", lambda w: (w.aggregators[0], Leave())),
    ("ChangePending", scene_keys_twice),
    ("BadEvidence", scene_nothing_to_accuse_of),
    ("BadEpoch", lambda w: (w.aggregators[0], SignEpoch(1, 1, bytes(65)))),
    ("BadRotation", lambda w: (w.aggregators[0], SignRotation(2, bytes(65)))),
    ("BadProposal", lambda w: (PROVIDERS[0], Vote(1, True))),
    ("NotAllowed", lambda w: (STRANGER, SignOwnerAct(proposal=1, number=1, digest=H, signature=bytes(65)))),
    ("BadProposal", lambda w: (w.aggregators[0], SignOwnerAct(proposal=1, number=1, digest=H, signature=bytes(65)))),
    ("BadProposal", lambda w: (PROVIDERS[0], Propose(0, (change("gravity", 1),)))),
    ("BadProposal", lambda w: (PROVIDERS[0], ProposeVersion(0, 3, "pot-lab 9"))),
    ("TooManyProposals", scene_proposed_twice),
]  # fmt: skip

NOT_IN_REPLIES = {"UnknownKind", "UnprocessableTransaction"}
"""Of kinds that no version knows (test_versions), or by no rule at all (attacks/test_handler_faults)."""


def frozen(world: World, address: bytes) -> bytes:
    """The state without what every batch and every transaction of this account may change."""
    state = state_in(world.ledger.snapshot())
    state.sequence, state.digest = 0, b""
    if address in state.accounts:
        state.accounts[address].nonce = 0
    return encode(state)


@pytest.mark.parametrize(("code", "scene"), SCENES, ids=[f"{i}-{code}" for i, (code, _) in enumerate(SCENES)])
def test_a_refusal_names_its_rule_and_changes_nothing(code: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world()
    if scene is scene_pool_full:
        monkeypatch.setattr(orders, "MAX_UNFUNDED_ORDERS", 3)
    if scene is scene_too_many_claims:
        world = new_world(structs.replace(Parameters(), update_ms=1_000, max_claims_per_order=2))
    who, body = scene(world)
    if code == "StaleNonce":
        world.must(who, body)
        world.nonces[who.address] -= 1
    if isinstance(body, Attest):
        from tests.protocol.test_chain_events import staked

        body = Attest(0, (staked(),))
    world.batch()
    events, before = len(world.events), frozen(world, who.address)
    known = who.address in world.ledger.state.accounts
    reply = world.submit(who, body)
    assert (reply.accepted, reply.code) == (False, code)
    assert reply.message and not reply.message.endswith(".")
    assert frozen(world, who.address) == before and len(world.events) == events
    if known:
        assert world.ledger.state.accounts[who.address].nonce == world.nonces[who.address]
    assert world.replayed().snapshot() == world.ledger.snapshot()


def test_every_named_refusal_is_reached() -> None:
    named = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Refused) and value is not Refused
    }
    assert named - NOT_IN_REPLIES == {code for code, _ in SCENES} - {"Malformed", "UnknownScoreFunction"}


def test_a_reply_raises_the_same_rule_again_at_the_client() -> None:
    world = World()
    reply = world.submit(STRANGER, Register(0))
    assert decode(encode(reply), Reply, limit_bytes=10_000) == reply
    assert reply.code == errors.InsufficientStake.__name__
    assert (reply.seen, reply.wanted) == ("0 grains", f"at least {10 * POT} grains")


# --- nonces --------------------------------------------------------------------------------------------------------
def test_a_nonce_is_spent_by_what_is_refused_too() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    refused = world.signed(PROVIDERS[0], Claim(H, H))
    accepted = world.signed(PROVIDERS[0], Claim(order_id, H))
    assert [reply.code for reply in world.ordered(refused, accepted, refused, accepted)] == [
        "UnknownOrder", "", "StaleNonce", "StaleNonce",
    ]  # fmt: skip


def test_nonces_may_leave_gaps_and_never_go_back() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    codes = []
    for nonce in (100, 99, 100, 101, (1 << 63) - 1, 102):
        request = sign(world.network_id, Claim(order_id, bytes([nonce % 256]) * 32), PROVIDERS[0], nonce)
        codes += [reply.code for reply in world.ordered(request)]
    assert codes == ["", "StaleNonce", "StaleNonce", "", "", "StaleNonce"]


def test_one_account_s_nonce_says_nothing_about_another_s() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    requests = [sign(world.network_id, Claim(order_id, H), provider, 1_000) for provider in PROVIDERS]
    assert all(reply.accepted for reply in world.ordered(*requests))


# --- work already promised -----------------------------------------------------------------------------------------
def test_an_account_that_leaves_a_role_still_owes_and_is_owed_what_it_promised() -> None:
    world = new_world()
    order_id = bring_to(world, Window.REVEAL)
    world.must(PROVIDERS[0], Unregister(0))
    assert world.submit(PROVIDERS[0], Unregister(0)).code == "NotAllowed"
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
    world.release(order_id)
    world.must(VALIDATORS[0], Unregister(1))
    assert world.commit_scores(order_id, VALIDATORS[0], SCORES).accepted
    other = bring_to(world, Window.COMMIT)
    assert world.submit(PROVIDERS[0], Claim(other, H)).code == "NotAllowed"
    world.must(PROVIDERS[0], Register(0))
    assert world.submit(PROVIDERS[0], Claim(other, salt("x"))).accepted


def test_the_client_may_release_its_key_itself() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.must(world.client, ReleaseKey(order_id, world.keys[order_id]))
    assert world.order(order_id).test_key == world.keys[order_id]
    world.prove(order_id)
    assert world.order(order_id).window == Window.SCORE
    assert world.submit(world.aggregators[0], ReleaseShare(order_id, world.shares[order_id][0])).code == "TooLate"
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).code == "TooLate"
