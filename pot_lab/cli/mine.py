"""`pot-lab mine`: run a provider, validator or verifier."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pot_lab.cli.common import (
    FILE,
    HostAndPort,
    account_option,
    json_option,
    log_format_option,
    network_and_account,
    network_option,
)


def notebook_parameters(
    context: click.Context | None, parameter: click.Parameter | None, given: Sequence[str]
) -> dict[str, Any]:
    """`NAME=VALUE` options as parameters of a notebook; a value that is JSON is read as such, else it is text.

    Raises: click.BadParameter.

    >>> notebook_parameters(None, None, ["epochs=3", "optimiser=adam"])
    {'epochs': 3, 'optimiser': 'adam'}
    """
    parameters: dict[str, Any] = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not sign or not name.isidentifier():
            raise click.BadParameter(f"{item!r} is not NAME=VALUE", context, parameter)
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


@click.command
@click.argument("role", type=click.Choice(["provider", "validator", "verifier"]), metavar="ROLE")
@click.option("--orders", type=click.IntRange(min=1), metavar="K", help="Stop after so many orders (default: never).")
@click.option("--notebook", type=FILE, metavar="FILE", help="Your own recipe (default: the package's).")
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=notebook_parameters,
    help="A parameter of the notebook; may be repeated.",
)
@click.option(
    "--jobs",
    "at_once",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many notebooks run at once; the best paid orders go first (default: 4, a provider 1).",
)
@click.option(
    "--min-reward-per-hour",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="POT",
    help="Provider: the least that the winner must get for each hour of training.",
)
@click.option(
    "--upload-rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB/S",
    help="Provider: at what rate this host uploads; orders whose reveal window is shorter are passed over "
    "(default: 1, or 67 with a store in the own network).",
)
@log_format_option
@click.option(
    "--alert-webhook",
    envvar="POT_LAB_ALERT_WEBHOOK",
    metavar="URL",
    help="POST warnings and ended orders there as JSON (default: $POT_LAB_ALERT_WEBHOOK).",
)
@click.option(
    "--alert-mail",
    envvar="POT_LAB_ALERT_MAIL",
    metavar="URL",
    help="The same by mail: smtps://USER:PASSWORD@SERVER/you@example.org (default: $POT_LAB_ALERT_MAIL, where a "
    "password belongs).",
)
@click.option("--metrics", type=HostAndPort(), help="Serve /metrics and /healthz there; on this host by default.")
@network_option
@account_option
@json_option
def mine(
    role: str,
    orders: int | None,
    notebook: Path | None,
    parameters: dict[str, Any],
    at_once: int | None,
    min_reward_per_hour: float,
    upload_rate: float | None,
    log_format: str,
    alert_webhook: str | None,
    alert_mail: str | None,
    metrics: tuple[str, int] | None,
    network: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Work for the network: train, score or verify.

    ROLE is provider (trains), validator (scores) or verifier (checks scores). The account needs a stake for the role
    (`pot-lab wallet stake ROLE`). In a testnet it is by default the role's first account, e.g. provider-0. Ctrl-C or
    SIGTERM ends the loop cleanly; started again, it continues from its files.
    """
    from pot_lab import home
    from pot_lab.jobs.alerts import alerting
    from pot_lab.jobs.loop_metrics import STALLED_S, publish_state
    from pot_lab.jobs.provider import ProviderLoop
    from pot_lab.jobs.recipe_files import check_parameters, checked_parameters
    from pot_lab.jobs.recipes import recipe, training_seed
    from pot_lab.jobs.rival import rivals_watched
    from pot_lab.jobs.runner import JobRunner
    from pot_lab.jobs.terms import FAR_UPLOAD_BYTES_PER_S, NEAR_UPLOAD_BYTES_PER_S, Terms
    from pot_lab.jobs.validator import ValidatorLoop
    from pot_lab.jobs.verifier import VerifierLoop
    from pot_lab.network.chain_access import wallet_of
    from pot_lab.network.client.ledger import LedgerClient
    from pot_lab.network.logs import log_to_stderr
    from pot_lab.network.metrics_server import MetricsServer
    from pot_lab.protocol.parameters import GRAINS_PER_POT
    from pot_lab.store import Store
    from pot_lab.store.addresses import is_private_place

    loops: dict[str, type[ProviderLoop | ValidatorLoop | VerifierLoop]] = {
        "provider": ProviderLoop,
        "validator": ValidatorLoop,
        "verifier": VerifierLoop,
    }
    log_to_stderr("info", log_format)
    logging.getLogger("pot_lab").setLevel(logging.INFO)
    check_parameters(notebook or recipe(role), checked_parameters(parameters))
    config, identity = network_and_account(network, account, f"{role}-0")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    options: dict[str, Any] = {}
    if role == "provider":
        near = NEAR_UPLOAD_BYTES_PER_S if is_private_place(config.store_url) else FAR_UPLOAD_BYTES_PER_S
        options["terms"] = Terms(
            min_grains_per_hour=round(min_reward_per_hour * GRAINS_PER_POT),
            upload_bytes_per_s=near if upload_rate is None else max(1, round(upload_rate * 1e6)),
        )
    if at_once is not None:
        options["jobs_at_once"] = at_once
    if role == "provider" and notebook is None:
        parameters.setdefault("seed", training_seed(identity.address))
        if at_once is not None and at_once > 1:  # else each would take all cores, and all would be slow
            parameters.setdefault("threads", max(1, (os.cpu_count() or 1) // at_once))
    with alerting(alert_webhook, alert_mail), LedgerClient(config, identity) as client:
        loop = loops[role](
            client,
            Store(config.store_url, private_links=config.private_links, copies=client.copies),
            JobRunner(home.home()),
            notebook or recipe(role),
            home.home(),
            settings=parameters,
            limit=orders,
            make_claimer=lambda: wallet_of(config, identity),
            **options,
        )
        with contextlib.ExitStack() as stack:
            if isinstance(loop, ProviderLoop):
                scored_by, runner = recipe("verifier"), JobRunner(home.home())
                stack.enter_context(rivals_watched(loop, client, scored_by, runner, home.home()))
            if metrics is None:
                loop.run(stop)
            else:
                server = stack.enter_context(MetricsServer(*metrics, stalled_s=STALLED_S))
                loop.run(stop, lambda: publish_state(server, loop))
        if as_json:
            click.echo(json.dumps({"role": role, "orders": loop.finished}))
