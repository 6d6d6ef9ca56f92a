"""Random histories of a whole network: money is conserved in each of the three pots, and no attack comes through.

A state machine drives the contracts on the embedded engine; after each step stakes, escrows and rewards must add up.
What it did is counted, so that a machine that stopped settling, slashing or claiming fails instead of passing idly.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pot_lab.chain import abi
from pot_lab.chain.contract import interface, read_revert
from pot_lab.chain.errors import EvmReverted
from pot_lab.chain.evm import TRANSACTION_GAS, ContractCall, EmbeddedChain
from pot_lab.chain.transaction import ChainTransaction
from pot_lab.chain.wallet import pack_signatures
from pot_lab.crypto.canonical import Wide, keccak256
from pot_lab.crypto.identity import Identity
from pot_lab.protocol.settlement import (
    PayoutTree,
    Settlement,
    orders_hash,
    reward_leaf,
    settlement_digest,
    slash_leaf,
)
from tests.chain.world import DAY_S, POT, created_address, fields, identity

CHAIN_ID = 31_337
FOUNDER, CLIENT, RELAYER, SLASHER = (identity(name) for name in ("founder", "client", "relayer", "slashes go here"))
SIGNERS = sorted((identity(f"signer {i}") for i in range(3)), key=lambda signer: signer.address)
PAYEES = [identity(f"payee {i}").address for i in range(4)]
NAMES = ("PoTToken", "StakeRegistry", "OrderEscrow", "RewardSettlement")
AT = {name: created_address(FOUNDER.address, i) for i, name in enumerate(NAMES)}
SEEN: Counter[str] = Counter()


class Refused(Exception):
    pass


class Network:
    """The four contracts without a wallet in between."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000
        self.chain = EmbeddedChain(chain_id=CHAIN_ID, accounts=[], clock=lambda: self.now_s)
        owner, treasury = FOUNDER.address, FOUNDER.address
        creations = {
            "PoTToken": (owner, 10**18),
            "StakeRegistry": (AT["PoTToken"], owner, treasury, 7 * DAY_S, (1, 1, 1, 1_000 * POT)),
            "OrderEscrow": (AT["PoTToken"], owner, DAY_S, 30 * DAY_S, 1),
            "RewardSettlement": (
                *(AT[name] for name in ("PoTToken", "OrderEscrow", "StakeRegistry")),
                owner,
                owner,
                60,
                0,
            ),
        }
        for name, arguments in creations.items():
            self._transact(FOUNDER, b"", interface(name).creation(arguments))
        for name in ("StakeRegistry", "OrderEscrow"):
            self.send(FOUNDER, name, "setSettlement", AT["RewardSettlement"])
        self.send(FOUNDER, "PoTToken", "transfer", CLIENT.address, 10**17)
        for name in NAMES[1:]:
            for who in (FOUNDER, CLIENT):
                self.send(who, "PoTToken", "approve", AT[name], 2**256 - 1)
        grants = [(signer.address, 3, 1_000_000 * POT) for signer in SIGNERS]
        self.send(FOUNDER, "StakeRegistry", "stakeFor", grants)
        self.send(FOUNDER, "RewardSettlement", "rotate", [s.address for s in SIGNERS], 2, 0, b"")

    def send(self, who: Identity, contract: str, function: str, *arguments: Any) -> None:
        self._transact(who, AT[contract], interface(contract).functions[function].call_data(arguments))

    def read(self, contract: str, function: str, *arguments: Any) -> tuple[Any, ...]:
        spec = interface(contract).functions[function]
        call = ContractCall(sender=bytes(20), to=AT[contract], data=spec.call_data(arguments))
        return abi.decode(spec.outputs, self.chain.call(call, self._head()))

    def _transact(self, who: Identity, to: bytes, data: bytes) -> None:
        head = self._head()
        try:
            self.chain.call(ContractCall(sender=who.address, to=to or None, data=data), head)
        except EvmReverted as error:
            raise Refused(read_revert(error.data).name) from None
        nonce = self.chain.nonce(who.address, head)
        raw = ChainTransaction(
            chain_id=CHAIN_ID, nonce=nonce, max_priority_fee=0, max_fee=0, gas=TRANSACTION_GAS, to=to, data=data
        ).sign(who)
        receipt = self.chain.receipt(self.chain.send(raw))
        assert receipt is not None and receipt.succeeded

    def _head(self) -> Any:
        return self.chain.block(self.chain.height)


NETWORK: list[Network] = []


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        if not NETWORK:
            NETWORK.append(Network())
            NETWORK[0].base = NETWORK[0].chain.height  # type: ignore[attr-defined]
        self.net = NETWORK[0]
        self.net.chain.rewind(self.net.base)  # type: ignore[attr-defined]
        self.net.now_s = 1_800_000_000
        self.orders: dict[bytes, tuple[int, int, bytes, int]] = {}
        self.due: dict[bytes, int] = {}
        self.paid = dict.fromkeys(PAYEES, 0)
        self.funded = self.epoch = self.placed = self.slash_due = self.slash_done = self.slashed = 0
        self.tree: PayoutTree | None = None
        self.slash_to = SLASHER.address

    def refused(self, names: str, who: Identity, contract: str, function: str, *arguments: Any) -> None:
        with pytest.raises(Refused) as caught:
            self.net.send(who, contract, function, *arguments)
        assert str(caught.value) in names.split()
        SEEN[str(caught.value)] += 1

    def place(self, reward: int, fee: int, bond: int) -> bytes:
        self.placed += 1
        seal_by_s, spec = self.net.now_s + 10**5, keccak256(b"%d" % self.placed)
        self.net.send(CLIENT, "OrderEscrow", "placeOrder", reward, fee, bond, seal_by_s, spec, self.placed)
        oid = self.net.read("OrderEscrow", "orderId", CLIENT.address, self.placed, seal_by_s, spec)[0]
        self.orders[oid] = (reward + fee + bond, seal_by_s, spec, self.placed)
        return bytes(oid)

    @rule(
        reward=st.integers(1, 10**12),
        fee=st.integers(0, 10**9),
        bond=st.integers(0, 10**9),
        split=st.lists(st.sampled_from(PAYEES), min_size=1, max_size=3),
        attack=st.sampled_from(["", "", "", "quorum", "insolvent", "twice", "old set", "replay", "ahead"]),
        slash=st.sampled_from([0, POT, 20 * POT]),
        paid_on=st.booleans(),
    )
    def settle(
        self, reward: int, fee: int, bond: int, split: list[bytes], attack: str, slash: int, paid_on: bool
    ) -> None:
        oids = [self.place(reward, fee, bond)]
        gain, due = self.orders[oids[0]][0], dict(self.due)
        for payee in split:
            due[payee] = due.get(payee, 0) + (self.funded + gain - sum(self.due.values())) // len(split)
        total, slash_due = sum(due.values()), self.slash_due + slash
        slash_to = AT["RewardSettlement"] if paid_on else SLASHER.address
        leaves = [reward_leaf(payee, grains) for payee, grains in due.items()]
        if slash_due:
            leaves.append(slash_leaf(CLIENT.address, 0, slash_due, slash_to))
        tree = PayoutTree(leaves)
        self.net.now_s += 61
        sealed = oids * 2 if attack == "twice" else oids
        settlement = Settlement(
            epoch=self.epoch + (2 if attack == "ahead" else 1),
            round=0,
            signer_set_id=0 if attack == "old set" else 1,
            root=tree.root,
            cumulative_total=self.funded + gain + 1 if attack == "insolvent" else total,
            orders_hash=orders_hash(sealed),
            ledger_hash=bytes(32),
        )
        digest = settlement_digest(CHAIN_ID, AT["RewardSettlement"], settlement)
        who = SIGNERS[:1] if attack == "quorum" else SIGNERS[:2]
        keys = [signer.address for signer in who]
        bitmap, packed = pack_signatures(digest, keys, len(who), {s.address: s.sign(digest) for s in who})
        call = ("RewardSettlement", "settle", fields(settlement), sealed, bitmap, packed)
        wrong = {
            "quorum": "BadSignatures",
            "insolvent": "Insolvent",
            "twice": "UnknownOrder",
            "old set": "WrongSigners",
            "ahead": "WrongEpoch",
        }.get(attack)
        if wrong:
            self.refused(wrong, RELAYER, *call)
            return
        self.net.send(RELAYER, *call)
        SEEN["settled"] += 1
        if attack == "replay":
            self.refused("WrongEpoch", RELAYER, *call)
        del self.orders[oids[0]]
        self.due, self.tree, self.slash_due, self.slash_to = due, tree, slash_due, slash_to
        self.epoch, self.funded = self.epoch + 1, self.funded + gain

    def settle_nothing(self) -> None:
        """An epoch with the payouts of the one before it, and no order."""
        self.net.now_s += 61
        self.send_epoch(self.tree or PayoutTree([]), sum(self.due.values()), [])

    def send_epoch(self, tree: PayoutTree, total: int, sealed: list[bytes]) -> None:
        settlement = Settlement(
            epoch=self.epoch + 1,
            round=0,
            signer_set_id=1,
            root=tree.root,
            cumulative_total=Wide(total),
            orders_hash=orders_hash(sealed),
            ledger_hash=bytes(32),
        )
        digest = settlement_digest(CHAIN_ID, AT["RewardSettlement"], settlement)
        keys = [signer.address for signer in SIGNERS[:2]]
        bitmap, packed = pack_signatures(digest, keys, 2, {s.address: s.sign(digest) for s in SIGNERS[:2]})
        self.net.send(RELAYER, "RewardSettlement", "settle", fields(settlement), sealed, bitmap, packed)
        self.epoch += 1

    @precondition(lambda self: self.tree is not None)
    @rule(payee=st.sampled_from(PAYEES), extra=st.sampled_from([0, 0, 1]))
    def claim(self, payee: bytes, extra: int) -> None:
        if payee not in self.due:
            return
        assert self.tree is not None
        due = self.due[payee]
        proof = self.tree.proof(reward_leaf(payee, due))
        if extra:
            self.refused("BadProof", RELAYER, "RewardSettlement", "claim", payee, due + extra, proof)
            return
        if due > self.paid[payee]:
            self.net.send(RELAYER, "RewardSettlement", "claim", payee, due, proof)
            self.paid[payee] = due
            SEEN["claimed"] += 1
        self.refused("NothingToClaim", RELAYER, "RewardSettlement", "claim", payee, due, proof)

    @precondition(lambda self: self.slash_due)
    @rule(unbond=st.booleans())
    def slash(self, unbond: bool) -> None:
        assert self.tree is not None
        if unbond:
            self.net.send(CLIENT, "StakeRegistry", "stake", 0, 2 * POT)
            self.net.send(CLIENT, "StakeRegistry", "requestUnstake", 0, POT)
        node = CLIENT.address
        proof = self.tree.proof(slash_leaf(node, 0, self.slash_due, self.slash_to))
        call = ("RewardSettlement", "applySlash", node, 0, self.slash_due, self.slash_to, proof)
        if self.slash_due > self.slash_done:
            bonded, unbonding, _ = self.net.read("StakeRegistry", "stakes", node, 0)
            self.net.send(RELAYER, *call)
            more = self.slash_due - self.slash_done
            taken = min(more, bonded + unbonding)
            if self.slash_to == SLASHER.address:
                self.slashed += taken
            else:  # what comes to the contract may be paid out again
                self.funded += taken
                SEEN["slashed to be paid on"] += taken > 0
            self.slash_done = self.slash_due
            SEEN["slashed from unbonding" if unbonding and more > bonded else "slashed"] += 1
        self.refused("NothingToClaim", RELAYER, *call)

    @rule(role=st.integers(0, 2), grains=st.integers(1, 10**10), out=st.integers(1, 10**10), wait=st.booleans())
    def stake(self, role: int, grains: int, out: int, wait: bool) -> None:
        self.net.send(CLIENT, "StakeRegistry", "stake", role, grains)
        bonded = self.net.read("StakeRegistry", "stakes", CLIENT.address, role)[0]
        if out > bonded:
            self.refused("NotBonded", CLIENT, "StakeRegistry", "requestUnstake", role, out)
            return
        self.net.send(CLIENT, "StakeRegistry", "requestUnstake", role, out)
        if wait:
            self.net.now_s += 7 * DAY_S
            self.net.send(CLIENT, "StakeRegistry", "withdraw", role)
            SEEN["withdrawn"] += 1
        else:
            self.refused("StillLocked", CLIENT, "StakeRegistry", "withdraw", role)

    @rule(reward=st.integers(1, 10**12), wait=st.booleans(), settled=st.booleans())
    def refund(self, reward: int, wait: bool, settled: bool) -> None:
        oid = self.place(reward, 0, 0)
        _, seal_by_s, spec, nonce = self.orders[oid]
        call = ("OrderEscrow", "refund", CLIENT.address, nonce, seal_by_s, spec)
        if not wait:
            self.refused("TooEarly", RELAYER, *call)
            return
        self.net.now_s = max(self.net.now_s, seal_by_s + DAY_S)
        if not settled:
            self.refused("TooEarly", RELAYER, *call)
            self.net.now_s = max(self.net.now_s, seal_by_s + 30 * DAY_S)
        else:
            self.settle_nothing()
        self.net.send(RELAYER, *call)
        del self.orders[oid]
        SEEN["refunded"] += 1
        self.refused("UnknownOrder", RELAYER, *call)

    @invariant()
    def the_three_pots_add_up(self) -> None:
        def held(who: bytes) -> int:
            return int(self.net.read("PoTToken", "balanceOf", who)[0])

        accounts = [(CLIENT.address, role) for role in range(3)] + [(signer.address, 3) for signer in SIGNERS]
        stakes = [self.net.read("StakeRegistry", "stakes", *account) for account in accounts]
        assert held(AT["StakeRegistry"]) == sum(bonded + unbonding for bonded, unbonding, _ in stakes)
        assert held(AT["OrderEscrow"]) == sum(amount for amount, *_ in self.orders.values())
        assert held(AT["RewardSettlement"]) == self.funded - sum(self.paid.values())
        assert [held(payee) for payee in PAYEES] == [self.paid[payee] for payee in PAYEES]
        assert held(SLASHER.address) == self.slashed


DEEDS = {"settled", "claimed", "slashed", "slashed to be paid on", "slashed from unbonding", "withdrawn", "refunded"}
CORE = {"settled", "claimed", "slashed", "withdrawn"}
REFUSALS = {
    "BadProof",
    "BadSignatures",
    "Insolvent",
    "NotBonded",
    "NothingToClaim",
    "StillLocked",
    "TooEarly",
    "UnknownOrder",
    "WrongEpoch",
    "WrongSigners",
}


def _run(examples: int, wanted: set[str]) -> None:
    """Which histories are drawn depends on what else the process imported: a short run promises the core only."""
    SEEN.clear()
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        ),
    )
    assert wanted <= set(SEEN) <= DEEDS | REFUSALS, SEEN


@pytest.mark.slow
def test_money_is_conserved_whatever_happens() -> None:
    _run(12, CORE)


@pytest.mark.long
def test_money_is_conserved_in_long_histories() -> None:
    _run(400, DEEDS | REFUSALS)
