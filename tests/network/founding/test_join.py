"""A network's file comes to a host from a path or a link, once its digest and signatures are right."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pot_lab import home
from pot_lab.discovery import find_network
from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import BadConfig
from pot_lab.network.founding.join import join
from pot_lab.network.founding.terms import NotApproved, collect_approvals, sign_terms, terms_digest
from pot_lab.testnet.errors import NoTestnet
from tests.network.founding.parts import Operators


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Operators:
    return Operators(tmp_path_factory.mktemp("operators"))


@pytest.fixture
def signed(operators: Operators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    config = operators.found()
    path = tmp_path / "public" / "network.toml"
    path.parent.mkdir()
    collect_approvals(config, [sign_terms(config, keys.identity) for keys in operators.keys]).save(path)
    return path


@pytest.fixture
def link(signed: Path) -> Iterator[str]:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(signed.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/network.toml"
        server.shutdown()


def test_a_joined_network_is_found_by_its_name_and_when_it_is_the_only_one(signed: Path) -> None:
    with pytest.raises(NoTestnet):
        find_network("four")
    path = join(str(signed))
    assert path == home.networks() / "four" / "network.toml"
    assert find_network("four") == (path, None) == find_network()
    assert NetworkConfig.load(path) == NetworkConfig.load(signed)
    with pytest.raises(NoTestnet):
        find_network("five")


def test_a_link_with_its_digest_joins(link: str, signed: Path) -> None:
    digest = terms_digest(NetworkConfig.load(signed)).hex()
    assert join(f"{link}#{digest}").is_file()
    with pytest.raises(NotApproved, match="another digest"):
        join(f"{link}#{'0' * 64}")
    with pytest.raises(NotApproved, match="another digest"):
        join(str(signed), digest="0" * 64)


def test_a_file_that_not_all_signed_needs_a_word(operators: Operators, signed: Path, tmp_path: Path) -> None:
    one = sign_terms(operators.found(), operators.keys[0].identity)
    one.save(tmp_path / "one.toml")
    with pytest.raises(NotApproved, match="not all aggregators signed"):
        join(str(tmp_path / "one.toml"))
    assert join(str(tmp_path / "one.toml"), unsigned=True).is_file()


def test_what_is_no_network_is_refused_and_nothing_is_kept(link: str, signed: Path, tmp_path: Path) -> None:
    closed = "http://127.0.0.1:1/network.toml"
    for source in (link + "x", closed, str(tmp_path / "none.toml")):
        with pytest.raises(BadConfig):
            join(source)
    (signed.parent / "page.html").write_text("<html>")
    with pytest.raises(BadConfig, match="no TOML"):
        join(link.replace("network.toml", "page.html"))
    (signed.parent / "large").write_bytes(b"#" * (1 << 21))
    with pytest.raises(BadConfig, match="too large"):
        join(link.replace("network.toml", "large"))
    assert not home.networks().exists()


def test_another_network_of_the_same_name_is_not_overwritten(signed: Path, tmp_path: Path) -> None:
    path = join(str(signed))
    others = Operators(tmp_path / "others")
    others.found().save(tmp_path / "other.toml")
    with pytest.raises(BadConfig, match="another network has this name"):
        join(str(tmp_path / "other.toml"), unsigned=True)
    assert NetworkConfig.load(path) == NetworkConfig.load(signed)
