"""The connections of a port by route, descriptor, address and key, and whose is ended when there are too many."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

import msgspec

from pot_lab.network.zmtp.connection import Connection

_IPV6_SITE_BITS = 64
_UNREADY_PART = 4


class AcceptedConnection(msgspec.Struct, kw_only=True, eq=False):
    """One connection that was accepted.

    Attributes:
        route: its number, 8 bytes, never used again.
        site: where it comes from, see `site_of`.
        began_s: when it was accepted.
        counted_bytes: how much of what it holds or has not sent the registry's total includes.
        has_more: whether its kernel buffer may hold what was not read yet.
    """

    connection: Connection
    route: bytes
    site: str
    began_s: float
    counted_bytes: int = 0
    has_more: bool = False


class ConnectionRegistry:
    """All connections of one port. Those of a site stand in the order in which they were last heard of."""

    def __init__(self) -> None:
        self.by_route: dict[bytes, AcceptedConnection] = {}
        self.by_descriptor: dict[int, AcceptedConnection] = {}
        self.unready: dict[bytes, AcceptedConnection] = {}
        self.bytes_in_all = 0
        self._sites: dict[str, OrderedDict[bytes, None]] = {}
        self._unready_sites: dict[str, OrderedDict[bytes, None]] = {}
        self._keys: dict[str, OrderedDict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self.by_route)

    def add(self, accepted: AcceptedConnection) -> None:
        """Add a connection, whose handshake is to come."""
        self.by_route[accepted.route] = self.unready[accepted.route] = accepted
        self.by_descriptor[accepted.connection.stream.fileno()] = accepted
        for groups in (self._sites, self._unready_sites):
            groups.setdefault(accepted.site, OrderedDict())[accepted.route] = None

    def became_ready(self, accepted: AcceptedConnection) -> None:
        """Its handshake is over: it has a key."""
        del self.unready[accepted.route]
        _drop(self._unready_sites, accepted.site, accepted.route)
        self._keys.setdefault(accepted.connection.key, OrderedDict())[accepted.route] = None

    def heard_of(self, accepted: AcceptedConnection) -> None:
        """A message came on it."""
        self._sites[accepted.site].move_to_end(accepted.route)
        self._keys[accepted.connection.key].move_to_end(accepted.route)

    def count(self, accepted: AcceptedConnection) -> None:
        """Bring the total of bytes up to date with what it holds and has not sent."""
        now_bytes = accepted.connection.held_bytes + accepted.connection.unsent_bytes
        self.bytes_in_all += now_bytes - accepted.counted_bytes
        accepted.counted_bytes = now_bytes

    def remove(self, accepted: AcceptedConnection) -> None:
        """Forget it."""
        route, key = accepted.route, accepted.connection.key
        del self.by_route[route]
        del self.by_descriptor[accepted.connection.stream.fileno()]
        self.unready.pop(route, None)
        self.bytes_in_all -= accepted.counted_bytes
        _drop(self._sites, accepted.site, route)
        _drop(self._unready_sites, accepted.site, route)
        _drop(self._keys, key, route)

    def of_key(self, key: str) -> list[AcceptedConnection]:
        """The connections of a key, the one longest not heard of first."""
        return [self.by_route[route] for route in self._keys.get(key, ())]

    def of_site(self, site: str) -> int:
        """How many connections a site has."""
        return len(self._sites.get(site, ()))

    def first_to_end(self, site: str = "") -> AcceptedConnection | None:
        """Who makes room, of this site or of the one that has most connections: the oldest without a handshake where
        these are many, else the one longest not heard of.
        """
        if not self._sites:
            return None
        site = site or max(self._sites, key=lambda each: len(self._sites[each]))
        group, unready = self._sites[site], self._unready_sites.get(site, OrderedDict())
        if len(unready) * _UNREADY_PART > len(group):
            return self.by_route[next(iter(unready))]
        return self.by_route[next(route for route in group if route not in unready)]

    def largest(self) -> AcceptedConnection:
        """The connection that holds most bytes."""
        return max(self.by_route.values(), key=lambda each: each.counted_bytes)


def _drop(groups: dict[str, OrderedDict[bytes, None]], name: str, route: bytes) -> None:
    group = groups.get(name)
    if group is not None:
        group.pop(route, None)
        if not group:
            del groups[name]


def site_of(address: str) -> str:
    """What counts as one place: an IPv4 address, or the /64 of an IPv6 address, since a host has all of it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_SITE_BITS), strict=False))
    return str(parsed)
