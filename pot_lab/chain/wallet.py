"""What one account does on the chain: stake, place orders, settle epochs, claim payouts.

Amounts are integer grains, times are seconds of the chain (its contracts count in seconds). Deposits carry an EIP-2612
permit for their exact amount, so no allowance is left open and each is one transaction. A wallet holds no state but a
connection: everything it returns was just read from the node.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pot_lab.chain import abi
from pot_lab.chain.account import ChainAccount, Receipt
from pot_lab.chain.contract import Contracts
from pot_lab.chain.errors import InsufficientBalance, NotEnoughSignatures, TransactionUnconfirmed
from pot_lab.chain.fees import DEFAULT_CAP_WEI
from pot_lab.chain.proposal import Confirm
from pot_lab.chain.rpc import DEFAULT_TIMEOUT_S, JsonRpc, read_quantity
from pot_lab.chain.signer import AccountSigner, TypedMessage
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Address, BadSignature, Identity, format_address, recover
from pot_lab.protocol.records import order_id
from pot_lab.protocol.settlement import (
    PayoutTree,
    Settlement,
    reward_leaf,
    rotation_digest,
    settlement_digest,
)

MAX_CLAIMS: Final = 150
"""Claims in one transaction: at most about 9 M gas of the 16.7 M that chains allow one transaction."""
_DOMAIN: Final = {"name": "Proof of Training", "version": "1"}
_PERMIT: Final = (
    ("owner", "address"),
    ("spender", "address"),
    ("value", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
)
_PERMIT_LIFE_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class ClaimablePayout:
    """A reward leaf and its proof: `account` may have `cumulative_grains` in all since the first epoch."""

    account: bytes
    cumulative_grains: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ChainStake:
    """One (node, role) in the registry; `unlock_at_s` is when the unbonding part may be withdrawn."""

    bonded_grains: int
    unbonding_grains: int
    unlock_at_s: int


class ChainWallet:
    """One account on one network's contracts.

    Every method raises `ChainReverted` with the contract's named error, `ChainUnreachable` when the node is down or
    slow, `ChainRefused` when the node itself refuses; deposits raise `InsufficientBalance` before anything is sent.

    Args:
        rpc_url: the node.
        contracts: the network's contracts.
        identity: the account that signs, by its key or by who keeps it; None for a reader.
        timeout_s: how long one answer of the node may take.
        max_fee_wei: wei per gas that a transaction may cost at most.
    """

    def __init__(
        self,
        rpc_url: str,
        contracts: Contracts,
        identity: Identity | AccountSigner | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_fee_wei: int = DEFAULT_CAP_WEI,
    ) -> None:
        self.contracts = contracts
        rpc = JsonRpc(rpc_url, timeout_s=timeout_s)
        self._account = ChainAccount(rpc, contracts.chain_id, identity, max_fee_wei=max_fee_wei)

    def close(self) -> None:
        """Close the connection to the node."""
        self._account.rpc.close()

    def confirm_by(self, confirm: Confirm | None) -> None:
        """Have each transaction confirmed before it is sent; `NotConfirmed` where the answer is no. None: send all."""
        self._account.confirm = confirm

    def coin_wei(self, account: bytes | None = None) -> int:
        """The chain's own coin that an account (None: this wallet's) has for gas, in wei."""
        who = self._me() if account is None else account
        return read_quantity(self._account.rpc.call("eth_getBalance", format_address(who), "latest"))

    def finish_earlier(self) -> None:
        """See the end of a transaction of this account that an earlier process left under way, if there is one.

        Raises:
            TransactionUnconfirmed: the chain does not take it in time.
        """
        self._account.finish_earlier()

    # ------------------------------------------------------------ token

    def balance_grains(self, account: bytes | None = None) -> int:
        """Grains that an account (20 bytes; None: this wallet's) holds freely."""
        who = self._me() if account is None else account
        return int(self._account.read("PoTToken", self.contracts.token, "balanceOf", who)[0])

    def transfer(self, to: bytes, grains: int) -> Receipt:
        """Send grains to an account.

        Raises:
            InsufficientBalance: this account holds fewer.
        """
        self._require_balance(grains)
        return self._account.send("PoTToken", self.contracts.token, "transfer", to, grains)

    # ------------------------------------------------------------ stake

    def stake(self, role: int, grains: int) -> Receipt:
        """Bond grains for a role (0 provider, 1 validator, 2 verifier, 3 aggregator), on top of what is bonded.

        Raises:
            InsufficientBalance: this account holds fewer.
            ChainReverted: BelowMinimum.
        """
        with self._account.turn():
            self._require_balance(grains)
            permit = self._permit(self.contracts.registry, grains)
            at = self.contracts.registry
            return self._account.send("StakeRegistry", at, "stakeWithPermit", role, grains, *permit)

    def request_unstake(self, role: int, grains: int) -> Receipt:
        """Begin to unbond; the grains stay slashable until the unbonding period is over."""
        return self._account.send("StakeRegistry", self.contracts.registry, "requestUnstake", role, grains)

    def withdraw(self, role: int) -> Receipt:
        """Transfer what has finished unbonding back to this account."""
        return self._account.send("StakeRegistry", self.contracts.registry, "withdraw", role)

    def stake_of(self, node: bytes, role: int) -> ChainStake:
        """What a node has staked for a role."""
        return ChainStake(*self._account.read("StakeRegistry", self.contracts.registry, "stakes", node, role))

    # ------------------------------------------------------------ orders

    def place_order(
        self,
        reward_grains: int,
        fee_grains: int,
        bond_grains: int,
        seal_by_s: int,
        spec_hash: bytes,
        nonce: int,
    ) -> tuple[bytes, bytes]:
        """Escrow an order's reward, fee and bond; returns its order id and the transaction's hash (32 bytes each).

        Args:
            seal_by_s: until when the order can be sealed (seconds of the chain); see `refundable_from_s`.
            spec_hash: SHA-256 of the `Order` record.
            nonce: the client's own number for it; an id is used once for ever.
        Raises:
            InsufficientBalance: this account holds less than the three together.
            TransactionUnconfirmed: it was sent, and nobody knows yet whether it is paid; it names order and hash.
            ChainReverted: OrderExists, or BadParameter (reward too small, seal_by_s in the past or too far ahead).
        """
        total = reward_grains + fee_grains + bond_grains
        order = order_id(Address(self._me()), nonce, seal_by_s, spec_hash)
        terms = (reward_grains, fee_grains, bond_grains, seal_by_s, spec_hash, nonce)
        at = self.contracts.escrow
        try:
            with self._account.turn():
                self._require_balance(total)
                permit = self._permit(at, total)
                receipt = self._account.send("OrderEscrow", at, "placeOrderWithPermit", *terms, *permit)
        except TransactionUnconfirmed as error:
            raise TransactionUnconfirmed(error.reason, error.transaction, order=order, wanted=error.wanted) from error
        return order, receipt.transaction

    def refund(self, seal_by_s: int, spec_hash: bytes, nonce: int, *, client: bytes | None = None) -> Receipt:
        """Return an unsealed order's escrow to its client, once `refundable_from_s` has come.

        Raises:
            ChainReverted: TooEarly with the second from which on it will do, or UnknownOrder (never placed, sealed,
                refunded already).
        """
        who = self._me() if client is None else client
        escrow = self.contracts.escrow
        return self._account.send("OrderEscrow", escrow, "refund", who, nonce, seal_by_s, spec_hash)

    def refundable_from_s(self, seal_by_s: int) -> int:
        """The second from which on an unsealed order with this last date may be refunded, as things stand now: once
        the network settles an epoch after `seal_by_s` and the grace period it is the end of that period, and else that
        of the longer one for a network that stands still.
        """
        return int(self._account.read("OrderEscrow", self.contracts.escrow, "refundableFrom", seal_by_s)[0])

    def escrowed_grains(self, order: bytes) -> int:
        """Grains that the escrow holds for an order id; 0 once it is sealed or refunded."""
        return int(self._account.read("OrderEscrow", self.contracts.escrow, "orders", order)[1])

    def is_placed(self, order: bytes) -> bool:
        """Whether an order id was ever paid into the escrow, also when it is sealed or refunded by now."""
        return any(self._account.read("OrderEscrow", self.contracts.escrow, "orders", order)[0])

    def missing_escrows(self, order_ids: Sequence[bytes]) -> list[bytes]:
        """Those of some orders whose money the escrow does not hold: an epoch that names one is refused."""
        return [order for order in order_ids if not self.escrowed_grains(order)]

    def lacking_escrows(self, due_grains: Mapping[bytes, int], confirmations: int) -> list[bytes]:
        """Those of some orders whose money the escrow never got, or got less of than is due.

        Looked at in the newest block and in the newest one with so many confirmations: only what both say counts. An
        order that was sealed or refunded is not among them, since its client is remembered.

        Args:
            due_grains: what each order's escrow should hold, by order id.
        """
        newest = self._account.height()
        deep = newest - confirmations
        blocks = {newest, deep if deep > self.contracts.first_block else newest}
        return [
            order for order, due in due_grains.items() if all(self._is_lacking(order, due, block) for block in blocks)
        ]

    def _is_lacking(self, order: bytes, due_grains: int, block: int) -> bool:
        client, held = self._account.read_at(block, "OrderEscrow", self.contracts.escrow, "orders", order)
        return not any(client) or 0 < held < due_grains

    # ------------------------------------------------------------ settlement

    def signers(self) -> tuple[int, int, tuple[bytes, ...]]:
        """The signer set in force: its id, its threshold, its keys (addresses, ascending)."""
        at = self.contracts.settlement
        set_id, threshold, keys = (
            self._account.read("RewardSettlement", at, name)[0] for name in ("signerSetId", "threshold", "signers")
        )
        return set_id, threshold, keys

    def epoch(self) -> int:
        """The last settled epoch; 0 before the first."""
        return int(self._account.read("RewardSettlement", self.contracts.settlement, "epoch")[0])

    def settle(self, settlement: Settlement, order_ids: Sequence[bytes], signatures: Mapping[bytes, bytes]) -> Receipt:
        """Settle an epoch with the aggregators' signatures.

        Args:
            order_ids: the sealed orders, in the order that `settlement.orders_hash` binds.
            signatures: 65-byte signatures of `settlement_digest` by signer address. Those of other keys, and those
                that do not verify, are left out; of the rest as many are sent as the threshold.
        Raises:
            NotEnoughSignatures: fewer valid ones than the threshold; nothing was sent.
            ChainReverted: WrongEpoch, WrongSigners, TooEarly, OrdersMismatch, UnknownOrder, Insolvent, IsPaused.
        """
        _, threshold, keys = self.signers()
        digest = settlement_digest(self.contracts.chain_id, self.contracts.settlement, settlement)
        bitmap, packed = pack_signatures(digest, keys, threshold, signatures)
        fields = tuple(getattr(settlement, name) for name in settlement.__struct_fields__)
        at = self.contracts.settlement
        return self._account.send("RewardSettlement", at, "settle", fields, list(order_ids), bitmap, packed)

    def rotate(
        self, set_id: int, threshold: int, stakers: Sequence[bytes], signatures: Mapping[bytes, bytes]
    ) -> Receipt:
        """Hand over to another signer set with the current signers' signatures.

        Args:
            set_id: the new set's number, one above the current one's.
            stakers: the accounts that stake for it, in the order of their signing keys.
            signatures: 65-byte signatures of `rotation_digest` by signer address; chosen from as in `settle`.
        Raises:
            NotEnoughSignatures: fewer valid ones than the threshold; nothing was sent.
            ChainReverted: BadSignatures (it is another set's turn), BadParameter (a staker is not staked any more, or
                has another signing key by now).
        """
        _, needed, keys = self.signers()
        at = self.contracts.settlement
        digest = rotation_digest(self.contracts.chain_id, at, set_id, threshold, stakers)
        bitmap, packed = pack_signatures(digest, keys, needed, signatures)
        return self._account.send("RewardSettlement", at, "rotate", list(stakers), threshold, bitmap, packed)

    def set_signing_key(self, key: Identity) -> Receipt:
        """Name the key that signs for this account, its own or another, from the next signer set that it is in.

        Args:
            key: the signing key; it signs this account's address as a proof of possession.
        Raises:
            ChainReverted: ActiveSigner, the account is in the current set.
        """
        from eth_account import Account
        from eth_account.messages import encode_defunct

        at = self.contracts.registry
        owned = keccak256(
            abi.encode(
                ("string", "uint256", "address", "address"),
                ("PoT signing key", self.contracts.chain_id, at, self._me()),
            )
        )
        possession = bytes(Account.sign_message(encode_defunct(owned), key.secret).signature)
        return self._account.send("StakeRegistry", at, "setSigningKey", key.address, possession)

    def fund(self, grains: int) -> Receipt:
        """Transfer grains to the settlement contract, for the aggregators to allot (emission, donation).

        Raises:
            InsufficientBalance: this account holds fewer.
        """
        with self._account.turn():
            self._require_balance(grains)
            self._account.send("PoTToken", self.contracts.token, "approve", self.contracts.settlement, grains)
            return self._account.send("RewardSettlement", self.contracts.settlement, "fund", grains)

    # ------------------------------------------------------------ payouts

    def claim(self, account: bytes, cumulative_grains: int, proof: Sequence[bytes]) -> Receipt:
        """Pay an account, at its payout address, what it has earned and not received; anyone may do it for anyone.

        Raises:
            ChainReverted: BadProof (also while the claim delay runs), NothingToClaim, IsPaused.
        """
        at = self.contracts.settlement
        return self._account.send("RewardSettlement", at, "claim", account, cumulative_grains, list(proof))

    def claim_many(self, claims: Sequence[ClaimablePayout]) -> list[Receipt]:
        """Pay many accounts, each with its own proof, `MAX_CLAIMS` a transaction; those that are paid already, or
        cannot be paid, are skipped.
        """
        receipts = []
        for start in range(0, len(claims), MAX_CLAIMS):
            part = claims[start : start + MAX_CLAIMS]
            columns = (
                [claim.account for claim in part],
                [claim.cumulative_grains for claim in part],
                [list(claim.proof) for claim in part],
            )
            receipts.append(self._account.send("RewardSettlement", self.contracts.settlement, "claimMany", *columns))
        return receipts

    def claim_from_tree(self, tree: PayoutTree, cumulative_grains: Mapping[bytes, int]) -> list[Receipt]:
        """Pay many accounts out of one tree with a shared proof per transaction: the cheapest way for many.

        Args:
            tree: the active epoch's.
            cumulative_grains: by account; each must be a leaf of the tree.
        """
        # Neighbours in the tree share most of their proof.
        by_any_leaf = sorted((reward_leaf(account, grains), account) for account, grains in cumulative_grains.items())
        receipts = []
        for start in range(0, len(by_any_leaf), MAX_CLAIMS):
            by_leaf = dict(by_any_leaf[start : start + MAX_CLAIMS])
            leaves, siblings, flags = tree.multiproof(by_leaf)
            ordered = [by_leaf[leaf] for leaf in leaves]
            amounts = [cumulative_grains[account] for account in ordered]
            at = self.contracts.settlement
            receipts.append(self._account.send("RewardSettlement", at, "claimMulti", ordered, amounts, siblings, flags))
        return receipts

    def payout_address(self, account: bytes) -> bytes:
        """Where an account's payouts go (20 bytes): to itself, unless it said otherwise."""
        return bytes(self._account.read("RewardSettlement", self.contracts.settlement, "payee", account)[0])

    def set_payout_address(self, to: bytes | None) -> Receipt:
        """Have this account's payouts go to another address from now on; None: to itself again.

        Raises:
            ChainReverted: BadParameter, one of the network's contracts, out of which nobody could get them.
        """
        at = self.contracts.settlement
        return self._account.send("RewardSettlement", at, "setPayoutAddress", bytes(20) if to is None else to)

    def claimed_grains(self, account: bytes) -> int:
        """Grains that an account has been paid in all."""
        return int(self._account.read("RewardSettlement", self.contracts.settlement, "claimed", account)[0])

    def apply_slash(self, node: bytes, role: int, cumulative_grains: int, to: bytes, proof: Sequence[bytes]) -> Receipt:
        """Execute a slash that a settled epoch decided.

        Raises:
            ChainReverted: BadProof, NothingToClaim (applied already).
        """
        at = self.contracts.settlement
        return self._account.send("RewardSettlement", at, "applySlash", node, role, cumulative_grains, to, list(proof))

    # ------------------------------------------------------------ inside

    def _me(self) -> bytes:
        signer = self._account.signer
        return bytes(20) if signer is None else signer.address

    def _require_balance(self, grains: int) -> None:
        held = self.balance_grains()
        if grains > held:
            who = format_address(self._me())
            raise InsufficientBalance(f"{who} does not hold that many grains", seen=held, wanted=f"at least {grains}")

    def _permit(self, spender: bytes, grains: int) -> tuple[int, int, bytes, bytes]:
        """Deadline, v, r, s of an EIP-2612 permit: `spender` may transfer exactly so many grains, once."""
        token, read = self.contracts.token, self._account.read
        block = self._account.rpc.call("eth_getBlockByNumber", "latest", False) or {}
        deadline = max(read_quantity(block.get("timestamp")), int(time.time())) + _PERMIT_LIFE_S
        if self._account.signer is None:
            return deadline, 0, bytes(32), bytes(32)
        values = {
            "owner": self._me(),
            "spender": spender,
            "value": grains,
            "nonce": read("PoTToken", token, "nonces", self._me())[0],
            "deadline": deadline,
        }
        # Not the domain that the node reads from the token: a lie would have us sign for another token.
        domain = _DOMAIN | {"chainId": self.contracts.chain_id, "verifyingContract": token}
        message = TypedMessage(domain=domain, kind="Permit", fields=_PERMIT, values=values)
        signature = self._account.signer.sign_message(message)
        return deadline, signature[64], signature[:32], signature[32:64]


def pack_signatures(
    digest: bytes, keys: Sequence[bytes], threshold: int, signatures: Mapping[bytes, bytes]
) -> tuple[int, bytes]:
    """Bitmap and 64-byte EIP-2098 signatures in the order of `keys`, of the first `threshold` keys that signed
    `digest`.

    Raises:
        NotEnoughSignatures: fewer keys signed it.
    """
    bitmap, packed, count = 0, [], 0
    for i, key in enumerate(keys):
        signature = signatures.get(key)
        if count == threshold:
            break
        if signature is None or not _signed_by(digest, key, signature):
            continue
        bitmap |= 1 << i
        packed.append(_compact(signature))
        count += 1
    if count < threshold or threshold == 0:
        raise NotEnoughSignatures("too few valid signatures of current signers", seen=count, wanted=threshold)
    return bitmap, b"".join(packed)


def _signed_by(digest: bytes, key: bytes, signature: bytes) -> bool:
    try:
        return recover(digest, signature) == key
    except BadSignature:
        return False


def _compact(signature: bytes) -> bytes:
    """EIP-2098: the parity moves into the top bit of s, which a low s leaves free."""
    return signature[:32] + (int.from_bytes(signature[32:64], "big") | signature[64] << 255).to_bytes(32, "big")
