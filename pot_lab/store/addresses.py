"""Addresses of blobs and stores: taken apart here and nowhere else in this room.

An address from a stranger's link ends in a scheme that links may have, or in UnusableAddress. Passwords in addresses
are used but never shown: links are public.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from pot_lab.store.errors import UnusableAddress

HTTP_SCHEMES = ("http", "https")
CLOUDS = ("s3", "gs", "az")
"""Schemes of object storages: they need this package's extra `cloud`."""
SCHEMES = ("file", *HTTP_SCHEMES, *CLOUDS, "ipfs")
NODE_SCHEMES = ("ipfs+http", "ipfs+https")
"""Addresses of one's own IPFS node, by its HTTP API: a store, never a link."""
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}(/.*)?\Z")
_STORE_WANTED = "a folder, file:///FOLDER, http://HOST:PORT, https://HOST, s3://BUCKET/PREFIX or ipfs+http://HOST:PORT"


def scheme_of(uri: str) -> str:
    """The address's scheme, in lower case; a plain path is a `file`.

    Raises:
        UnusableAddress: a scheme that links may not have, one that chains several, or no address at all.
    """
    if uri.lower().startswith("file:") or uri.startswith("/") or "://" not in uri:
        return "file"
    try:
        scheme = urlsplit(uri).scheme
    except ValueError as error:
        raise UnusableAddress("the address cannot be parsed", seen=uri) from error
    if scheme not in SCHEMES or ((scheme in CLOUDS or scheme == "ipfs") and "::" in uri):
        raise UnusableAddress("links cannot use this kind of address", seen=uri, wanted=" ".join(SCHEMES))
    return scheme


def local_path(uri: str) -> str:
    """The path that a `file` address names: `file:///a%20b`, `file:/a b`, or a plain path.

    Raises:
        UnusableAddress: another host's file, a relative `file:` address, or a NUL in the path.
    """
    path = uri
    if uri.lower().startswith("file:"):
        path = uri[len("file:") :]
        if path.startswith("//"):
            host, slash, rest = path[2:].partition("/")
            path = slash + rest if host.lower() in ("", "localhost") else ""
        path = unquote(path)
        if not path.startswith("/"):
            raise UnusableAddress("a file address needs an absolute path", seen=uri, wanted="file:///FOLDER/FILE")
    if "\0" in path:
        raise UnusableAddress("a path cannot hold a NUL character", seen=uri)
    return path


def split_credentials(uri: str) -> tuple[str, str | None]:
    """An HTTP address without its user info, and that user info as `user:password`, decoded; None where it has none.

    Raises:
        UnusableAddress: not an HTTP address with a host and a possible port.

    Example:
        >>> split_credentials("http://user:p%40ss@host:8080/blobs")
        ('http://host:8080/blobs', 'user:p@ss')
    """
    try:
        parts = urlsplit(uri)
        usable = parts.scheme in HTTP_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UnusableAddress(
            "not an HTTP address", seen=_without_user_info(uri), wanted="http://HOST:PORT/PATH, or https"
        )
    user_info, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=place)), unquote(user_info) if at else None


def _without_user_info(uri: str) -> str:
    head, slashes, rest = uri.partition("//")
    return head + slashes + rest.rpartition("@")[2]


def same_origin(one: str, other: str) -> bool:
    """Whether two HTTP addresses share scheme, host and port, so that credentials of one may go to the other."""
    first, second = urlsplit(one), urlsplit(other)
    return (first.scheme, first.netloc.rpartition("@")[2].lower()) == (
        second.scheme,
        second.netloc.rpartition("@")[2].lower(),
    )


def is_private(address: str) -> bool:
    """Whether an IP address is of this host, of a private network or of no host at all: not globally reachable.

    >>> is_private("169.254.169.254"), is_private("::ffff:127.0.0.1"), is_private("93.184.216.34")
    (True, True, False)
    """
    one = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address):
        # an address of the old kind in a new one: mapped, 6to4, or behind a translator (64:ff9b::/96)
        inner = one.ipv4_mapped or one.sixtofour or (_translated(one))
        if inner is not None:
            return is_private(str(inner))
    return not one.is_global or one.is_multicast


def _translated(one: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    network = ipaddress.IPv6Network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(one) & 0xFFFFFFFF) if one in network else None


def is_private_place(uri: str) -> bool:
    """Whether an address names a place that is plainly private: a file, `localhost`, or a private IP address.

    A host's name tells nothing: where it leads is looked at when it is connected to.
    """
    if scheme_of(uri) == "file":
        return True
    try:
        host = (urlsplit(uri).hostname or "").rstrip(".")
        return host == "localhost" or host.endswith(".localhost") or is_private(host)
    except ValueError:
        return False


def store_address(url: str | Path) -> tuple[str, str | None]:
    """A store's address as its links begin, without a slash at the end, and its credentials as of `split_credentials`.

    Raises:
        UnusableAddress: empty; HOST:PORT without a scheme; an HTTP address with a query or a fragment, which would
            stand in every public link; a scheme that stores do not have.
    """
    text = str(url)
    if isinstance(url, str):
        text = url.strip()
        if not text:
            raise UnusableAddress("the store has no address", seen="an empty text", wanted=_STORE_WANTED)
        if _HOST_AND_PORT.match(text):
            raise UnusableAddress("the store's address has no scheme", seen=text, wanted=f"http://{text}")
    text = text.rstrip("/") or "/"
    if text.startswith(NODE_SCHEMES):
        bare, credentials = split_credentials(text.removeprefix("ipfs+"))
        return f"ipfs+{bare}", credentials
    scheme = "file" if isinstance(url, Path) else scheme_of(text)
    if scheme == "ipfs":
        wanted = "ipfs+http://127.0.0.1:5001"
        raise UnusableAddress("a store on IPFS is named by the HTTP API of its node", seen=text, wanted=wanted)
    if scheme not in HTTP_SCHEMES:
        return text, None
    text, credentials = split_credentials(text)
    if urlsplit(text).query or urlsplit(text).fragment:
        raise UnusableAddress(
            "a store's address cannot have a query or a fragment",
            seen=text.partition("?")[0].partition("#")[0] + "?...",
            wanted=_STORE_WANTED,
        )
    return text.rstrip("/"), credentials
