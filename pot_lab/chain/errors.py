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
    """The node does not answer, or not in time. Whether a transaction that was sent is mined is unknown."""


class ChainRefused(ChainError):
    """The node answered with an error of its own (nonce too low, no coin for gas, unknown method), or malformed."""


class ChainReverted(ChainError):
    """A contract refused the call.

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
    """The account holds fewer grains than the call needs; nothing was sent."""


class NotEnoughSignatures(ChainError):
    """Fewer valid signatures of current signers than the contract's threshold; nothing was sent."""


class DeepReorganisation(ChainError):
    """A block that counted as final left the chain: the confirmation depth is too small for this chain."""


class BadArtifact(ChainError):
    """The compiled contracts in the package are damaged, or do not belong to the sources beside them."""
