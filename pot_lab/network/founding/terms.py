"""What the founders of a network agree on: one digest of `network.toml`, and the signatures of all over it.

The digest leaves out what each host may choose for itself: the address of its chain node, its cap on fees, and the
handovers that came later. Everything else is in it, so two hosts with one digest run one network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pot_lab.crypto.canonical import Record, encode, tagged_hash
from pot_lab.crypto.identity import Identity, format_address, recover
from pot_lab.errors import PotLabError
from pot_lab.network.chain_access import chain_of
from pot_lab.network.config import NetworkConfig
from pot_lab.network.genesis import genesis_of


class NotApproved(PotLabError):
    """A `network.toml` lacks signatures of its aggregators, or holds one that is of another file.

    What to do: have each aggregator's operator run `pot-lab network sign` on the same file, and use that.
    """


class _Place(Record, frozen=True, kw_only=True):
    host: str
    peer_port: int
    client_port: int
    custody_port: int
    curve_public: str
    address: bytes
    sealing_public: bytes


class _Terms(Record, frozen=True, kw_only=True):
    network_id: bytes
    places: tuple[_Place, ...]
    contracts: tuple[bytes, bytes, bytes, bytes]
    chain_id: int
    confirmations: int
    first_block: int
    store_url: str
    private_links: str
    durability: str


def terms_digest(config: NetworkConfig) -> bytes:
    """32 bytes that are equal for two files exactly if they describe one network alike.

    Raises:
        BadConfig: the file names no chain, or does not hash to its network id.
    """
    genesis = genesis_of(config)
    chain = chain_of(config)
    terms = _Terms(
        network_id=genesis.network_id,
        places=tuple(
            _Place(
                host=entry.host,
                peer_port=entry.peer_port,
                client_port=entry.client_port,
                custody_port=entry.custody_port,
                curve_public=entry.curve_public,
                address=entry.address,
                sealing_public=entry.sealing_public,
            )
            for entry in config.aggregators
        ),
        contracts=(chain.token, chain.registry, chain.escrow, chain.settlement),
        chain_id=chain.chain_id,
        confirmations=chain.confirmations,
        first_block=chain.first_block,
        store_url=config.store_url,
        private_links=str(config.private_links),
        durability=config.durability,
    )
    return tagged_hash("pot-lab/network/terms/1", encode(terms))


def sign_terms(config: NetworkConfig, identity: Identity) -> NetworkConfig:
    """The same file with this aggregator's signature.

    Raises:
        NotApproved: the account is none of its aggregators'.
    """
    if identity.address not in {entry.address for entry in config.aggregators}:
        raise NotApproved(
            "this account is none of the file's aggregators", seen=format_address(identity.address), wanted="one's keys"
        )
    return _with_approvals(config, [*config.approvals, identity.sign(terms_digest(config))])


def collect_approvals(config: NetworkConfig, copies: Iterable[NetworkConfig]) -> NetworkConfig:
    """The same file with the signatures of copies that others signed too.

    Raises:
        NotApproved: a copy describes another network.
    """
    digest = terms_digest(config)
    approvals = list(config.approvals)
    for copy in copies:
        if terms_digest(copy) != digest:
            raise NotApproved("a copy is not of the same network", seen=terms_digest(copy), wanted=digest)
        approvals += copy.approvals
    return _with_approvals(config, approvals)


def approved_by(config: NetworkConfig) -> list[int]:
    """Indices of the aggregators that signed this file.

    Raises:
        NotApproved: it holds a signature of somebody else, or of another text.
    """
    return sorted(_signers(config, config.approvals))


def require_approval(config: NetworkConfig) -> None:
    """Raise NotApproved unless all aggregators signed this file."""
    signed = approved_by(config)
    missing = [str(entry.index) for entry in config.aggregators if entry.index not in signed]
    if missing:
        raise NotApproved(
            "not all aggregators signed this network.toml",
            seen=f"no signature of {', '.join(missing)}",
            wanted=f"signatures of all {config.n}",
        )


def terms_words(config: NetworkConfig) -> list[str]:
    """What a signature binds, in lines for people."""
    chain = chain_of(config)
    lines = [
        f"network     {config.name}, id {config.network_id.hex()}",
        f"decides     {config.q} of {config.n} aggregators; {config.f} may be faulty",
    ]
    lines += [
        f"  {entry.index:3}  {format_address(entry.address)} at {entry.host}, ports {entry.peer_port}, "
        f"{entry.client_port} and {entry.custody_port}"
        for entry in config.aggregators
    ]
    lines += [
        f"chain       id {chain.chain_id}, {chain.confirmations} confirmations, from block {chain.first_block}",
        *(f"  {name:<10} {format_address(getattr(chain, name))}" for name in _CONTRACTS),
        f"store       {config.store_url or 'none'}",
        f"durability  {config.durability}",
    ]
    lines += [f"parameter   {name} = {_shown(value)}" for name, value in config.parameters.items()]
    return [*lines, f"digest      {terms_digest(config).hex()}"]


_CONTRACTS = ("token", "registry", "escrow", "settlement")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _with_approvals(config: NetworkConfig, approvals: Iterable[bytes]) -> NetworkConfig:
    signers = _signers(config, approvals)
    return msgspec.structs.replace(config, approvals=tuple(signers[index] for index in sorted(signers)))


def _signers(config: NetworkConfig, approvals: Iterable[bytes]) -> dict[int, bytes]:
    digest = terms_digest(config)
    indices = {entry.address: entry.index for entry in config.aggregators}
    signers: dict[int, bytes] = {}
    for approval in approvals:
        try:
            index = indices[recover(digest, approval)]
        except (PotLabError, KeyError):
            raise NotApproved(
                "network.toml holds a signature that is of another text, or of no aggregator of it", seen=approval
            ) from None
        signers[index] = approval
    return signers
