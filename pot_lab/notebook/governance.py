"""The network's parameters and the votes on them, for a member's notebook: `lab.governance`.

lab.governance.propose(update_ms=120_000)
lab.governance.vote(3, True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pot_lab.crypto.identity import Identity, format_address, parse_address
from pot_lab.errors import PotLabError, one_of
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.quantities import pot, seconds_text
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.proposals import ParameterChange, change, type_in_words, value_of
from pot_lab.protocol.transactions import Propose, ProposeVersion, Vote
from pot_lab.protocol.views import GovernanceView, ProposalView


class GovernanceCalls:
    """What a member can do about the network's rules (protocol.md, "Governance").

    Args:
        client: the connection to the ledger.
        identity: the account that proposes and votes.
    """

    def __init__(self, client: LedgerClient, identity: Identity) -> None:
        self._client, self._identity = client, identity

    def view(self) -> GovernanceView:
        """Parameters, version of the rules, and proposals as the ledger has them now.

        Raises:
            Unreachable: too few aggregators answered in time.
        """
        return self._client.governance()

    def parameters(self) -> Parameters:
        """The parameters in force."""
        return self.view().parameters

    def propose(self, *, role: str | None = None, **values: Any) -> int:
        """Propose other values of parameters.

        Args:
            role: of which stake the bond is, e.g. "validator"; by default of the role with most stake.
            values: parameters by name: whole numbers in the unit of the name, a list of them, or an account.
        Returns: the proposal's number.
        Raises:
            BadArgument: a value is not of its parameter's type, or the account has no role.
            BadProposal, BadParameter, TooManyProposals, InsufficientStake: the ledger refuses it.

        Example:
            >>> lab.governance.propose(update_ms=120_000)  # doctest: +SKIP
            1
        """
        reply = self._client.submit(Propose(int(self._role(role)), changes_of(values)))
        return int.from_bytes(reply.result, "big")

    def propose_version(self, version: int, install: str, *, role: str | None = None) -> int:
        """Propose the next version of the protocol's rules.

        Args:
            version: its number.
            install: the release that knows it, as those who lack it are told, e.g. "pot-lab 2.0".
            role: as for `propose`.
        Returns: the proposal's number.
        Raises:
            BadArgument, BadProposal, TooManyProposals, InsufficientStake: as for `propose`.
        """
        reply = self._client.submit(ProposeVersion(int(self._role(role)), version, install))
        return int.from_bytes(reply.result, "big")

    def vote(self, number: int, approve: bool) -> None:
        """Vote for a proposal or against it, once.

        Raises:
            BadProposal: no such proposal is voted on.
            AlreadyDone: the account has voted.
            NotAllowed: it had no stake in a registered role when the vote began.
        """
        self._client.submit(Vote(number, approve))

    def _role(self, name: str | None) -> Role:
        if name is not None:
            try:
                return Role[name.upper()]
            except KeyError:
                names = [role.name.lower() for role in Role]
                raise BadArgument("there is no such role", seen=name, wanted=one_of(name, names)) from None
        stakes = [stake for stake in self._client.account(self._identity.address).stakes if stake.active]
        if not stakes:
            raise BadArgument(
                "only a member may propose, and the account is registered in no role",
                seen=format_address(self._identity.address),
                wanted="a provider, validator, verifier or aggregator",
            )
        return Role(max(stakes, key=lambda stake: stake.bonded_grains - stake.locked_grains).role)


def changes_of(values: Mapping[str, Any]) -> tuple[ParameterChange, ...]:
    """Changes of parameters as a proposal carries them.

    Args:
        values: by name; a list of whole numbers may be text, `"1,2,3"`, an account `0x` and 40 hexadecimal digits.
    Raises:
        BadArgument: there is no such parameter, no vote changes it, or a value is not of its type.
    """
    found = tuple(change(name, _plain(value)) for name, value in values.items())
    for one in found:
        try:
            value_of(one)
        except PotLabError as error:
            raise BadArgument(error.message, seen=values[one.name], wanted=_wanted(one.name, error)) from error
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip().replace("_", "")
        if text.startswith("0x"):
            try:
                return parse_address(text)
            except PotLabError:
                return value
        parts = text.split(",")
        if all(part.strip().isdecimal() for part in parts):
            numbers = tuple(int(part) for part in parts)
            return numbers[0] if len(numbers) == 1 else numbers
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def _wanted(name: str, error: PotLabError) -> Any:
    return type_in_words(name) if name in Parameters.__struct_fields__ else error.wanted


def value_text(name: str, value: Any) -> str:
    """A parameter's value with its meaning: milliseconds as a time, grains as POT, basis points as a share."""
    if isinstance(value, bytes):
        return format_address(value)
    if isinstance(value, tuple):
        return ", ".join(value_text(name, each) for each in value)
    if name.endswith("_ms"):
        return f"{value} ({seconds_text(value)})"
    if name.endswith("_grains"):
        return f"{value} ({pot(value)} POT)"
    return f"{value} ({value / 100:g} %)" if name.endswith("_bp") else str(value)


def proposal_text(view: ProposalView) -> str:
    """One proposal in a line: number, how it stands, what it changes, and the votes in per cent of all stake."""
    changes = [f"{one.name} = {value_text(one.name, value_of(one))}" for one in view.changes]
    what = "; ".join(changes) or f"version {view.version} of the rules" + (f" ({view.install})" if view.install else "")
    total = view.total_grains or 1
    votes = f"{100 * view.for_grains / total:.1f} % for, {100 * view.against_grains / total:.1f} % against"
    return f"{view.number:5}  {view.outcome:<10}  {what}  ({votes})"
