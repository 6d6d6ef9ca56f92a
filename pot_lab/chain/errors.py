"""What can go wrong between us and the chain, each with its own name.

A contract's refusal reaches the caller as `ChainReverted` with the contract's own error name and arguments, on every
kind of node. A node is not trusted: an error here repeats its answer and proves nothing.
"""

from __future__ import annotations

from typing import Any

from pot_lab.errors import PotLabError


class ChainError(PotLabError):
    """Base of everything that the chain, or the way to it, refuses."""


class ChainUnreachable(ChainError):
    """The node does not answer, or not in time. Whether a transaction that was sent is mined is unknown.

    What to do: check the node and `rpc_url` in `network.toml`; look the transaction up before you send it again.
    """


class ChainBusy(ChainUnreachable):
    """The node answers, but not now: a rate limit, an overload, or a time limit of its own.

    What to do: wait and try again; if it stays so, use another node or a plan with a higher limit.
    """


class TransactionUnconfirmed(ChainUnreachable):
    """A transaction was sent, and whether it was mined is unknown: the node went away, or no block took it in time.

    What to do: do not send it again. Look the transaction up by its hash, in a block explorer or at another node; if it
    was mined, what it was for is done.

    Args:
        transaction: its hash (32 bytes), also in the message, whole.
        order: id of the order that it pays for (32 bytes), if it is one's.
    """

    def __init__(self, message: str, transaction: bytes, *, order: bytes = b"", wanted: str | None = None) -> None:
        named = f"transaction 0x{transaction.hex()}" + (f", order 0x{order.hex()}" if order else "")
        super().__init__(f"{message}: {named}", wanted=wanted)
        self.transaction = transaction
        self.order = order
        self.reason = message


class FeeAboveCap(ChainError):
    """The chain asks more for gas than the network's file lets a transaction cost; nothing was sent.

    What to do: wait until the chain is less busy, or raise `max_fee_gwei` in the `[chain]` table of `network.toml`.
    """


class NotConfirmed(ChainError):
    """A transaction was shown and not confirmed; nothing was sent.

    What to do: answer with y, or give `--yes` where no terminal can ask.
    """


class WrongSignature(ChainError):
    """Who keeps an account's key signed something else than it was asked for, or for another account.

    What to do: do not use this signer; check its address, and which account it has open.
    """


class AccountBusy(ChainError):
    """Another process sends a transaction of this account; nothing was sent.

    What to do: wait for the other process, or end it.
    """


class ChainRefused(ChainError):
    """The node answered with an error of its own (nonce too low, no coin for gas, unknown method), or malformed.

    What to do: read the node's message; for a missing gas balance, fund the account with the chain's own coin.
    """


class ChainReverted(ChainError):
    """A contract refused the call.

    What to do: the contract's named error says which of its rules refused; see chain.md.

    Args:
        name: the contract's named error, e.g. "Insolvent"; "Error" for a text, "Panic" for a failed assertion,
            "Reverted" when it gave no reason.
        arguments: the error's arguments in order.
        transaction: hash of the transaction (32 bytes) if it was mined and failed; None when it was never sent.
    """

    def __init__(self, name: str, arguments: tuple[Any, ...] = (), *, transaction: bytes | None = None) -> None:
        shown = ", ".join("0x" + a.hex() if isinstance(a, bytes) else str(a) for a in arguments)
        super().__init__(f"the contract refused the call with {name}({shown})")
        self.name = name
        self.arguments = arguments
        self.transaction = transaction


class InsufficientBalance(ChainError):
    """The account holds fewer grains than the call needs; nothing was sent.

    What to do: fund the account, or order for less.
    """


class NotEnoughSignatures(ChainError):
    """Fewer valid signatures of current signers than the contract's threshold; nothing was sent.

    What to do: wait until more aggregators have signed; `pot-lab seat` shows who is reachable.
    """


class BadOwnerAct(ChainError):
    """A proposal to the contracts' owner cannot be read, is another network's, or is not one that can be carried out.

    What to do: draft it again with `pot-lab chain propose`, and have it signed by the signers of today.
    """


class DeepReorganisation(ChainError):
    """A block that counted as final left the chain: the confirmation depth is too small for this chain.

    What to do: raise `confirmations` in `network.toml`, and have every aggregator use the new file.
    """


class BadArtifact(ChainError):
    """The compiled contracts in the package are damaged, or do not belong to the sources beside them.

    What to do: reinstall the package, or compile the contracts again (chain.md).
    """


class EvmRefused(PotLabError):
    """The chain does not accept this transaction: bad signature, wrong nonce, too much gas.

    What to do: correct what the message names and send the transaction again.
    """


class EvmReverted(PotLabError):
    """A call ran and failed; `data` is what the contract returned (bytes).

    What to do: decode `data`: it holds the contract's named error.
    """

    def __init__(self, data: bytes, reason: str) -> None:
        super().__init__(f"execution reverted: {reason}" if reason else "execution reverted")
        self.data = data


class DamagedJournal(PotLabError):
    """A chain journal cannot be replayed: it was cut in the middle, or belongs to another chain.

    What to do: start the testnet anew with `pot-lab testnet up --fresh`; its money is play money.
    """
