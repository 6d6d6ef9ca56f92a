"""`pot-lab store`: what a folder of blobs keeps, and an end for what no order names any more."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pot_lab.cli.common import json_option, network_option
from pot_lab.errors import Malformed, PotLabError

_DIGEST_CHARACTERS = 64
_root_option = click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="The store's folder; by default that of the testnet that runs here.",
)
_digest_argument = click.argument("digest", metavar="SHA256")


@click.group()
def store() -> None:
    """Blobs in a folder of this host, such as `pot_lab.store.server` serves.

    A store in a cloud has rules of its own for what is old; IPFS keeps what its node pins.
    """


@store.command
@_root_option
@network_option
@click.option("--days", type=click.FloatRange(min=1), default=7.0, show_default=True, help="Keep what was put since.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def prune(root: Path | None, network: str | None, days: float, dry_run: bool, as_json: bool) -> None:
    """Remove blobs that no order of the network names.

    What is pinned stays, and so does what was put within the last days, since an order may be on its way.
    """
    from pot_lab.discovery import find_network
    from pot_lab.network.client.ledger import LedgerClient
    from pot_lab.network.client.references import named_digests
    from pot_lab.store.garbage import DAY_S, collect

    folder = _folder(root, network)
    with LedgerClient.open(find_network(network)[0]) as client:
        named = named_digests(client)
    done = collect(folder, named, keep_s=days * DAY_S, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"blobs": done.blobs, "size_bytes": done.size_bytes, "named": len(named)}))
        return
    verb = "would remove" if dry_run else "removed"
    click.echo(f"{verb} {done.blobs} blobs, {done.size_bytes / (1 << 20):.1f} MiB; orders name {len(named)}")


@store.command
@_digest_argument
@_root_option
@json_option
def pin(digest: str, root: Path | None, as_json: bool) -> None:
    """Keep a blob, whether an order names it or not."""
    from pot_lab.store.garbage import pin as keep

    keep(_folder(root), _bytes_of(digest))
    _print_pinned(digest, True, as_json)


@store.command
@_digest_argument
@_root_option
@json_option
def unpin(digest: str, root: Path | None, as_json: bool) -> None:
    """Keep a blob no longer than an order names it."""
    from pot_lab.store.garbage import unpin as let_go

    if not let_go(_folder(root), _bytes_of(digest)):
        raise PotLabError("this blob is not pinned", seen=digest)
    _print_pinned(digest, False, as_json)


def _print_pinned(digest: str, pinned: bool, as_json: bool) -> None:
    words = f"{digest} is {'pinned' if pinned else 'pinned no more'}"
    click.echo(json.dumps({"digest": digest, "pinned": pinned}) if as_json else words)


def _bytes_of(digest: str) -> bytes:
    try:
        if len(digest) == _DIGEST_CHARACTERS:
            return bytes.fromhex(digest)
    except ValueError:
        pass
    raise Malformed("a blob's name is its SHA-256", seen=digest, wanted=f"{_DIGEST_CHARACTERS} hexadecimal digits")


def _folder(root: Path | None, network: str | None = None) -> Path:
    from pot_lab.discovery import find_network

    if root is not None:
        return root
    testnet = find_network(network)[1]
    if testnet is None:
        raise PotLabError("this network is no testnet of this host, whose store would be meant", wanted="--root FOLDER")
    return testnet.folder / "blobs"
