"""What a client says of itself on its first request, and whether that may be true (wire-contract §5.3)."""

import ipaddress

from peerd.model.caller import Caller, CallerKind
from peerd.protocol.envelope import Node
from peerd.transport.base import StatusCode, StreamClosed

_KINDS = ("ztunnel", "sidecar", "router", "waypoint", "agentgateway")


def check_node(node: Node | None, caller: Caller) -> None:
    """Raises StreamClosed where the node is missing, malformed, or not who the caller proved to be."""
    if node is None or not node.id:
        raise StreamClosed(StatusCode.INVALID_ARGUMENT, "the first request must carry a node with an id")
    parts = node.id.split("~")
    if len(parts) != 4 or parts[0] not in _KINDS:
        raise StreamClosed(
            StatusCode.INVALID_ARGUMENT,
            f"node id {node.id[:200]!r} is not <kind>~<ip>~<pod>.<namespace>~<domain>"
            f" with a kind of {', '.join(_KINDS)}",
        )
    if not _any_ip((parts[1], *node.text("INSTANCE_IPS").split(","))):
        raise StreamClosed(StatusCode.INVALID_ARGUMENT, f"node id {node.id[:200]!r} names no IP address")
    identity = caller.identity
    if caller.kind is CallerKind.LOOPBACK or identity is None:
        return
    namespace = node.text("NAMESPACE") or parts[3].partition(".")[0]
    account = node.text("SERVICE_ACCOUNT")
    if namespace != identity.namespace or (account and account != identity.service_account):
        raise StreamClosed(
            StatusCode.PERMISSION_DENIED,
            f"the caller is {identity}, its node says namespace {namespace!r}"
            + (f" and account {account!r}" if account else ""),
        )


def _any_ip(texts: tuple[str, ...]) -> bool:
    for text in texts:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            continue
        return True
    return False
