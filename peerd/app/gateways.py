"""The gateway port of one peerd: whom it serves, with what (decision D37)."""

from collections.abc import Callable, Iterator

from peerd.app.gateway_views import GatewayPlaces, GatewayViews
from peerd.derive.commit import Commit
from peerd.model.caller import Caller, CallerKind
from peerd.model.gateway_config import OwnGateway
from peerd.model.identity import SpiffeId
from peerd.model.resource import ResourceChange
from peerd.model.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from peerd.protocol.envelope import Node
from peerd.protocol.rules import TypeRules
from peerd.serve.authentication import Authenticate, by_certificate, chain
from peerd.serve.gateways import check_gateway, gateway_rules
from peerd.serve.node import check_node

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""In the order in which they go out: what is named is there before who names it."""


class Gateways:
    """Follows commits; without a gateway port nothing is encoded and nobody is served.

    Args:
        active: whether there is a gateway port.
        trust_domain: our own; no other's gateways are served.
    """

    def __init__(self, trust_domain: Callable[[], str], *, active: bool) -> None:
        self._active = active
        self._trust_domain = trust_domain
        self._own: dict[str, OwnGateway] = {}
        self._routed = False
        self.places = GatewayPlaces()
        self._views = GatewayViews(self.places)
        self.authenticate: Authenticate = chain(by_certificate(CallerKind.GATEWAY, self._identities))

    @property
    def types(self) -> tuple[str, ...]:
        """What the store holds for gateways."""
        return TYPES if self._active else ()

    @property
    def rules(self) -> dict[str, TypeRules]:
        """How they are served."""
        return gateway_rules(self._views.view) if self._active else {}

    def resources(self, commit: Commit) -> Iterator[ResourceChange]:
        """One revision of derivation, encoded."""
        if not self._active:
            return
        from peerd.encode import envoy, envoy_listeners  # only where there are gateways

        if not self._routed:
            self._routed = True
            route = envoy_listeners.encode_route()
            yield ResourceChange(ROUTE, route.name, route)
        for name, cluster in commit.gateway_clusters:
            yield ResourceChange(CLUSTER, name, None if cluster is None else envoy.encode_cluster(cluster))
        for name, members in commit.gateway_endpoints:
            self._views.put(name, members)
            yield ResourceChange(ENDPOINT, name, None if members is None else envoy.encode_endpoints(members))
        for name, listener in commit.gateway_listeners:
            made = None if listener is None else envoy_listeners.encode_listener(listener)
            yield ResourceChange(LISTENER, name, made)

    def committed(self, commit: Commit) -> None:
        """Note who our gateways are."""
        for key, gateway in commit.gateways:
            if gateway is None:
                self._own.pop(key, None)
            else:
                self._own[key] = gateway

    def check(self, node: Node | None, caller: Caller) -> None:
        """Raises StreamClosed where a node is not what its caller may say."""
        if caller.kind is CallerKind.GATEWAY:
            check_gateway(node, caller, self._own)
        else:
            check_node(node, caller)

    def _identities(self) -> frozenset[SpiffeId]:
        domain = self._trust_domain()
        return frozenset(
            SpiffeId(domain, gateway.namespace, gateway.service_account) for gateway in self._own.values()
        )
