"""Where istiod serves something else than standalone peerd would, scenario by scenario, and why.

Everywhere, and therefore not listed: addresses are istiod's own (D28); PreferNetwork and PreferRegion are
PreferClose, and `internalTrafficPolicy: Local` is PreferSameNode (D26).
"""

from peerd.model.record import Record


class Differs(Record, frozen=True):
    """Parts of the comparison (tests/support/beside.py) that differ, and the reason; and questions that do.

    A part is `<host>: <field>` or `ways`.
    """

    reason: str
    parts: frozenset[str]
    asks: frozenset[str] = frozenset()


def _differs(reason: str, *parts: str, asks: tuple[str, ...] = ()) -> Differs:
    return Differs(reason, frozenset(parts), frozenset(asks))


_GLOBAL = "reviews.shop.mesh.internal"
_LOCAL = "reviews.shop.svc.cluster.local"
_TAKEOVER = "D25: istiod gives a Kubernetes Service no identities, so its name is not taken over"
_TAKEN = (f"{_LOCAL}: identities", f"{_LOCAL}: endpoints")
_PORTS = "a WorkloadEntry has every port of what selects it, so only ports that all clusters have are served"
_ONE_GATEWAY = "istiod enters a network through one gateway (istio 56960)"
_OWN_WORD = "istiod reads Gateways, and nothing of what their peers say (D15)"

_EAST = f"east calls {_LOCAL}"

EXCEPTIONS: dict[str, Differs] = {
    "network-changes": _differs(_OWN_WORD, f"{_GLOBAL}: endpoints", "ways", asks=(f"east calls {_GLOBAL}",)),
    "takeover-outlives-service": _differs(_TAKEOVER, *_TAKEN, f"{_LOCAL}: prefers"),
    "endpoints-not-ready-published": _differs(
        f"a ServiceEntry cannot say that unready endpoints count; {_TAKEOVER}",
        f"{_GLOBAL}: prefers",
        *_TAKEN,
        f"{_LOCAL}: prefers",
        asks=(f"east calls {_GLOBAL}", f"east on east-2 calls {_GLOBAL}", _EAST),
    ),
    "endpoints-virtual-machines": _differs(
        "D41: istiod must read WorkloadEntries for ServiceEntries only, so the ordinary name has no machines",
        f"{_LOCAL}: endpoints",
    ),
    "names-shared-are-no-entrys": _differs(
        "two ServiceEntries have the host, and istiod's canonical one is the oldest: the user's",
        *(f"{_GLOBAL}: {field}" for field in ("endpoints", "identities", "ports", "prefers")),
    ),
    "network-flat": _differs(
        "a WorkloadEntry cannot say that its endpoint is not ready, so it is not written",
        f"{_GLOBAL}: endpoints",
    ),
    "network-flat-and-separate": _differs(_TAKEOVER, *_TAKEN, f"{_LOCAL}: prefers", asks=(_EAST,)),
    "network-flat-takeover": _differs(
        f"{_TAKEOVER}; the port's name finds each Pod's own number",
        f"{_GLOBAL}: ports",
        *_TAKEN,
        f"{_LOCAL}: prefers",
        asks=(_EAST,),
    ),
    "network-flat-waypoint": _differs(
        "istiod enters its own network by no gateway (ADR 10)",
        f"{_GLOBAL}: endpoints",
        asks=(f"east calls {_GLOBAL}",),
    ),
    "conflict-equal-age": _differs(
        _PORTS,
        f"{_GLOBAL}: ports",
        f"{_GLOBAL}: endpoints",
        asks=(f"east calls {_GLOBAL}:90", f"west calls {_GLOBAL}:90"),
    ),
    "endpoints-named-target-port": _differs(
        "the port's name finds each Pod's own number, as the wire's target 0 does; every endpoint is equal",
        f"{_GLOBAL}: ports",
    ),
    "endpoints-ports-of-some": _differs(
        _PORTS, f"{_GLOBAL}: ports", f"{_GLOBAL}: endpoints", asks=(f"east calls {_GLOBAL}:90",)
    ),
    "endpoints-ports-of-some-under-takeover": _differs(
        f"{_PORTS}; {_TAKEOVER}",
        f"{_GLOBAL}: ports",
        f"{_GLOBAL}: endpoints",
        f"{_LOCAL}: ports",
        *_TAKEN,
        asks=(f"{_EAST}:80",),
    ),
    "gateway-address-from-peer": _differs(
        _OWN_WORD, f"{_GLOBAL}: endpoints", "ways", asks=(f"east calls {_GLOBAL}",)
    ),
    "gateway-node-port": _differs(_OWN_WORD, f"{_GLOBAL}: endpoints", "ways"),
    "gateways-all-used": _differs(_ONE_GATEWAY, f"{_GLOBAL}: endpoints"),
    "identity-other-trust-domain": _differs(
        "istiod drops the trust domain of a gateway (golden README, quirks; D29)", "ways"
    ),
    "network-label-missing": _differs(
        _OWN_WORD, f"{_GLOBAL}: endpoints", "ways", asks=(f"east calls {_GLOBAL}",)
    ),
    "network-of-two-peers": _differs(_ONE_GATEWAY, f"{_GLOBAL}: endpoints"),
    "routing-internal-local": _differs(
        "D26: a ServiceEntry can prefer the node, not demand it", asks=(f"west on n2 calls {_GLOBAL}",)
    ),
    "routing-prefer-region": _differs(
        "D26: PreferRegion is PreferClose",
        asks=(f"east at us/us-7 calls {_GLOBAL}", f"east at ap/ap-1 calls {_GLOBAL}"),
    ),
    "scope-global-only": _differs(_TAKEOVER, *_TAKEN, f"{_LOCAL}: prefers", asks=(_EAST,)),
    "scope-istio-label": _differs(_TAKEOVER, *_TAKEN, asks=(_EAST,)),
    "takeover-only-here": _differs(_TAKEOVER, *_TAKEN, f"{_LOCAL}: prefers", asks=(_EAST,)),
    "topology-double-link": _differs(_ONE_GATEWAY, f"{_GLOBAL}: endpoints"),
    "topology-full-mesh": _differs(
        _TAKEOVER, *_TAKEN, asks=(_EAST, f"west calls {_LOCAL}", f"north calls {_LOCAL}")
    ),
    "waypoint-and-takeover": _differs(_TAKEOVER, *_TAKEN, f"{_LOCAL}: prefers", asks=(_EAST,)),
}
