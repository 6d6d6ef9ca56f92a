"""One aggregator of a real network: the ledger behind the replica, the chain behind the duties, the keys from their
files.

`pot-lab aggregator` runs this. Everything it needs is in two folders: its keys (`keys_folder`), and its data (log,
history), which may be lost without losing money: the other aggregators have it too.
"""

from __future__ import annotations

from pathlib import Path

from pot_lab.consensus.membership import NO_SEAT
from pot_lab.errors import PotLabError
from pot_lab.forking import fork_folder
from pot_lab.home import home
from pot_lab.judging import HelperForks
from pot_lab.network.aggregator.custody import CUSTODY_FOLDER, AggregatorCustody
from pot_lab.network.aggregator.keys_folder import AggregatorKeys, load_keys
from pot_lab.network.aggregator.process import Aggregator
from pot_lab.network.aggregator.run import run_aggregator, stopped_by
from pot_lab.network.chain_access import chain_of, owner_acts_of, position_file_of, wallet_of, watcher_of
from pot_lab.network.config import AggregatorEntry, Listening, NetworkConfig
from pot_lab.network.duties.act_on_votes import ActOnVotes
from pot_lab.network.duties.attest_chain import AttestChain, ChainWatch, ConfirmedEvents
from pot_lab.network.duties.chain_queue import ChainQueue
from pot_lab.network.duties.deny_escrows import DenyEscrows
from pot_lab.network.duties.disputed_orders import DisputedOrders
from pot_lab.network.duties.judge import judge_pool
from pot_lab.network.duties.judge_disputes import JudgeDisputes
from pot_lab.network.duties.judge_openings import JudgeOpenings
from pot_lab.network.duties.model_keys import ModelKeys
from pot_lab.network.duties.pay_earners import PayEarners
from pot_lab.network.duties.prepare_judging import JUDGING_FOLDER, PrepareJudging
from pot_lab.network.duties.release_shares import ReleaseShares
from pot_lab.network.duties.report_faults import ReportFaults
from pot_lab.network.duties.rotate_signers import RotateSigners
from pot_lab.network.duties.settle_epochs import SettleEpochs
from pot_lab.network.duties.show_evidence import ShowEvidence
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.network.duties.watch_position import PositionKeeper
from pot_lab.network.founding.terms import require_approval
from pot_lab.network.genesis import genesis_of
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.ledger import Ledger
from pot_lab.store.custody import CustodyLimits

HISTORY_BATCHES = 1_000_000
"""How many executed batches an aggregator keeps by default: 11 days of a batch a second."""


def run_node(
    network_file: Path,
    index: int | None,
    keys: Path,
    data: Path,
    *,
    listening: Listening | None = None,
    watch_chain: bool = True,
    history_batches: int = HISTORY_BATCHES,
    metrics_at: tuple[str, int] | None = None,
    log_level: str = "info",
    log_format: str = "text",
    custody_limits: CustodyLimits | None = None,
) -> int:
    """Run one aggregator until SIGTERM, or until it has left its seat; returns the process's exit code.

    Args:
        network_file: the `network.toml`.
        index: which of the network's first aggregators this is, from 0; None for one that joined later, or is to.
        keys: the folder with its keys.
        data: the folder for its log, history, custody and opened test data.
        listening: where one that is not of the first listens.
        watch_chain: whether it attests chain events (not while measuring).
        history_batches: how many executed batches it keeps for subscribers; 0 keeps all.
        metrics_at: host and port of `/metrics` and `/healthz`; None for none.
        log_level: the least severe messages that are logged.
        log_format: `text` or `json`.
        custody_limits: how much it holds for others.
    Returns: 0 after a clean stop; 1 after an error, which is one line on stderr.
    """
    try:
        config = NetworkConfig.load(network_file)
        genesis = genesis_of(config)
        if config.approvals:
            require_approval(config)
        current, *spare = load_keys(keys)
    except PotLabError as error:
        return stopped_by(index, error, log_format)
    entry = None if index is not None or listening is None else _newcomer(current, listening)
    application = LedgerApplication(genesis)

    def ledger() -> Ledger:
        return application.ledger

    signer = TransactionSigner(genesis.network_id, current.identity, [each.identity for each in spare], ledger)
    queue = ChainQueue()
    confirmed = ConfirmedEvents()
    deny = DenyEscrows(
        ledger,
        signer,
        lambda: wallet_of(config, None),
        queue,
        seen_events=lambda: confirmed.end,
        confirmations=chain_of(config).confirmations,
    )
    settle = SettleEpochs(
        ledger, signer, lambda: wallet_of(config, signer.identity), queue, on_refused=deny.on_epoch_refused
    )
    pay = PayEarners(ledger, signer, lambda: wallet_of(config, signer.identity), queue)
    sealing_keys = [each.sealing for each in (current, *spare)]
    release, model_keys = ReleaseShares(ledger, signer, sealing_keys), ModelKeys(ledger, signer, sealing_keys)
    rotate = RotateSigners(ledger, signer, lambda: wallet_of(config, signer.identity), queue)
    acts = ActOnVotes(ledger, signer, lambda: owner_acts_of(config, signer.identity), queue)
    evidence = ShowEvidence(ledger, signer)

    aggregators: list[Aggregator] = []

    def count_fault() -> None:
        for aggregator in aggregators:
            aggregator.counters["ledger_faults"] += 1

    def wake() -> None:
        for aggregator in aggregators:
            aggregator.wake()

    limits = custody_limits or CustodyLimits()
    custody = AggregatorCustody(config, data, ledger, signer, limits=limits, wake=wake)
    disputed = DisputedOrders(ledger, data / CUSTODY_FOLDER)
    forks = HelperForks(fork_folder(home()))
    prepare = PrepareJudging(disputed, data / JUDGING_FOLDER, judge_pool(helpers=1, wake=wake, start=forks))
    openings = JudgeOpenings(ledger, signer, prepare.verdict_of)
    pool = judge_pool(wake=wake, start=forks)
    judge = JudgeDisputes(ledger, signer, prepare.rows, prepare.model_of, data / CUSTODY_FOLDER, pool)
    attest = AttestChain(ledger, signer, confirmed)
    faults = ReportFaults(ledger, count_fault)
    kept = position_file_of(config, data) if watch_chain else None
    watch = ChainWatch(
        lambda: watcher_of(config, None if kept is None else kept.load()),
        confirmed,
        wake,
        keeper=None if kept is None else PositionKeeper(kept),
    )

    def created(aggregator: Aggregator) -> None:
        aggregators.append(aggregator)
        custody.serve(lambda: aggregator.entry)
        if watch_chain:
            watch.start()

    try:
        return run_aggregator(
            config,
            index,
            data,
            application,
            [
                release,
                model_keys,
                settle,
                pay,
                deny,
                rotate,
                acts,
                attest,
                evidence,
                custody.duty,
                prepare,
                openings,
                judge,
                faults,
            ],
            identity=current.identity,
            curve_secret=current.curve.secret,
            listening=entry,
            spare=[(each.identity, each.curve.secret) for each in spare],
            is_funded=application.is_funded,
            witness=evidence.add,
            history_batches=history_batches,
            metrics_at=metrics_at,
            log_level=log_level,
            log_format=log_format,
            on_created=created,
        )
    finally:
        custody.stop()
        watch.stop()


def _newcomer(keys: AggregatorKeys, listening: Listening) -> AggregatorEntry:
    return AggregatorEntry(
        index=NO_SEAT,
        host=listening.host,
        peer_port=listening.peer_port,
        client_port=listening.client_port,
        custody_port=listening.custody_port,
        curve_public=keys.curve.public,
        address=keys.identity.address,
        sealing_public=keys.sealing.public,
    )
