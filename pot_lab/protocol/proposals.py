"""What the ledger remembers of votes on its own rules: proposals, who is for and against, the version in force.

Plain data; `governance` holds the rules (protocol.md, "Governance").
"""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.crypto.identity import Address
from pot_lab.errors import Malformed
from pot_lab.protocol.errors import BadProposal
from pot_lab.protocol.journal import Holder, State
from pot_lab.protocol.parameters import Parameters, Role

MAX_NAME = 64
MAX_VALUE_BYTES = 128
MAX_INSTALL = 128
FIXED = {"unbonding_ms": "the stake contract on the chain decides it"}
"""Parameters that no vote changes, and why."""

_TYPES: dict[str, Any] = {  # an Address is bytes by another name
    name: getattr(hint, "__supertype__", hint) for name, hint in typing.get_type_hints(Parameters).items()
}


class ParameterChange(Record, frozen=True):
    """A parameter's new value, in the canonical bytes of the parameter's type."""

    name: str
    value: bytes


def change(name: str, value: Any) -> ParameterChange:
    """A parameter's new value as a proposal carries it: a whole number, a tuple of them, or an account's 20 bytes."""
    return ParameterChange(name, encode(value))


def value_of(one: ParameterChange) -> Any:
    """The value that a change carries.

    Raises:
        BadProposal: there is no such parameter, no vote changes it, or the value is not of its type.
    """
    if one.name not in _TYPES or one.name in FIXED:
        raise BadProposal(
            f"no vote changes this parameter: {FIXED.get(one.name, 'there is none of this name')}",
            seen=one.name[:MAX_NAME],
            wanted=", ".join(name for name in _TYPES if name not in FIXED),
        )
    try:
        return decode(one.value, _TYPES[one.name], limit_bytes=MAX_VALUE_BYTES)
    except Malformed as error:
        raise BadProposal(
            f"the proposed value of {one.name} has the wrong type", seen=one.value, wanted=type_in_words(one.name)
        ) from error


def type_in_words(name: str) -> str:
    """What a value of the parameter looks like."""
    type_ = _TYPES[name]
    if type_ is bytes:
        return "an account of 20 bytes"
    return "a whole number" if type_ is int else f"{len(typing.get_args(type_))} whole numbers"


def changed(parameters: Parameters, changes: tuple[ParameterChange, ...]) -> Parameters:
    """The parameters with these changes made.

    Raises:
        BadProposal: a change names no parameter that a vote may change, or is none.
        BadParameter: a value is out of its bounds, or does not go with the others.
    """
    names = [one.name for one in changes]
    if len(set(names)) != len(names):
        raise BadProposal("a proposal names a parameter twice", seen=", ".join(names)[:MAX_NAME], wanted="each once")
    made = msgspec.structs.replace(parameters, **{one.name: value_of(one) for one in changes})
    made.check()
    return made


class Proposal(Holder, kw_only=True):
    """A proposal on which members vote, or that passed and waits to take force.

    Attributes:
        role: of which stake of the proposer the bond is.
        changes: parameters to change; empty for a new version of the rules.
        version, install: the next version of the rules, and the release that knows it; 0 and empty for parameters.
        activates_ms: when it takes force; 0 while it is voted on.
        quorum_bp, majority_bp: what it takes to pass, as it was when the vote began.
        weights: stake in grains of each account that may vote, when the vote began.
        votes: who is for it, and who is against; both are dropped when the votes are counted.
        result: stake for it, against it, and in all, once it has been counted.
    """

    proposer: Address
    role: Role
    bond_grains: int
    changes: tuple[ParameterChange, ...]
    version: int
    install: str
    opened_ms: int
    closes_ms: int
    activates_ms: int
    quorum_bp: int
    majority_bp: int
    weights: dict[Address, int]
    votes: dict[Address, bool] = msgspec.field(default_factory=dict)
    result: tuple[int, int, int] = (0, 0, 0)


class ProposalEnd(State, kw_only=True):
    """How a proposal ended: the stake for and against it, and in all; `outcome` is one of `OUTCOMES`."""

    number: int
    proposer: Address
    changes: tuple[ParameterChange, ...]
    version: int
    for_grains: int
    against_grains: int
    total_grains: int
    outcome: str
    ended_ms: int


OUTCOMES = ("in force", "rejected", "lapsed", "impossible", "fault")
"""Rejected: the votes were not for it. Lapsed: too little stake voted. Impossible: it no longer went with the other
parameters when it was to take force. Fault: the ledger could not count or apply it, a bug of ours."""


class OwnerActSignature(Record, frozen=True, kw_only=True):
    """What a signer signed for an act of the contracts' owner: the digest (32 bytes) of the proposal to the contracts
    that has this number there.
    """

    number: int
    digest: bytes
    signature: bytes


class OwnerActDue(Holder, kw_only=True):
    """An act of the contracts' owner that a vote asks for, until when it is kept, and who signed what for it."""

    changes: tuple[ParameterChange, ...]
    until_ms: int
    signatures: dict[Address, OwnerActSignature] = msgspec.field(default_factory=dict)


class Governance(Holder, kw_only=True):
    """Proposals by number, those that ended last, and which version of the rules is in force.

    `last` is the number of the newest proposal; `install` names the release that knows the version in force; `since`
    holds, for each version, the batch from which it is in force; `acts` are those of the contracts' owner, by the
    number of the proposal that asks for them.
    """

    last: int = 0
    proposals: dict[int, Proposal] = msgspec.field(default_factory=dict)
    ended: list[ProposalEnd] = msgspec.field(default_factory=list)
    version: int = 0
    install: str = ""
    since: dict[int, int] = msgspec.field(default_factory=dict)
    acts: dict[int, OwnerActDue] = msgspec.field(default_factory=dict)
