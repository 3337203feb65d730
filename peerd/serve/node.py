"""What a client says of itself on its first request, and whether that may be true (wire-contract §5.3)."""

import ipaddress

from peerd.model.caller import Caller
from peerd.protocol.envelope import Node
from peerd.serve.identity_check import check_node_identity
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
    check_node_identity(caller, node.id, node.text("NAMESPACE"), node.text("SERVICE_ACCOUNT"))


def _any_ip(texts: tuple[str, ...]) -> bool:
    for text in texts:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            continue
        return True
    return False
