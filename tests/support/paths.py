"""A request's whole path through several clusters: who answers in the end, or what refuses it where.

The first half is ztunnel's choice (tests/support/ztunnel_choice.py). Behind a double tunnel the far cluster's
gateway picks again by the name it is asked for (wire-contract §3.5), and the caller checks who answers.
"""

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction

from peerd.model.service import Service
from peerd.model.workload import TunnelProtocol, Workload, WorkloadStatus
from tests.support.clusters import Cluster
from tests.support.ztunnel_choice import DOUBLE_HBONE, Client, RefusedError, Target, Ztunnel, identity_of


def answers(
    clusters: Mapping[str, Cluster], client: Client, destination: str, port: int
) -> dict[str, Fraction]:
    """Who answers *client* of the cluster it names, and how often: shares that sum to 1.

    An answer reads `west`, `west by waypoint wp`, or `error: ` and what is wrong.
    """
    home = clusters[client.cluster]
    try:
        targets = Ztunnel(home.addresses.values()).request(client, destination, port)
    except RefusedError as error:
        return {f"error: {error}": Fraction(1)}
    found: dict[str, Fraction] = defaultdict(Fraction)
    for target in targets:
        for answer, share in _end(clusters, client, target).items():
            found[answer] += target.share * share
    return dict(found)


def words(found: Mapping[str, Fraction]) -> str:
    """`east 1/4, west 3/4`; one answer alone needs no share."""
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{answer} {share}" for answer, share in sorted(found.items()))


def _end(clusters: Mapping[str, Cluster], client: Client, target: Target) -> dict[str, Fraction]:
    if target.problem:
        return {f"error: {target.problem}": Fraction(1)}
    workload = target.workload
    if target.path != DOUBLE_HBONE:
        by = f" by waypoint {_account(workload)}" if target.waypoint else ""
        if workload.cluster_id == client.cluster:
            return {f"{client.cluster}{by}": Fraction(1)}
        return {_direct(clusters, client, target): Fraction(1)}
    far = clusters[workload.cluster_id]
    told, there = clusters[client.cluster].info, far.info
    if told is not None and there is not None and told.trust_domain != there.trust_domain:
        refused = f"error: ztunnels of {workload.cluster_id} refuse trust domain {told.trust_domain}"
        return {refused: Fraction(1)}
    host, _, port = target.authority.rpartition(":")
    return _behind_gateway(workload.cluster_id, far, host, int(port), target)


def _direct(clusters: Mapping[str, Cluster], client: Client, target: Target) -> str:
    """What a Pod of another cluster on our own network makes of a caller (wire-contract §3.4)."""
    name = target.workload.cluster_id
    told, there = clusters[client.cluster].info, clusters[name].info
    if told is not None and there is not None and told.trust_domain != there.trust_domain:
        return f"error: ztunnels of {name} refuse trust domain {told.trust_domain}"
    known = Ztunnel(clusters[name].addresses.values())
    asked = known.named(Client(client.network, "istio-system", name), target.authority.rpartition(":")[0])
    if asked is not None and asked.waypoint is not None:
        return f"error: past the waypoint of {name}"
    there_too = known.at(client.network, target.workload.addresses[0])
    if there_too is None or identity_of(there_too) not in target.identities:
        return f"error: {name} has somebody else at that address"
    return name


def _behind_gateway(name: str, far: Cluster, host: str, port: int, target: Target) -> dict[str, Fraction]:
    """What the gateway of cluster *name* makes of `host:port`, and whether the caller accepts who answers."""
    known = Ztunnel(far.addresses.values())
    inside = Client(far.network, "istio-system", name)
    service = known.named(inside, host)
    if service is None or all(entry.service_port != port for entry in service.ports):
        return {f"error: the gateway of {name} does not know {host}:{port}": Fraction(1)}
    by = ""
    members = _local(far, service, port)
    if service.waypoint is not None:
        waypoint = known.gateway(inside, service.waypoint)
        members = _local(far, waypoint, 0) if isinstance(waypoint, Service) else []
        by = " by waypoint"
    if not members:
        return {f"error: {name} has no healthy endpoint of {host}": Fraction(1)}
    found: dict[str, Fraction] = defaultdict(Fraction)
    for member in members:
        if identity_of(member) in target.identities:
            answer = f"{name}{by} {_account(member)}" if by else name
        else:
            answer = f"error: {identity_of(member)} is not among the identities of {host}"
        found[answer] += Fraction(1, len(members))
    return dict(found)


def _local(far: Cluster, service: Service, port: int) -> list[Workload]:
    """The gateway forwards to 15008 of healthy endpoints of its own network; *port* 0 is any."""
    found = []
    for member in far.workloads_of(service.resource_name):
        (entry,) = [entry for entry in member.services if entry.service == service.resource_name]
        if (
            member.network == far.network
            and member.tunnel_protocol is TunnelProtocol.HBONE
            and member.status is WorkloadStatus.HEALTHY
            and (not port or any(found.service_port == port for found in entry.ports))
        ):
            found.append(member)
    return found


def _account(workload: Workload) -> str:
    return workload.service_account or workload.name
