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
    check_node_identity(caller, node.id, node.text("NAMESPACE"), node.text("SERVICE_ACCOUNT"))


def check_node_identity(caller: Caller, node_id: str, namespace: str, service_account: str) -> None:
    """Compare a node with its caller's identity.

    *namespace* and *service_account* are the node's metadata NAMESPACE and SERVICE_ACCOUNT, empty where they
    were not sent; without NAMESPACE the first label of the DNS part of *node_id* stands for it. The loopback
    caller proved nothing and is not compared.

    Raises:
        StreamClosed: PERMISSION_DENIED where they differ; INVALID_ARGUMENT for a node id without four parts.
    """
    parts = node_id.split("~")
    if len(parts) != 4:
        raise StreamClosed(
            StatusCode.INVALID_ARGUMENT, f"missing parts in the service node {node_id!r}: expected four"
        )
    if caller.kind is CallerKind.LOOPBACK:
        return
    wanted = namespace or parts[3].partition(".")[0]
    identity = caller.identity
    if (
        identity is None
        or (wanted and identity.namespace != wanted)
        or (service_account and identity.service_account != service_account)
    ):
        raise StreamClosed(
            StatusCode.PERMISSION_DENIED,
            f"authorization failed: no identities ([{identity or ''}]) matched {wanted}/{service_account}",
        )


def _any_ip(texts: tuple[str, ...]) -> bool:
    for text in texts:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            continue
        return True
    return False
