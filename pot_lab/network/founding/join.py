"""Take a network's file into `$POT_LAB_HOME`, from a path or a link, once it is known to be the right one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import urldefrag

from pot_lab import home
from pot_lab.files import make_private_folder
from pot_lab.network.config import MAX_CONFIG_BYTES, NetworkConfig
from pot_lab.network.errors import BadConfig
from pot_lab.network.founding.terms import NotApproved, require_approval, terms_digest

_TIMEOUT_S = 30.0
_NAME = re.compile(r"\A[A-Za-z0-9_-]{1,64}\Z")


def join(source: str, *, digest: str = "", unsigned: bool = False) -> Path:
    """Check a network's file and keep it under its name; returns where.

    Args:
        source: a path, or an http or https link, whose `#` part may be the digest.
        digest: the digest that the file must have, 64 hex digits, as its operators publish it; "" asks for none.
        unsigned: also take a file that not all its aggregators signed.
    Raises:
        BadConfig: no such file, or it is wrong, or another network has its name here.
        NotApproved: it has another digest, or lacks signatures.
    """
    link, in_link = urldefrag(source) if "://" in source else (source, "")
    config = NetworkConfig.from_table(_fetched(link)) if "://" in link else NetworkConfig.load(link)
    wanted = (digest or in_link).lower().removeprefix("0x")
    seen = terms_digest(config).hex()
    if wanted and wanted != seen:
        raise NotApproved("this file has another digest than the one that was named", seen=seen, wanted=wanted)
    if not unsigned:
        require_approval(config)
    if not _NAME.match(config.name):
        raise BadConfig("a network's name cannot be a folder's", seen=config.name, wanted="letters, digits, - and _")
    path = home.networks() / config.name / "network.toml"
    if path.is_file() and NetworkConfig.load(path).network_id != config.network_id:
        raise BadConfig("another network has this name on this host", seen=str(path), wanted="remove its folder first")
    make_private_folder(path.parent)
    config.save(path)
    return path


def _fetched(link: str) -> dict[str, object]:
    import urllib3

    try:
        with urllib3.PoolManager(num_pools=1).request(
            "GET", link, preload_content=False, timeout=_TIMEOUT_S, retries=False, redirect=False
        ) as answer:
            if answer.status != 200:
                raise BadConfig("the link gives no network.toml", seen=f"HTTP {answer.status}", wanted="HTTP 200")
            raw = answer.read(MAX_CONFIG_BYTES + 1, decode_content=False)
        if len(raw) > MAX_CONFIG_BYTES:
            raise BadConfig("a network.toml is too large", wanted=f"at most {MAX_CONFIG_BYTES} bytes")
        return tomllib.loads(raw.decode())
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise BadConfig(f"the link gives no network.toml: {error}", seen=link) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"the link gives no TOML: {error}", seen=link) from error
