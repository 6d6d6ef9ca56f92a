"""Everything that must not settle, pay, slash or rotate; each refused by the contract with its own named error."""

from __future__ import annotations

import pytest

from pot_lab.chain.account import Receipt
from pot_lab.chain.errors import ChainReverted, NotEnoughSignatures
from pot_lab.chain.wallet import ClaimablePayout, pack_signatures
from pot_lab.protocol.settlement import (
    PayoutTree,
    Settlement,
    reward_leaf,
    rotation_digest,
    settlement_digest,
    slash_leaf,
)
from tests.chain.world import DAY_S, POT, World, fields, identity

A, B = identity("payee A").address, identity("payee B").address
EMPTY = PayoutTree([])


def refused(name: str, *arguments: object) -> pytest.RaisesExc[ChainReverted]:
    def check(error: ChainReverted) -> bool:
        return error.name == name and error.arguments[: len(arguments)] == arguments and error.transaction is None

    return pytest.RaisesExc(ChainReverted, check=check)


def test_an_honest_epoch_is_settled_and_paid_once(world: World) -> None:
    order = world.order(reward=90 * POT, fee=6 * POT, bond=4 * POT)
    tree = PayoutTree([reward_leaf(A, 60 * POT), reward_leaf(B, 40 * POT)])
    settlement = world.settle(tree, 100 * POT, [order.oid])
    wallet = world.wallet(world.relayer)
    assert wallet.epoch() == settlement.epoch
    assert wallet.balance_grains(world.contracts.settlement) == 100 * POT
    with refused("BadProof"):
        wallet.claim(A, 60 * POT + 1, tree.proof(reward_leaf(A, 60 * POT)))
    with refused("BadProof"):
        wallet.claim(B, 60 * POT, tree.proof(reward_leaf(A, 60 * POT)))
    wallet.claim(A, 60 * POT, tree.proof(reward_leaf(A, 60 * POT)))
    assert wallet.balance_grains(A) == wallet.claimed_grains(A) == 60 * POT
    with refused("NothingToClaim", A, 60 * POT):
        wallet.claim(A, 60 * POT, tree.proof(reward_leaf(A, 60 * POT)))
    claims = [
        ClaimablePayout(who, grains, tuple(tree.proof(reward_leaf(who, grains))))
        for who, grains in ((A, 60 * POT), (B, 40 * POT))
    ]
    wallet.claim_many(claims)
    assert (wallet.balance_grains(A), wallet.balance_grains(B)) == (60 * POT, 40 * POT)
    assert wallet.balance_grains(world.contracts.settlement) == 0


def test_payouts_are_cumulative_over_epochs(world: World) -> None:
    first, second = world.order(), world.order()
    world.settle(PayoutTree([reward_leaf(A, 100 * POT)]), 100 * POT, [first.oid])
    tree = PayoutTree([reward_leaf(A, 150 * POT), reward_leaf(B, 50 * POT)])
    world.settle(tree, 200 * POT, [second.oid])
    wallet = world.wallet(world.relayer)
    wallet.claim_from_tree(tree, {A: 150 * POT, B: 50 * POT})
    assert (wallet.balance_grains(A), wallet.balance_grains(B)) == (150 * POT, 50 * POT)


@pytest.mark.parametrize(
    "attack",
    [
        "other chain",
        "other contract",
        "too few",
        "one twice",
        "bit beyond",
        "trailing byte",
        "truncated",
        "stranger",
        "none",
    ],
)
def test_wrong_signatures_settle_nothing(world: World, attack: str) -> None:
    world.warp(61)
    settlement = world.settlement(EMPTY, 0)
    bitmap, packed = world.packed(settlement, [0, 1, 2, 3])
    match attack:
        case "other chain":
            bitmap, packed = world.packed(settlement, [0, 1, 2, 3], chain_id=1)
        case "other contract":
            bitmap, packed = world.packed(settlement, [0, 1, 2, 3], contract=world.contracts.token)
        case "too few":
            bitmap, packed = world.packed(settlement, [0, 1, 2])
        case "one twice":
            packed = packed[:192] + packed[128:192]
        case "bit beyond":
            bitmap, packed = bitmap | 1 << 7, packed + packed[:64]
        case "trailing byte":
            packed += b"\0"
        case "truncated":
            packed = packed[:-64]
        case "stranger":
            digest = settlement_digest(world.contracts.chain_id, world.contracts.settlement, settlement)
            signature = world.relayer.sign(digest)
            s_and_parity = int.from_bytes(signature[32:64], "big") | signature[64] << 255
            packed = packed[:192] + signature[:32] + s_and_parity.to_bytes(32, "big")
        case "none":
            bitmap, packed = 0, b""
    with refused("BadSignatures"):
        world.settle_raw(settlement, [], bitmap, packed)
    assert world.wallet().epoch() == 0


def test_a_signature_of_nobody_counts_for_nothing(world: World) -> None:
    """What no key gives recovers to the zero address; somebody staked for that, and it was seated."""
    world.send(world.founder, "PoTToken", "approve", world.contracts.registry, 1_000 * POT)
    world.send(world.founder, "StakeRegistry", "stakeFor", [(bytes(20), 3, 1_000 * POT)])
    seats = [bytes(20), *(signer.address for signer in world.aggregators[:4])]
    world.send(world.founder, "RewardSettlement", "rotate", seats, 4, 0, b"")
    world.warp(61)
    settlement = world.settlement(EMPTY, 0)
    _, packed = world.packed(settlement, [0, 1, 2])
    for nothing in (bytes(64), b"\xff" * 64):
        with refused("BadSignatures", 0):
            world.settle_raw(settlement, [], 0b1111, nothing + packed)
    world.settle_raw(settlement, [], 0b11110, world.packed(settlement, [0, 1, 2, 3])[1])


def test_a_batch_with_amounts_to_spare_or_too_few_is_refused(world: World) -> None:
    order = world.order(reward=100 * POT)
    tree = PayoutTree([reward_leaf(A, 60 * POT), reward_leaf(B, 40 * POT)])
    world.settle(tree, 100 * POT, [order.oid])
    due = {reward_leaf(A, 60 * POT): (A, 60 * POT), reward_leaf(B, 40 * POT): (B, 40 * POT)}
    leaves, siblings, flags = tree.multiproof(due)
    accounts, amounts = [due[leaf][0] for leaf in leaves], [due[leaf][1] for leaf in leaves]
    for wrong in ([*amounts, 0], amounts[:1], []):
        with refused("BadProof"):
            world.send(world.relayer, "RewardSettlement", "claimMulti", accounts, wrong, siblings, flags)
    with refused("BadProof"):
        world.send(world.relayer, "RewardSettlement", "claimMulti", [], [], [tree.root], [])
    world.send(world.relayer, "RewardSettlement", "claimMulti", accounts, amounts, siblings, flags)
    assert world.wallet().balance_grains(A) == 60 * POT


def test_the_wallet_leaves_bad_signatures_out_and_says_when_too_few_are_left(world: World) -> None:
    world.warp(61)
    settlement = world.settlement(EMPTY, 0)
    signatures = world.signatures(settlement)
    spoiled = signatures | {world.aggregators[0].address: bytes(65), world.relayer.address: bytes(65)}
    two_spoiled = spoiled | {world.aggregators[1].address: signatures[world.aggregators[2].address]}
    wallet = world.wallet(world.relayer)
    with pytest.raises(NotEnoughSignatures, match=r"seen: 3, wanted: 4"):
        wallet.settle(settlement, [], two_spoiled)
    wallet.settle(settlement, [], spoiled)
    assert wallet.epoch() == 1


def test_replay_old_epochs_and_haste_are_refused(world: World) -> None:
    order = world.order()
    tree = PayoutTree([reward_leaf(A, 100 * POT)])
    world.warp(61)
    settlement = world.settlement(tree, 100 * POT, [order.oid])
    ready = world.packed(settlement, [0, 1, 2, 3])
    world.settle_raw(settlement, [order.oid], *ready)
    with refused("WrongEpoch", 1, 2):
        world.settle_raw(settlement, [order.oid], *ready)
    ahead = world.settlement(EMPTY, 0, epoch=3)
    with refused("WrongEpoch", 3, 2):
        world.settle_raw(ahead, [], *world.packed(ahead, [0, 1, 2, 3]))
    hasty = world.settlement(EMPTY, 0)
    with refused("TooEarly"):
        world.settle_raw(hasty, [], *world.packed(hasty, [0, 1, 2, 3]))


def test_an_epoch_that_promises_more_than_it_has_is_refused(world: World) -> None:
    order = world.order(reward=100 * POT)
    world.warp(61)
    settlement = world.settlement(EMPTY, 100 * POT + 1, [order.oid])
    with refused("Insolvent", 100 * POT + 1, 100 * POT):
        world.settle_raw(settlement, [order.oid], *world.packed(settlement, [0, 1, 2, 3]))
    assert world.wallet().escrowed_grains(order.oid) == 100 * POT


def test_orders_are_sealed_as_signed_and_once(world: World) -> None:
    order = world.order()
    world.warp(61)
    settlement = world.settlement(EMPTY, 0, [order.oid])
    with refused("OrdersMismatch"):
        world.settle_raw(settlement, [], *world.packed(settlement, [0, 1, 2, 3]))
    twice = world.settlement(EMPTY, 0, [order.oid, order.oid])
    with refused("UnknownOrder", order.oid):
        world.settle_raw(twice, [order.oid, order.oid], *world.packed(twice, [0, 1, 2, 3]))
    world.settle(EMPTY, 0, [order.oid])
    world.warp(61)
    again = world.settlement(EMPTY, 0, [order.oid])
    with refused("UnknownOrder", order.oid):
        world.settle_raw(again, [order.oid], *world.packed(again, [0, 1, 2, 3]))
    with refused("NotSettlement", world.relayer.address):
        world.send(world.relayer, "OrderEscrow", "seal", [order.oid])


def test_a_new_signer_set_makes_old_signatures_worthless(world: World) -> None:
    world.warp(61)
    settlement = world.settlement(EMPTY, 0)
    ready = world.packed(settlement, [0, 1, 2, 3])
    four = [signer.address for signer in world.aggregators[:4]]
    world.send(world.founder, "RewardSettlement", "rotate", four, 3, 0, b"")
    with refused("WrongSigners", 1, 2):
        world.settle_raw(settlement, [], *ready)
    with refused("BadSignatures"):
        world.send(world.relayer, "RewardSettlement", "rotate", four[:3], 2, *ready)
    for threshold in (2, 5):
        with refused("BadParameter", "threshold"):
            world.send(world.founder, "RewardSettlement", "rotate", four, threshold, 0, b"")
    with refused("BadParameter", "order"):
        world.send(world.founder, "RewardSettlement", "rotate", four[::-1], 3, 0, b"")
    with refused("BadParameter", "inactive"):
        world.send(world.founder, "RewardSettlement", "rotate", [world.client.address], 1, 0, b"")
    with refused("ActiveSigner"):
        world.wallet(world.aggregators[0]).request_unstake(3, 1_000 * POT)
    world.wallet(world.aggregators[4]).request_unstake(3, 1_000 * POT)
    with refused("StillLocked"):
        world.wallet(world.aggregators[4]).withdraw(3)


def test_the_current_signers_can_hand_over_to_the_next(world: World) -> None:
    stakers = [signer.address for signer in world.aggregators[:4]]
    digest = rotation_digest(world.contracts.chain_id, world.contracts.settlement, 2, 3, stakers)
    signatures = {signer.address: signer.sign(digest) for signer in world.aggregators[:4]}
    keys = world.wallet().signers()[2]
    _, packed = pack_signatures(digest, keys, 4, signatures)
    wallet = world.wallet(world.relayer)
    with refused("BadSignatures"):
        world.send(world.relayer, "RewardSettlement", "rotate", stakers, 3, 0b111, packed[:192])
    with pytest.raises(NotEnoughSignatures):
        wallet.rotate(2, 3, stakers, dict(list(signatures.items())[:3]))
    with pytest.raises(NotEnoughSignatures):  # they signed another threshold
        wallet.rotate(2, 4, stakers, signatures)
    wallet.rotate(2, 3, stakers, signatures)
    assert world.wallet().signers() == (2, 3, tuple(stakers))
    with refused("BadSignatures"):  # the same hand-over again
        wallet.rotate(2, 3, stakers, signatures)


def test_an_account_names_its_signing_key_while_it_does_not_sign(world: World) -> None:
    cold, hot = world.client, identity("hot")
    with refused("ActiveSigner"):
        world.wallet(world.aggregators[0]).set_signing_key(hot)
    world.wallet(cold).stake(3, 1_000 * POT)
    world.wallet(cold).set_signing_key(hot)
    seats = sorted([(hot.address, cold.address), *((each.address, each.address) for each in world.aggregators)])
    stakers = [account for _, account in seats]
    digest = rotation_digest(world.contracts.chain_id, world.contracts.settlement, 2, 4, stakers)
    world.wallet(world.relayer).rotate(2, 4, stakers, {each.address: each.sign(digest) for each in world.aggregators})
    assert world.wallet().signers() == (2, 4, tuple(key for key, _ in seats))


def test_a_hundred_signers_fit(world: World) -> None:
    keys = sorted(identity(f"crowd {i}").address for i in range(100))
    grants = [(key, 3, 1_000 * POT) for key in keys]
    world.send(world.founder, "PoTToken", "approve", world.contracts.registry, 101 * 1_000 * POT)
    world.send(world.founder, "StakeRegistry", "stakeFor", grants)
    world.send(world.founder, "RewardSettlement", "rotate", keys, 67, 0, b"")
    assert world.wallet().signers() == (2, 67, tuple(keys))
    with refused("BadParameter", "stakers"):
        world.send(world.founder, "RewardSettlement", "rotate", [*keys, world.client.address], 68, 0, b"")


def test_a_slash_reaches_unbonding_stake_and_is_applied_once(world: World) -> None:
    node = world.aggregators[4]
    world.send(world.founder, "RewardSettlement", "rotate", [a.address for a in world.aggregators[:4]], 4, 0, b"")
    world.wallet(node).request_unstake(3, 1_000 * POT)
    leaf = slash_leaf(node.address, 3, 400 * POT, B)
    tree = PayoutTree([leaf, reward_leaf(A, 0)])
    world.settle(tree, 0)
    wallet = world.wallet(world.relayer)
    with refused("BadProof"):
        wallet.apply_slash(node.address, 3, 400 * POT, world.relayer.address, tree.proof(leaf))
    with refused("BadProof"):
        wallet.apply_slash(node.address, 2, 400 * POT, B, tree.proof(leaf))
    wallet.apply_slash(node.address, 3, 400 * POT, B, tree.proof(leaf))
    assert wallet.stake_of(node.address, 3).unbonding_grains == 600 * POT
    assert wallet.balance_grains(B) == 400 * POT
    with refused("NothingToClaim", node.address):
        wallet.apply_slash(node.address, 3, 400 * POT, B, tree.proof(leaf))
    with refused("NotSettlement"):
        world.send(world.relayer, "StakeRegistry", "slash", node.address, 3, 1, world.relayer.address)
    world.warp(7 * DAY_S)
    world.wallet(node).withdraw(3)
    assert wallet.stake_of(node.address, 3).unbonding_grains == 0


def test_slashed_stake_counts_as_funds_where_it_comes_to_the_settlement_and_nowhere_else(world: World) -> None:
    node, elsewhere = world.aggregators[4], world.treasury.address
    leaves = [slash_leaf(node.address, 3, 400 * POT, world.contracts.settlement)]
    leaves.append(slash_leaf(world.aggregators[3].address, 3, 300 * POT, elsewhere))
    tree = PayoutTree(leaves)
    world.settle(tree, 0)
    before = world.read("RewardSettlement", "funded")
    wallet = world.wallet(world.relayer)
    wallet.apply_slash(world.aggregators[3].address, 3, 300 * POT, elsewhere, tree.proof(leaves[1]))
    assert world.read("RewardSettlement", "funded") == before
    wallet.apply_slash(node.address, 3, 400 * POT, world.contracts.settlement, tree.proof(leaves[0]))
    assert world.read("RewardSettlement", "funded") == (int(before[0]) + 400 * POT,)  # type: ignore[call-overload]
    paid = PayoutTree([reward_leaf(A, 400 * POT)])
    world.settle(paid, 400 * POT)
    wallet.claim(A, 400 * POT, [])
    assert wallet.balance_grains(A) == 400 * POT


def test_a_reward_leaf_is_no_slash_leaf(world: World) -> None:
    tree = PayoutTree([reward_leaf(A, 5 * POT)])
    world.settle(tree, 0)
    with refused("BadProof"):
        world.wallet(world.relayer).apply_slash(A, 0, 5 * POT, bytes(20), [])


def test_an_inner_node_is_no_leaf(world: World) -> None:
    order = world.order()
    leaves = [reward_leaf(A, 60 * POT), reward_leaf(B, 40 * POT)]
    tree = PayoutTree(leaves)
    world.settle(tree, 100 * POT, [order.oid])
    with refused("BadProof"):
        world.send(world.relayer, "RewardSettlement", "claimMulti", [], [], [tree.root], [])
    with refused("BadProof"):
        world.wallet(world.relayer).claim(A, 60 * POT, [])


def _equivocation(world: World, *, signer: int = 0, same_round: bool = True) -> Receipt:
    one = Settlement(
        epoch=9,
        round=0,
        signer_set_id=1,
        root=b"\1" * 32,
        cumulative_total=1,
        orders_hash=b"\2" * 32,
        ledger_hash=b"\3" * 32,
    )
    two = Settlement(
        epoch=9,
        round=0 if same_round else 1,
        signer_set_id=1,
        root=b"\4" * 32,
        cumulative_total=1,
        orders_hash=b"\2" * 32,
        ledger_hash=b"\3" * 32,
    )
    arguments = []
    for settlement in (one, two):
        _, packed = world.packed(settlement, [signer])
        arguments += [fields(settlement), packed]
    return world.send(world.relayer, "RewardSettlement", "slashEquivocation", *arguments)


def test_two_signatures_for_one_round_cost_the_whole_stake(world: World) -> None:
    offender = world.aggregators[0].address
    with refused("NotEquivocation"):
        _equivocation(world, same_round=False)
    _equivocation(world)
    wallet = world.wallet()
    assert wallet.stake_of(offender, 3).bonded_grains == 0
    assert wallet.balance_grains(world.treasury.address) == 1_000 * POT
    with refused("NotEquivocation"):
        _equivocation(world)


def test_the_guardian_can_veto_inside_the_delay_and_pause_for_a_while(slow_world: World) -> None:
    world = slow_world
    world.wallet(world.client).fund(100 * POT)
    tree = PayoutTree([reward_leaf(A, 100 * POT)])
    world.settle(tree, 100 * POT)
    with refused("BadProof"):  # the claim delay still runs
        world.wallet(world.relayer).claim(A, 100 * POT, [])
    with refused("NotAllowed", world.relayer.address):
        world.send(world.relayer, "RewardSettlement", "veto")
    world.send(world.guardian, "RewardSettlement", "veto")
    world.warp(61)
    with refused("BadProof"):
        world.wallet(world.relayer).claim(A, 100 * POT, [])
    with refused("BadParameter", "until"):
        world.send(world.guardian, "RewardSettlement", "pause", world.now_s() + 8 * DAY_S)
    until = world.now_s() + DAY_S
    world.send(world.guardian, "RewardSettlement", "pause", until)
    settlement = world.settlement(EMPTY, 0)
    with refused("IsPaused", until):
        world.wallet(world.relayer).settle(settlement, [], world.signatures(settlement))
    world.warp(2 * DAY_S)
    with refused("TooEarly", until + 7 * DAY_S):  # no second pause right after the first
        world.send(world.guardian, "RewardSettlement", "pause", world.now_s() + DAY_S)
    world.wallet(world.relayer).settle(settlement, [], world.signatures(settlement))


def test_a_veto_comes_too_late_once_claims_are_open(slow_world: World) -> None:
    slow_world.settle(EMPTY, 0)
    slow_world.warp(61)
    with refused("TooLate"):
        slow_world.send(slow_world.guardian, "RewardSettlement", "veto")


def test_a_pause_never_stops_refunds_and_withdrawals(world: World) -> None:
    order = world.order(life_s=100)
    staker = world.wallet(world.client)
    staker.stake(0, 100 * POT)
    staker.request_unstake(0, 100 * POT)
    world.outlive(order)
    world.warp(7 * DAY_S)
    world.send(world.guardian, "RewardSettlement", "pause", world.now_s() + DAY_S)
    staker.refund(order.seal_by_s, order.spec, order.nonce)
    staker.withdraw(0)
    assert staker.balance_grains() == 10**5 * POT


def test_only_the_owner_changes_the_rules(world: World) -> None:
    for contract, function, arguments in (
        ("RewardSettlement", "setCycle", (1, 0)),
        ("RewardSettlement", "setGuardian", (world.relayer.address,)),
        ("StakeRegistry", "setSettlement", (world.relayer.address,)),
        ("StakeRegistry", "setMinStake", (0, 1)),
        ("StakeRegistry", "setTreasury", (world.relayer.address,)),
        ("OrderEscrow", "setSettlement", (world.relayer.address,)),
        ("OrderEscrow", "setGraces", (0, 0)),
        ("OrderEscrow", "setMinReward", (1,)),
        ("StakeRegistry", "setUnbondingPeriod", (90 * DAY_S,)),
    ):
        with refused("OwnableUnauthorizedAccount", world.relayer.address):
            world.send(world.relayer, contract, function, *arguments)
