"""East-west gateways as clients: how their types are served, and who may say to be which (decision D37)."""

from collections.abc import Callable, Mapping

from peerd.model.caller import Caller
from peerd.model.gateway_config import BIND_ADDRESS, GATEWAY_NAME, OwnGateway, gateway_group
from peerd.model.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from peerd.protocol.envelope import Node
from peerd.protocol.rules import TypeRules, View
from peerd.serve.node import check_node
from peerd.transport.base import StatusCode, StreamClosed


def gateway_of(node: Node) -> str:
    """`<namespace>/<name>` of the Gateway that a node says to be a replica of."""
    return f"{node.text('NAMESPACE')}/{node.text(GATEWAY_NAME)}"


def gateway_rules(view: Callable[[Node], View | None] | None = None) -> dict[str, TypeRules]:
    """How Envoy's types are served.

    Clusters and the route are the same for all gateways; endpoints are asked for by name, and *view* says how
    they look to a gateway; of listeners each gateway is given its own.
    """
    return {
        CLUSTER: TypeRules(),
        ENDPOINT: TypeRules(view=view),
        LISTENER: TypeRules(
            own_groups=lambda node: (gateway_group(gateway_of(node), node.text(BIND_ADDRESS)),),
            own_only=True,
        ),
        ROUTE: TypeRules(),
    }


def check_gateway(node: Node | None, caller: Caller, own: Mapping[str, OwnGateway]) -> None:
    """As `check_node`; the Gateway that the node names must also have the account that the caller proved.

    *own* holds our Gateways by `<namespace>/<name>`.

    Raises:
        StreamClosed: INVALID_ARGUMENT for a node that is missing or malformed, PERMISSION_DENIED for one that
            is not the caller's.
    """
    check_node(node, caller)
    if node is None:
        return
    key = gateway_of(node)
    gateway, identity = own.get(key), caller.identity
    if gateway is None:
        known = ", ".join(sorted(own)) or "none"
        raise StreamClosed(
            StatusCode.PERMISSION_DENIED,
            f"there is no Gateway {key} of class istio-eastwest (there is: {known}); start the gateway with"
            " --gateway NAMESPACE/NAME",
        )
    if identity is None or identity.service_account != gateway.service_account:
        raise StreamClosed(
            StatusCode.PERMISSION_DENIED,
            f"{identity} is not Gateway {key}, whose account is {gateway.service_account}",
        )
