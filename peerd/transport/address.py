"""`host:port` as text, IPv6 hosts in brackets, an empty host meaning all interfaces."""

import ipaddress


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[ipv6]:port` or `:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 host is written in brackets")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The text of a host and port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
