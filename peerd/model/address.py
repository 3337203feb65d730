"""Addresses as ztunnel keys them: an IP is always 4 or 16 raw bytes, together with its network."""

import ipaddress
from enum import IntEnum

from peerd.model.record import Record


class NetworkAddress(Record, frozen=True, order=True):
    """An IP, or with `length` a CIDR block, in one network. The default network is the empty string."""

    network: str
    address: bytes
    length: int | None = None

    def key(self) -> str:
        """`<network>/<ip>[/<length>]`, the alias of on-demand look-ups (wire-contract §2.2)."""
        text = f"{self.network}/{ip_text(self.address)}"
        return text if self.length is None else f"{text}/{self.length}"


def parse_address_key(text: str) -> NetworkAddress | None:
    """The address whose `key()` is *text*, or None where it is no such key."""
    network, slash, rest = text.partition("/")
    host, cidr, length = rest.partition("/")
    address = parse_ip(host)
    if not slash or address is None or (cidr and not (length.isascii() and length.isdigit())):
        return None
    return NetworkAddress(network, address, int(length) if cidr else None)


class NamespacedHostname(Record, frozen=True, order=True):
    """A service or workload host name, looked up within a namespace."""

    namespace: str
    hostname: str


class GatewayAddress(Record, frozen=True):
    """Where a waypoint or network gateway is reached."""

    destination: NetworkAddress | NamespacedHostname
    hbone_mtls_port: int


class AppProtocol(IntEnum):
    """`istio.workload.AppProtocol`."""

    UNKNOWN = 0
    HTTP11 = 1
    HTTP2 = 2
    GRPC = 3
    TCP = 4
    TLS = 5


class Port(Record, frozen=True):
    """A service port and the workload port behind it; target 0 = each endpoint maps it itself."""

    service_port: int
    target_port: int = 0
    app_protocol: AppProtocol = AppProtocol.UNKNOWN


class Locality(Record, frozen=True, order=True):
    """Region, zone, subzone; the empty string is unknown."""

    region: str = ""
    zone: str = ""
    subzone: str = ""


def parse_ip(text: str) -> bytes | None:
    """The 4 or 16 bytes of an IP address, or None where *text* is not one."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def ip_text(address: bytes) -> str:
    """The usual text of 4 or 16 bytes.

    Raises:
        ValueError: *address* has another length.
    """
    if len(address) == 4:
        return ".".join(map(str, address))  # ten times as fast as ipaddress, and asked for every Pod
    return str(ipaddress.ip_address(address))
