"""Whether a host is ready to run its aggregator: its file, its keys, its limits, its chain, and the other hosts."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pot_lab import __version__
from pot_lab.agreement.quorum import quorum
from pot_lab.crypto.identity import format_address
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.keys_folder import load_keys
from pot_lab.network.chain_access import chain_of, contracts_of
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.founding.meeting import HostMet
from pot_lab.network.founding.terms import approved_by, terms_digest
from pot_lab.network.genesis import genesis_of
from pot_lab.protocol.parameters import Role

LEAST_DESCRIPTORS = 8_192
MOST_OFFSET_MS = 500
"""By how much two hosts' clocks may differ; beyond 2,500 ms an aggregator takes no part."""
_WORST_OFFSET_MS = 2_500
_MOST_CHAIN_OFFSET_S = 3_600


class CheckResult(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        level: `ok`, `warning`, or `wrong` for what keeps the network from working.
        text: what was found.
        remedy: what to do about it; empty where nothing is to be done.
    """

    level: str
    text: str
    remedy: str = ""


def check_file(config: NetworkConfig) -> list[CheckResult]:
    """Whether the file hashes to its id, and whether all founders signed it."""
    try:
        genesis_of(config)
        found = [CheckResult("ok", f"digest {terms_digest(config).hex()}: every host must show the same")]
        signed = approved_by(config)
    except PotLabError as error:
        return [CheckResult("wrong", f"the file: {error}", "get the file again, and have all sign it")]
    missing = [entry.index for entry in config.aggregators if entry.index not in signed]
    if missing:
        text = f"aggregators {', '.join(map(str, missing))} have not signed the file"
        found.append(CheckResult("warning", text, "`pot-lab network sign` on those hosts, then --with their copies"))
    else:
        found.append(CheckResult("ok", f"all {config.n} aggregators signed the file"))
    return found


def check_keys(config: NetworkConfig, folder: Path) -> tuple[AggregatorEntry | None, list[CheckResult]]:
    """Which aggregator of the file these keys are, and whether all of them are that one's."""
    try:
        keys = load_keys(folder)[0]
    except PotLabError as error:
        return None, [CheckResult("wrong", f"the keys: {error}", "`pot-lab network keys`, or the folder's backup")]
    address = keys.identity.address
    entry = next((each for each in config.aggregators if each.address == address), None)
    if entry is None:
        text = f"account {format_address(address)} is none of the file's aggregators"
        return None, [CheckResult("wrong", text, "use the keys that the card was made from")]
    found = [CheckResult("ok", f"these keys are aggregator {entry.index}, at {entry.host}")]
    for name, seen, wanted in (
        ("CURVE", keys.curve.public, entry.curve_public),
        ("sealing", keys.sealing.public, entry.sealing_public),
    ):
        if seen != wanted:
            found.append(
                CheckResult("wrong", f"the {name} key is not the one in the file", "restore the folder's backup")
            )
    return entry, found


def check_host() -> list[CheckResult]:
    """This host's limits."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors < LEAST_DESCRIPTORS:
        text = f"a process may open {descriptors} files; wanted: {LEAST_DESCRIPTORS}"
        return [CheckResult("warning", text, f"`ulimit -n {LEAST_DESCRIPTORS}`, or LimitNOFILE={LEAST_DESCRIPTORS}")]
    return [CheckResult("ok", f"a process may open {descriptors} files")]


def check_chain(config: NetworkConfig, own: AggregatorEntry | None) -> list[CheckResult]:
    """The chain's node, the contracts on it, the signers, the stakes' parameters, and this account's coin."""
    from pot_lab.chain.inspection import ContractInspector

    parameters = genesis_of(config).parameters
    try:
        with ContractInspector(chain_of(config).rpc_url, contracts_of(config)) as inspector:
            troubles = inspector.verify()
            if not troubles:
                troubles = inspector.signer_troubles([entry.address for entry in config.aggregators])
                troubles += inspector.parameter_troubles(
                    [parameters.min_stake_grains[role] for role in Role], parameters.unbonding_ms // 1_000
                )
            found = [CheckResult("wrong", each, "`pot-lab chain status` shows what is there") for each in troubles]
            if not troubles:
                found.append(CheckResult("ok", "the chain has this package's contracts, with the file's signers"))
            if not troubles:
                remedy = "the contracts' owner can raise it: OrderEscrow.setGraces"
                found += [CheckResult("warning", each, remedy) for each in inspector.grace_troubles()]
            offset_s = inspector.clock_offset_s()
            if abs(offset_s) > _MOST_CHAIN_OFFSET_S:
                text = f"the chain's newest block is {offset_s:.0f} s from this host's clock"
                found.append(CheckResult("warning", text, "set the clock, or use a node that is not behind"))
            if own is not None and inspector.base_fee_wei() and not inspector.coin_wei(own.address):
                text = f"account {format_address(own.address)} has no coin to pay for gas"
                found.append(CheckResult("warning", text, "send it some of the chain's own coin, to settle epochs"))
            return found
    except PotLabError as error:
        return [CheckResult("wrong", f"the chain: {error}", "check the node and rpc_url in network.toml")]


def check_hosts(config: NetworkConfig, mets: Sequence[HostMet], *, is_own_running: bool) -> list[CheckResult]:
    """What meeting the others showed.

    Args:
        is_own_running: whether this host only asked, without its ports open.
    """
    digest, found = terms_digest(config), []
    for met in mets:
        where = f"aggregator {met.entry.index} at {met.entry.host}"
        presence = met.presence
        if presence is None:
            text = f"{where}: port {met.entry.client_port} did not answer with its key"
            remedy = "start `pot-lab network check --meet` there at the same time; open the port; compare keys"
            found.append(CheckResult("wrong", text, remedy))
            continue
        troubles = []
        if presence.digest != digest:
            troubles.append(CheckResult("wrong", f"{where} has another network.toml", "give all hosts the same file"))
        if met.peer_port_open is False:
            text = f"{where}: port {met.entry.peer_port} for aggregators did not answer with its key"
            troubles.append(CheckResult("wrong", text, "open the port to the other aggregators"))
        if not is_own_running and not presence.running and not met.asked:
            text = f"{where} did not reach this host"
            troubles.append(CheckResult("wrong", text, "open this host's ports; check host and ports of its card"))
        if presence.version != __version__:
            text = f"{where} runs version {presence.version}, this host {__version__}"
            troubles.append(CheckResult("warning", text, "install the same version everywhere"))
        offset_ms = max(0, abs(met.offset_ms) - met.uncertainty_ms)
        if offset_ms > MOST_OFFSET_MS:
            level = "wrong" if offset_ms > _WORST_OFFSET_MS else "warning"
            text = f"the clock of {where} differs by {met.offset_ms / 1_000:+.1f} s"
            troubles.append(CheckResult(level, text, "let NTP keep both clocks"))
        found += troubles or [CheckResult("ok", f"{where} answers{', and runs' if presence.running else ''}")]
    good = sum(met.presence is not None and met.presence.digest == digest for met in mets) + 1
    if good < quorum(config.n):
        found.append(CheckResult("wrong", f"{good} hosts agree; {quorum(config.n)} of {config.n} must", ""))
    return found
