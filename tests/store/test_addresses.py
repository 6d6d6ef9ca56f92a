"""Addresses as people and strangers write them: the right place or UnusableAddress, and never a password in sight."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.store import Store, UnusableAddress
from pot_lab.store.addresses import local_path, same_origin, scheme_of, split_credentials, store_address


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("/tmp/c::d", "file"),
        ("relative", "file"),
        ("/a/http://b", "file"),
        ("file:/x", "file"),
        ("FILE:///x", "file"),
        ("HTTP://host/x", "http"),
        ("https://[::1]:9/x", "https"),
        ("s3://bucket/x", "s3"),
        ("ipfs://Qm", "ipfs"),
    ],
)
def test_the_scheme_of_an_address(uri: str, scheme: str) -> None:
    assert scheme_of(uri) == scheme


@pytest.mark.parametrize("uri", ["ftp://h/x", "simplecache::http://h/x", "s3://a::http://b", "http://[::1/x", "://x"])
def test_schemes_that_links_cannot_have(uri: str) -> None:
    with pytest.raises(UnusableAddress):
        scheme_of(uri)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///tmp/a%20b", "/tmp/a b"),
        ("file:///tmp/run#1/b?c", "/tmp/run#1/b?c"),
        ("file://localhost/tmp/x", "/tmp/x"),
        ("file:/tmp/x", "/tmp/x"),
        ("FILE:///tmp/x", "/tmp/x"),
        ("/tmp/100%25", "/tmp/100%25"),
        ("rel/x", "rel/x"),
    ],
)
def test_the_path_of_a_file_address(uri: str, path: str) -> None:
    assert local_path(uri) == path


@pytest.mark.parametrize("uri", ["file://~/x", "file://host/x", "file:x", "file://", "file:///a%00b", "/a\0b", "file:"])
def test_file_addresses_that_name_no_path_of_this_host(uri: str) -> None:
    with pytest.raises(UnusableAddress):
        local_path(uri)


@pytest.mark.parametrize(
    ("uri", "bare", "credentials"),
    [
        ("http://h/x", "http://h/x", None),
        ("http://u:p%40s@h:8/x?y", "http://h:8/x?y", "u:p@s"),
        ("https://u@[::1]:9/x", "https://[::1]:9/x", "u"),
        ("http://a@b:c@h/x", "http://h/x", "a@b:c"),
        ("http://@h/x", "http://h/x", ""),
    ],
)
def test_user_info_is_taken_out_of_an_address(uri: str, bare: str, credentials: str | None) -> None:
    assert split_credentials(uri) == (bare, credentials)


@pytest.mark.parametrize("uri", ["http://", "http:///x", "http://h:99999/x", "http://h:0/", "http://h:x/", "ftp://h/"])
def test_addresses_that_are_not_http(uri: str) -> None:
    with pytest.raises(UnusableAddress):
        split_credentials(uri)


def test_a_refused_address_does_not_show_its_password() -> None:
    with pytest.raises(UnusableAddress) as refusal:
        split_credentials("http://user:s3cret@host:99999/")
    assert refusal.value.seen == "http://host:99999/"
    with pytest.raises(UnusableAddress) as refusal:
        store_address("http://host/bucket?sig=s3cret")
    assert refusal.value.seen == "http://host/bucket?..."


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h/a", "http://H/b", True),
        ("http://u:p@h/a", "http://h/b", True),
        ("http://h/a", "https://h/a", False),
        ("http://h/a", "http://h:81/a", False),
        ("http://h/a", "http://g/a", False),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:
    assert same_origin(one, other) is same


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("/", "/"),
        ("/blobs//", "/blobs"),
        (" /blobs ", "/blobs"),
        ("http://h:1/", "http://h:1"),
        ("http://u:p@h/a/", "http://h/a"),
        ("s3://b/p/", "s3://b/p"),
    ],
)
def test_a_stores_address_as_its_links_begin(url: str, address: str) -> None:
    assert store_address(url)[0] == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "no address"),
        ("  ", "no address"),
        ("127.0.0.1:8080", "no scheme"),
        ("blobs.example:8080/x", "no scheme"),
        ("http://h/b?sig=x", "query"),
        ("http://h/b#x", "query or a fragment"),
        ("ipfs://Qm", "IPFS"),
        ("ftp://h", "kind of address"),
        ("file://~/blobs", "absolute"),
        ("file://relative/dir", "absolute"),
    ],
)
def test_addresses_that_stores_cannot_have(url: str, reason: str) -> None:
    with pytest.raises(UnusableAddress, match=reason):
        Store(url)


def test_a_path_is_never_parsed_as_an_address(tmp_path: Path) -> None:
    store = Store(tmp_path / "file:x")
    link = store.put(b"x")
    assert (tmp_path / "file:x" / link.digest.hex()).read_bytes() == b"x"
    assert store.fetch(link, limit_bytes=1, timeout_s=60) == b"x"


@given(folder=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20))
def test_the_link_of_any_folder_leads_back_to_it(folder: str) -> None:
    path = Path("/blobs") / folder
    if ".." in path.parts or folder == ".":
        return
    assert local_path(Store(path).uri(bytes(32))) == str(path.resolve() / ("00" * 32))
