"""Networks that settings list, and whether an address lies in one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from headgate_contracts.errors import ErrorCode, HeadgateError

IpAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks with spaces between them. Raises HeadgateError(BadArgument)."""
    try:
        return tuple(ip_network(each) for each in text.split())
    except ValueError as error:
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"no network: {error}") from None


def is_within(address: IpAddress, networks: Sequence[Network]) -> bool:
    """Whether one of the networks has the address."""
    return any(address.version == each.version and address in each for each in networks)


def comes_from(remote: str | None, networks: Sequence[Network]) -> bool:
    """Whether a peer, as its connection tells its address, is in one of the networks."""
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return is_within(mapped or address, networks)
