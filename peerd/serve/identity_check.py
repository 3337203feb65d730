"""Does the node that a client says it is belong to the identity that it proved (wire-contract §5.3)?"""

from peerd.model.caller import Caller, CallerKind
from peerd.transport.base import StatusCode, StreamClosed


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
