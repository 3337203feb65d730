"""A host name that several clusters serve: what each says of it, and what it is (decisions D25, D26, D32)."""

from collections.abc import Callable, Iterable
from heapq import nsmallest
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

import msgspec

from peerd.derive.distribution import SAME_NODE, SAME_ZONE
from peerd.derive.problems import warning
from peerd.derive.services import SERVICE, ServiceInfo
from peerd.model.address import NetworkAddress, Port
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation, FederatedPort, FederationScope
from peerd.model.record import Record
from peerd.model.service import HealthPolicy, LoadBalancing, Mode, Scope, Service
from peerd.model.sharing import shared

PREFER_NETWORK = LoadBalancing((Scope.NETWORK,), Mode.FAILOVER)
PREFER_REGION = LoadBalancing((Scope.REGION,), Mode.FAILOVER)

_DISTRIBUTIONS = {
    "prefernetwork": PREFER_NETWORK,
    "preferclose": SAME_ZONE,
    "prefersamezone": SAME_ZONE,
    "prefersamenode": SAME_NODE,
    "preferregion": PREFER_REGION,
    "any": None,
}
_NAMED_DISSENT = 5
# Called for each of thousands of contributions at every change of one.
_PORTS, _IDENTITIES = attrgetter("ports"), attrgetter("identities")
_AGE = attrgetter("created", "cluster", "peer")

DISTRIBUTIONS = ("PreferNetwork", "PreferClose", "PreferRegion", "PreferSameZone", "PreferSameNode", "Any")


def is_distribution(word: str) -> bool:
    """Whether *word* means something for a global name."""
    return word.lower() in _DISTRIBUTIONS


def global_distribution(word: str, default: LoadBalancing | None) -> LoadBalancing | None:
    """The ranking a word stands for; *default* where there is none, or one nobody knows (D26)."""
    return _DISTRIBUTIONS.get(word.lower(), default)


def as_the_service_says(balancing: LoadBalancing | None, own: LoadBalancing | None) -> LoadBalancing | None:
    """*balancing* of a name, with what its Service says of all its names in this cluster.

    `internalTrafficPolicy: Local` beats any preference; published unready endpoints are no preference at all.
    """
    if own is None:
        return balancing
    if own.mode is Mode.STRICT:
        return own
    if own.health_policy is HealthPolicy.ALLOW_ALL:
        return msgspec.structs.replace(balancing or LoadBalancing(), health_policy=own.health_policy)
    return balancing


class Contribution(Record, frozen=True):
    """What one cluster says of one host name, without its capacity, which changes too often.

    `key` is `<namespace>/<host>`, the resource name of the host's Service. `peer` is the key of the
    istio-remote Gateway it came through, empty for this cluster. `identities` are those of the peer's
    endpoints, empty for this cluster: no own identity goes into a Service (§3.6). `source` is the kind of our
    own object.
    """

    key: str
    host: str
    name: str
    namespace: str
    cluster: str
    peer: str
    ports: tuple[FederatedPort, ...]
    distribution: str
    scope: FederationScope
    takeover: bool
    identities: tuple[str, ...]
    created: str
    source: str = SERVICE


class GlobalName(Record, frozen=True):
    """A host name, merged: the oldest contribution's ports and distribution, everybody's identities.

    `everywhere` are the numbers of ports that every contribution has, `own` says whether this cluster's is
    among them, `peers` whether a peer's is.
    """

    host: str
    name: str
    namespace: str
    ports: tuple[FederatedPort, ...]
    distribution: str
    identities: tuple[str, ...]
    everywhere: frozenset[int]
    own: bool = False
    peers: bool = False
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def key(self) -> str:
        """`<namespace>/<host>`."""
        return f"{self.namespace}/{self.host}"


def merge(contributions: Iterable[Contribution]) -> GlobalName:
    """The name that *contributions*, at least one and all of one host, stand for.

    Where clusters disagree the oldest wins, then the first by cluster name (decision D32); a disagreement is
    told on our own Service, where we have one.
    """
    said = tuple(contributions)
    oldest = min([found for found in said if found.created] or said, key=_AGE)
    # In the order that they come in, mostly theirs: sorting 2,000 of a set takes ten times as long.
    identities = tuple(sorted(dict.fromkeys(chain.from_iterable(map(_IDENTITIES, said)))))
    own = next((found for found in said if not found.peer), None)
    return GlobalName(
        host=oldest.host,
        name=oldest.name,
        namespace=oldest.namespace,
        ports=oldest.ports,
        distribution=oldest.distribution,
        identities=oldest.identities if identities == oldest.identities else identities,  # one copy
        everywhere=shared(
            frozenset.intersection(
                *(frozenset(port.number for port in ports) for ports in _runs(said, _PORTS))
            )
        ),
        own=own is not None,
        peers=any(found.peer for found in said),
        diagnostics=() if own is None else tuple(_conflicts(own, oldest, said)),
    )


def _age(found: Contribution) -> tuple[str, str, str]:
    return (found.created or "~", found.cluster, found.peer)


def _runs(said: Iterable[Contribution], value: Callable[[Contribution], object]) -> list[Any]:
    """What they say, without repetitions in a row: thousands of clusters mostly say the same."""
    return [run for run, _ in groupby(map(value, said))]


def own_targets(ports: Iterable[Port], everywhere: frozenset[int]) -> tuple[Port, ...]:
    """*ports* as they go on a Service that clusters share.

    A port that not all of them have gets no target there: ztunnel then takes only endpoints that map it
    themselves, and with one it would send it to everybody (wire-contract §3.3).
    """
    return shared(
        tuple(
            port if port.service_port in everywhere else msgspec.structs.replace(port, target_port=0)
            for port in ports
        )
    )


def _conflicts(
    own: Contribution, oldest: Contribution, said: tuple[Contribution, ...]
) -> Iterable[Diagnostic]:
    where = f"{own.source}/{own.namespace}/{own.name}"
    for field, value, words in _MUST_AGREE:
        wanted = words(oldest)
        if len(_runs(said, value)) == 1:
            continue
        dissent = _dissent(said, value, words, wanted)
        others = nsmallest(_NAMED_DISSENT, dissent, key=lambda found: _age(found[0]))
        if others:
            dissenters = "; ".join(f"cluster {found.cluster} says {text}" for found, text in others)
            yield warning(
                where,
                field,
                f"Conflict: for {own.host} cluster {oldest.cluster}, the oldest, says {wanted}; {dissenters}",
                "make it equal in all clusters; the oldest wins",
            )


def _dissent(
    said: Iterable[Contribution],
    value: Callable[[Contribution], object],
    words: Callable[[Contribution], str],
    wanted: str,
) -> Iterable[tuple[Contribution, str]]:
    """Clusters that say something else, and what. Thousands mostly say the same: it is put in words once."""
    last: object = None
    text = wanted
    for found in said:
        now = value(found)
        if now != last:
            last, text = now, words(found)
        if text != wanted:
            yield found, text


def _port_words(found: Contribution) -> str:
    return ", ".join(f"{port.number}/{port.protocol}" for port in sorted(found.ports, key=_number)) or "none"


def _number(port: FederatedPort) -> int:
    return port.number


_MUST_AGREE: tuple[tuple[str, Callable[[Contribution], object], Callable[[Contribution], str]], ...] = (
    ("spec.ports", _PORTS, _port_words),
    ("spec.trafficDistribution", attrgetter("distribution"), lambda found: found.distribution or "nothing"),
    ("metadata.labels[solo.io/service-scope]", attrgetter("scope"), lambda found: found.scope.value),
)


def target_port(port: FederatedPort, local: ServiceInfo | None) -> int:
    """Where a port leads: a local Service's target, else the exporter's, else the number itself."""
    ports = () if local is None else local.service.ports
    default = port.target or port.number
    return next((found.target_port for found in ports if found.service_port == port.number), default)


def global_service(
    name: GlobalName,
    allocation: Allocation,
    network: str,
    local: ServiceInfo | None,
) -> Service:
    """The Service of *name*, with addresses of our own network; *local* is our Service behind it, if any.

    `name.distribution` is the word that counts, not just what was said (GlobalServices.distribution).

    A local waypoint serves the name too, and may fail over to remote endpoints (decision D30).
    """
    addresses = tuple(
        NetworkAddress(network, address) for address in (allocation.ipv4, allocation.ipv6) if address
    )
    behind = None if local is None else local.service
    balancing = global_distribution(name.distribution, None)
    if behind is not None:
        balancing = as_the_service_says(balancing, behind.load_balancing)
    return Service(
        name=name.name,
        namespace=name.namespace,
        hostname=name.host,
        addresses=addresses,
        ports=own_targets(
            (Port(port.number, target_port(port, local), port.app_protocol) for port in name.ports),
            name.everywhere,
        ),
        subject_alt_names=name.identities,
        waypoint=None if behind is None else behind.waypoint,
        load_balancing=balancing,
        canonical=True,
        ingress_use_waypoint=behind is not None and behind.ingress_use_waypoint,
        weighted_waypoints=() if behind is None else behind.weighted_waypoints,
    )
