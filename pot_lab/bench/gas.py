"""What the chain charges: gas of one update cycle and of one paid account, beside the paper's Table 6.

The paper pays each reward account by a multi-signature wallet of its own proposal, confirmations and execution:
1,609,893 gas an account with 30 signers. Here one transaction settles the whole cycle and accounts are paid from its
Merkle root. Both are measured on the embedded EVM; gas is the same on every EVM of these rules, so the figures need no
quiet machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from pot_lab.agreement.quorum import quorum
from pot_lab.chain.account import ChainAccount
from pot_lab.chain.deploy import ContractSetup, deploy
from pot_lab.chain.embedded import RpcService, listen
from pot_lab.chain.evm import EmbeddedChain
from pot_lab.chain.rpc import JsonRpc
from pot_lab.chain.wallet import MAX_CLAIMS, ChainWallet, ClaimablePayout
from pot_lab.crypto.canonical import Wide, keccak256
from pot_lab.crypto.identity import Identity
from pot_lab.errors import InvariantBroken
from pot_lab.protocol.settlement import PayoutTree, Settlement, orders_hash, reward_leaf, settlement_digest

POT = 10**9
PAPER_GAS = 1_609_893
"""Table 6 of the paper: one reward account, k = 30."""
PAPER_GWEI, PAPER_COIN_USD = 4.562, 246.2
"""The paper's prices: of gas on BSC, and of its coin, on 20 June 2023."""

_TIMEOUT_S = 600.0
"""For a batch of claims on a busy host; gas does not depend on time."""


def account(name: str) -> Identity:
    """The same account every time."""
    return Identity(keccak256(name.encode()))


class GasNetwork:
    """Founder, signers and contracts on a chain in this process."""

    def __init__(self, url: str, signers: int) -> None:
        self.signers = [account(f"signer {i}") for i in range(signers)]
        self.founder, self.relayer = account("founder"), account("relayer")
        genesis = ContractSetup(
            aggregators=[signer.address for signer in self.signers],
            stakes=[(signer.address, 3, 1_000 * POT) for signer in self.signers],
            threshold=signers,
            min_cycle_s=0,
        )
        self.contracts = deploy(url, self.founder, genesis, timeout_s=_TIMEOUT_S)
        self.account = ChainAccount(JsonRpc(url, timeout_s=_TIMEOUT_S), self.contracts.chain_id, self.founder)
        self.wallet = ChainWallet(url, self.contracts, self.founder, timeout_s=_TIMEOUT_S)
        self.relay = ChainWallet(url, self.contracts, self.relayer, timeout_s=_TIMEOUT_S)
        self.wallet.fund(10**8 * POT)
        self.total = 0
        self.nonce = 0

    def seat(self, threshold: int) -> None:
        """Seat the same signers with another threshold."""
        keys = sorted(signer.address for signer in self.signers)
        self.account.send("RewardSettlement", self.contracts.settlement, "rotate", keys, threshold, 0, b"")

    def order(self) -> tuple[bytes, int]:
        """Place an order of one POT; its id and its gas."""
        self.nonce += 1
        oid, name = self.wallet.place_order(POT, 0, 0, int(time.time()) + 10**6, bytes(32), self.nonce)
        receipt = self.account.rpc.call("eth_getTransactionReceipt", "0x" + name.hex())
        return oid, int(receipt["gasUsed"], 16)

    def settle(self, tree: PayoutTree, total: int, orders: list[bytes] | None = None) -> int:
        """Settle one cycle; its gas."""
        self.total = total
        orders = orders or []
        epoch, (set_id, _, _) = self.relay.epoch() + 1, self.relay.signers()
        settlement = Settlement(
            epoch=epoch,
            round=0,
            signer_set_id=set_id,
            root=tree.root,
            cumulative_total=Wide(total),
            orders_hash=orders_hash(orders),
            ledger_hash=keccak256(b"%d" % epoch),
        )
        digest = settlement_digest(self.contracts.chain_id, self.contracts.settlement, settlement)
        signatures: dict[bytes, bytes] = {signer.address: signer.sign(digest) for signer in self.signers}
        return self.relay.settle(settlement, orders, signatures).gas_used


def cycle_gas(network: GasNetwork) -> dict[str, int]:
    """Gas of one update cycle, for the least majority, the ledger's quorum and all signers, with and without orders to
    seal.
    """
    found, members = {}, len(network.signers)
    for count in dict.fromkeys((_few(members), quorum(members), members)):
        network.seat(count)
        for sealed in (0, 10):
            orders = [network.order()[0] for _ in range(sealed)]
            for attempt in range(3):  # the first two write fresh slots
                tree = PayoutTree([reward_leaf(account(f"{count} {sealed} {attempt}").address, 1)])
                gas = network.settle(tree, network.total, orders if attempt == 2 else [])
            found[f"settle, {count} of {members} signatures, {sealed} orders"] = gas
    return found


def account_gas(network: GasNetwork, accounts: int) -> dict[str, float]:
    """Gas per account when one cycle pays `accounts`: share of the settlement and claim, first and repeated payment.

    All are paid with a shared proof, as an aggregator does it; another cycle pays some with a proof for each.
    """
    payees: list[bytes] = [account(f"payee {accounts} {i}").address for i in range(accounts)]
    found: dict[str, float] = {"accounts": accounts}
    for attempt, name in enumerate(("first", "repeat", "one proof each"), 1):
        due: dict[bytes, int] = dict.fromkeys(payees, attempt * POT // 7)
        tree = PayoutTree([reward_leaf(payee, grains) for payee, grains in due.items()])
        settle = network.settle(tree, sum(due.values()))
        found[f"{name}: settle"] = settle
        if attempt == 3:
            some: list[bytes] = payees[:MAX_CLAIMS]
            claims = [
                ClaimablePayout(payee, due[payee], tuple(tree.proof(reward_leaf(payee, due[payee])))) for payee in some
            ]
            many = sum(receipt.gas_used for receipt in network.relay.claim_many(claims))
            found["repeat: claimMany per account"] = round(many / len(some))
            break
        if accounts == 1:
            (payee,) = payees
            claimed = network.relay.claim(payee, due[payee], tree.proof(reward_leaf(payee, due[payee]))).gas_used
            found[f"{name}: claim per account"] = claimed
        else:
            claimed = sum(receipt.gas_used for receipt in network.relay.claim_from_tree(tree, due))
            found[f"{name}: claimMulti per account"] = round(claimed / accounts)
        found[f"{name}: all per account"] = round((settle + claimed) / accounts)
    return found


def deposit_gas(network: GasNetwork) -> dict[str, int]:
    """Gas of deposits with an allowance that stands and has no limit: a first stake, one on top, an order."""
    at, send = network.contracts, network.account.send
    for spender in (at.registry, at.escrow):
        send("PoTToken", at.token, "approve", spender, 2**256 - 1)
    found = {
        f"stake, {name}": send("StakeRegistry", at.registry, "stake", 0, POT).gas_used for name in ("first", "more")
    }
    terms = (POT, 0, 0, int(time.time()) + 10**6, bytes(32))
    orders = [send("OrderEscrow", at.escrow, "placeOrder", *terms, 10**6 + i).gas_used for i in range(2)]
    return found | {"placeOrder, no permit": orders[-1]}


def paper_gas(network: GasNetwork) -> dict[str, int]:
    """The paper's scheme, faithfully: propose, confirm by every signer, execute."""
    owners = [signer.address for signer in network.signers]
    created = network.account.create("PaperMultisig", (network.contracts.token, owners, len(owners))).created
    if created is None:
        raise InvariantBroken("a contract was created without an address")
    network.wallet.transfer(created, 1_000 * POT)
    hands = [ChainAccount(network.account.rpc, network.contracts.chain_id, signer) for signer in network.signers]
    found = {}
    for index in range(2):  # the first proposal writes a fresh slot
        payee = account("paid by the paper").address
        propose = hands[0].send("PaperMultisig", created, "proposeReward", payee, POT).gas_used
        confirm = [hand.send("PaperMultisig", created, "confirmReward", index).gas_used for hand in hands]
        execute = hands[0].send("PaperMultisig", created, "executeReward", index).gas_used
        found = {
            "propose": propose,
            "confirm, each": confirm[-1],
            "execute": execute,
            "per account": propose + sum(confirm) + execute,
        }
    return found


def measure_gas(signers: int, accounts: Sequence[int]) -> dict[str, Any]:
    """All figures, on an embedded chain that lives as long as this call.

    Args:
        signers: how many aggregators; the paper's k.
        accounts: how many accounts a cycle pays, one row for each.
    """
    chain = EmbeddedChain(chain_id=31_337, accounts=[], clock=time.time)
    server = listen(RpcService(chain), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        network = GasNetwork(f"http://127.0.0.1:{server.server_address[1]}", signers)
        orders = [network.order()[1] for _ in range(2)]
        return {
            "signers": signers,
            "paper_gas_per_account": PAPER_GAS,
            "cycle": cycle_gas(network),
            "accounts": [account_gas(network, count) for count in accounts],
            "paper_scheme_measured": paper_gas(network),
            "place_order": orders[-1],
            "deposits": deposit_gas(network),
        }
    finally:
        server.shutdown()
        server.server_close()


def in_coin(gas: float, gwei: float) -> float:
    """What gas costs in the chain's own coin, at a price in gwei."""
    return gas * gwei / 1e9


def _few(members: int) -> int:
    """The paper's 18 of 30: three fifths, and more than half."""
    return max(members // 2 + 1, members * 3 // 5)
