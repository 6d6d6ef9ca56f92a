"""A transaction before it is sent, in words: what it does, from which account, and what it may cost.

A wallet that is given a way to ask shows every transaction so and sends it only if the answer is yes. The call was
rehearsed by then: the chain would accept it now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pot_lab.crypto.identity import format_address
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role

_WEI_PER_COIN: Final = 10**18
_SHOWN_CHARACTERS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractAction:
    """A call of a contract's function, or its creation (`function` is then "constructor")."""

    contract: str
    function: str
    arguments: tuple[Any, ...]

    @property
    def words(self) -> str:
        """What it does, in one sentence without a full stop."""
        say = _SENTENCES.get((self.contract, self.function))
        if say is not None:
            return say(*self.arguments)
        return f"call {self.contract}.{self.function}({', '.join(map(_short, self.arguments))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedTransaction:
    """A rehearsed transaction that was not sent.

    Attributes:
        account: whose it is (20 bytes).
        chain_id: on which chain.
        gas: the most that it may use.
        fee_wei: the most that it may cost, in wei of the chain's own coin; `gas` times the most for each.
    """

    action: ContractAction
    account: bytes
    chain_id: int
    gas: int
    fee_wei: int

    @property
    def words(self) -> str:
        """All of it in words, over several lines."""
        cost = "free" if not self.fee_wei else f"at most {_decimal(self.fee_wei, _WEI_PER_COIN)} of the chain's coin"
        return (
            f"{self.action.words[:1].upper()}{self.action.words[1:]}.\n"
            f"  account  {format_address(self.account)}\n"
            f"  chain    {self.chain_id}\n"
            f"  gas      at most {self.gas:,}; {cost}"
        )

    def as_table(self) -> dict[str, Any]:
        """For JSON: the words, and each number."""
        return {
            "does": self.action.words,
            "contract": self.action.contract,
            "function": self.action.function,
            "account": format_address(self.account),
            "chain_id": self.chain_id,
            "gas": self.gas,
            "fee_wei": self.fee_wei,
        }


Confirm = Callable[[ProposedTransaction], bool]
"""Asks whether a transaction shall be sent."""


def _decimal(amount: int, unit: int) -> str:
    text = f"{Decimal(amount) / unit:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _pot(grains: int) -> str:
    return f"{_decimal(grains, GRAINS_PER_POT)} POT"


def _role(role: int) -> str:
    return Role(role).name.lower()


def _short(value: Any) -> str:
    text = "0x" + value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _stake(role: int, grains: int, *_: Any) -> str:
    return f"stake {_pot(grains)} as {_role(role)}, and permit the stake registry to take exactly that"


def _unstake(role: int, grains: int) -> str:
    return f"begin to unstake {_pot(grains)} as {_role(role)}; it can be slashed until it is withdrawn"


def _order(reward: int, fee: int, bond: int, *_: Any) -> str:
    return (
        f"pay {_pot(reward + fee + bond)} into an order's escrow (reward {_pot(reward)}, fee {_pot(fee)}, bond "
        f"{_pot(bond)}), and permit the escrow to take exactly that"
    )


def _days(seconds: int) -> str:
    return f"{_decimal(seconds, 86_400)} days" if seconds >= 86_400 else f"{seconds} s"


_SENTENCES: Final[dict[tuple[str, str], Callable[..., str]]] = {
    ("PoTToken", "transfer"): lambda to, grains: f"send {_pot(grains)} to {format_address(to)}",
    ("PoTToken", "approve"): lambda to, grains: f"let the contract {format_address(to)} take up to {_pot(grains)}",
    ("StakeRegistry", "stakeWithPermit"): _stake,
    ("StakeRegistry", "requestUnstake"): _unstake,
    ("StakeRegistry", "withdraw"): lambda role: f"withdraw what has finished unbonding as {_role(role)}",
    ("StakeRegistry", "setSigningKey"): lambda key, _: f"let the key {format_address(key)} sign for this account",
    ("OrderEscrow", "placeOrderWithPermit"): _order,
    ("OrderEscrow", "refund"): lambda client, *_: f"give an order's escrow back to {format_address(client)}",
    ("RewardSettlement", "fund"): lambda grains: (
        f"give {_pot(grains)} to the network for rewards; they do not come back"
    ),
    ("RewardSettlement", "setPayoutAddress"): lambda to: (
        f"have all payouts of this account go to {format_address(to)} from now on"
        if any(to)
        else "have all payouts of this account go to the account itself again"
    ),
    ("RewardSettlement", "claim"): lambda account, grains, _: (
        f"pay out what {format_address(account)} has earned, {_pot(grains)} in all since the first epoch"
    ),
    ("OrderEscrow", "setMinReward"): lambda grains: f"set the least reward of an order to {_pot(grains)}",
    ("OrderEscrow", "setGraces"): lambda grace, stall: (
        f"refund unsealed orders {_days(grace)} after their last date, or {_days(stall)} where nothing is settled"
    ),
    ("OrderEscrow", "setSettlement"): lambda at: (
        f"let the contract {format_address(at)}, and no other, take the money of all orders from the escrow"
    ),
    ("StakeRegistry", "setSettlement"): lambda at: (
        f"let the contract {format_address(at)}, and no other, slash every stake"
    ),
    ("StakeRegistry", "setMinStake"): lambda role, grains: f"set the least stake of a {_role(role)} to {_pot(grains)}",
    ("StakeRegistry", "setUnbondingPeriod"): lambda seconds: f"have stake unbond for {_days(seconds)}",
    ("StakeRegistry", "setTreasury"): lambda to: f"send slashed stake to {format_address(to)}",
    ("RewardSettlement", "setGuardian"): lambda who: f"let {format_address(who)} pause settlements, and veto them",
    ("RewardSettlement", "setCycle"): lambda cycle, delay: (
        f"settle every {cycle} s at most, and pay out {delay} s after a settlement"
    ),
    ("RewardSettlement", "rotate"): lambda stakers, threshold, *_: (
        f"seat {len(stakers)} signers, of whom {threshold} settle: {', '.join(map(format_address, stakers))}"
    ),
    ("Timelock", "updateDelay"): lambda seconds: f"have every act of the owner wait for {_days(seconds)}",
    ("Timelock", "executeBatch"): lambda targets, *_: f"carry out a proposal of {len(targets)} calls",
    ("Governor", "propose"): lambda number, targets, *_: (
        f"propose {len(targets)} calls that a quorum signed, as proposal {number}"
    ),
    ("Governor", "proposeRecovery"): lambda number, targets, *_: (
        f"propose {len(targets)} calls as the founder of a network that stands still, as proposal {number}"
    ),
    ("Governor", "cancel"): lambda name, *_: f"drop the waiting proposal 0x{name.hex()}",
}
