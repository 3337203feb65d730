"""ztunnel's rules on what it is sent, executable (wire-contract §1.6, §2.2, §6).

`violations` takes what is about to be sent, or the records behind it, and returns one sentence per broken
rule: what ztunnel would reject, and what it would take but could not use as meant. `world_violations` looks
at a whole set of resources together: names that point nowhere, VIPs that hide each other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError as ProtobufDecodeError

from peerd.api.istio import security_pb2, workload_pb2
from peerd.encode.address import address_payload, decode_address
from peerd.encode.frame import DecodeError, decode_frame, version_of
from peerd.encode.policy import decode_policy, policy_payload
from peerd.model.address import NamespacedHostname, NetworkAddress
from peerd.model.authorization import Authorization, PolicyScope
from peerd.model.identity import parse_spiffe_id
from peerd.model.resource import Resource
from peerd.model.service import Service
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.model.workload import NetworkMode, Workload

Item = Resource | Workload | Service | Authorization

_ADDRESS_ENUMS = workload_pb2.DESCRIPTOR.enum_types_by_name
_PORTS = range(1, 65_536)


def violations(item: Item, type_url: str = "") -> list[str]:
    """Every rule that *item* alone breaks; *type_url* defaults to the one in a Resource's frame."""
    if isinstance(item, Resource):
        return list(_resource_violations(item, type_url))
    if isinstance(item, Authorization):
        return payload_violations(AUTHORIZATION, policy_payload(item), item.resource_name)
    name = item.uid if isinstance(item, Workload) else item.resource_name
    return payload_violations(ADDRESS, address_payload(item), name)


def payload_violations(type_url: str, payload: bytes, name: str) -> list[str]:
    """Every rule that the resource *name* with *payload* breaks."""
    found: Iterator[str]
    if type_url == ADDRESS:
        found = _address_violations(payload, name)
    elif type_url == AUTHORIZATION:
        found = _policy_violations(payload, name)
    else:
        return [f"{name}: ztunnel does not know type {type_url!r}"]
    return [f"{name}: {text}" for text in found]


def _resource_violations(resource: Resource, type_url: str) -> Iterator[str]:
    try:
        frame = decode_frame(resource.frame)
    except DecodeError as error:
        yield f"{resource.name}: frame: {error}"
        return
    if frame.name != resource.name:
        yield f"{resource.name}: the frame is named {frame.name!r}"
    if frame.version != resource.version or frame.version != version_of(frame.payload):
        yield f"{resource.name}: version {frame.version!r} is not the hash of the payload (§6 item 16)"
    if not frame.payload:
        yield f"{resource.name}: no payload (§1.4)"
        return
    yield from payload_violations(type_url or frame.type_url, frame.payload, resource.name)


# --- istio.workload.Address ---


def _address_violations(payload: bytes, name: str) -> Iterator[str]:
    try:
        address = workload_pb2.Address.FromString(payload)
    except ProtobufDecodeError as error:
        yield f"not an Address: {error}"  # invalid UTF-8 ends here too
        return
    kind = address.WhichOneof("type")
    if kind == "workload":
        yield from _workload_violations(address.workload, name)
    elif kind == "service":
        yield from _service_violations(address.service, name)
    else:
        yield "neither a workload nor a service (§1.6)"
        return
    try:
        decode_address(payload)
    except DecodeError as error:
        yield f"no record of ours: {error}"


def _workload_violations(workload: workload_pb2.Workload, name: str) -> Iterator[str]:
    if workload.uid != name or not name:
        yield f"named {name!r}, its uid is {workload.uid!r} (§6 item 12)"
    if not workload.name:
        yield "no name (§3.1)"
    for address in workload.addresses:
        yield from _ip_violations(address, "addresses")
    yield from _gateway_violations(workload, "waypoint")
    yield from _gateway_violations(workload, "network_gateway")
    if workload.tunnel_protocol == workload_pb2.LEGACY_ISTIO_MTLS:
        yield "tunnel_protocol LEGACY_ISTIO_MTLS (§6 item 18)"
    yield from _enum_violations("tunnel_protocol", workload.tunnel_protocol, _ADDRESS_ENUMS["TunnelProtocol"])
    yield from _enum_violations("network_mode", workload.network_mode, _ADDRESS_ENUMS["NetworkMode"])
    yield from _enum_violations("status", workload.status, _ADDRESS_ENUMS["WorkloadStatus"])
    yield from _enum_violations("workload_type", workload.workload_type, _ADDRESS_ENUMS["WorkloadType"])
    if workload.HasField("application_tunnel"):
        yield from _enum_violations(
            "application_tunnel.protocol",
            workload.application_tunnel.protocol,
            workload_pb2.ApplicationTunnel.DESCRIPTOR.enum_types_by_name["Protocol"],
        )
    if workload.HasField("capacity") and workload.capacity.value == 0:
        yield "capacity 0 (§6 item 19)"
    for service, ports in workload.services.items():
        namespace, _, hostname = service.partition("/")
        if not namespace or not hostname or "/" in hostname:
            yield f"services key {service!r} is not <namespace>/<hostname> (§6 item 17)"
        yield from _port_violations(f"services[{service}]", ports.ports)
    if not workload.addresses and not workload.hostname and not workload.HasField("network_gateway"):
        yield "neither address nor hostname nor network_gateway: nobody can reach it (§3.3)"
    for policy in workload.authorization_policies:
        if policy.count("/") != 1:
            yield f"authorization policy {policy!r} is not <namespace>/<name> (§2.2)"
    is_slice = f"{workload.cluster_id}/discovery.k8s.io/EndpointSlice/" in workload.uid
    if is_slice and workload.network_mode != workload_pb2.HOST_NETWORK:
        yield "a plain EndpointSlice endpoint must be HOST_NETWORK (§6 item 25)"


def _service_violations(service: workload_pb2.Service, name: str) -> Iterator[str]:
    if f"{service.namespace}/{service.hostname}" != name:
        yield f"named {name!r}, is {service.namespace}/{service.hostname} (§6 item 12)"
    if not service.namespace or not service.hostname or "/" in service.hostname:
        yield "namespace and hostname must be set and hold no slash (§1.4)"
    for address in service.addresses:
        yield from _network_address_violations(address, "addresses")
    yield from _port_violations("ports", service.ports)
    yield from _gateway_violations(service, "waypoint")
    for entry in service.weighted_waypoints:
        if not entry.HasField("destination"):
            yield "weighted_waypoints without destination (§1.6)"
        yield from _gateway_violations(entry, "destination")
    yield from _enum_violations("ip_families", service.ip_families, _ADDRESS_ENUMS["IPFamilies"])
    if service.HasField("load_balancing"):
        enums = workload_pb2.LoadBalancing.DESCRIPTOR.enum_types_by_name
        balancing = service.load_balancing
        yield from _enum_violations("load_balancing.mode", balancing.mode, enums["Mode"])
        yield from _enum_violations(
            "load_balancing.health_policy", balancing.health_policy, enums["HealthPolicy"]
        )
        for scope in balancing.routing_preference:
            if scope == workload_pb2.LoadBalancing.UNSPECIFIED_SCOPE:
                yield "routing_preference UNSPECIFIED_SCOPE (§6 item 18)"
            yield from _enum_violations("routing_preference", scope, enums["Scope"])
        if len(set(balancing.routing_preference)) < len(balancing.routing_preference):
            yield "routing_preference names a scope twice"
    sans = list(service.subject_alt_names)
    if len(set(sans)) < len(sans):
        yield "subject_alt_names holds one name twice"


def _ip_violations(address: bytes, where: str) -> Iterator[str]:
    if len(address) not in {4, 16}:
        yield f"{where}: an IP of {len(address)} bytes (§6 item 17)"


def _network_address_violations(address: workload_pb2.NetworkAddress, where: str) -> Iterator[str]:
    yield from _ip_violations(address.address, where)
    if address.HasField("length") and address.length > 8 * len(address.address):
        yield f"{where}: a CIDR of length {address.length} in {len(address.address)} bytes (§1.6)"


def _gateway_violations(
    message: workload_pb2.Workload | workload_pb2.Service | workload_pb2.WeightedWaypoint, field: str
) -> Iterator[str]:
    if not message.HasField(field):  # type: ignore[arg-type]
        return
    gateway: workload_pb2.GatewayAddress = getattr(message, field)
    destination = gateway.WhichOneof("destination")
    if destination is None:
        yield f"{field} without destination (§6 item 17)"
    elif destination == "address":
        yield from _network_address_violations(gateway.address, field)
    elif not gateway.hostname.hostname:
        yield f"{field} names no host"
    if gateway.hbone_mtls_port not in _PORTS:
        yield f"{field}: hbone_mtls_port {gateway.hbone_mtls_port}"


def _port_violations(where: str, ports: Iterable[workload_pb2.Port]) -> Iterator[str]:
    seen = set()
    for port in ports:
        if port.service_port not in _PORTS:
            yield f"{where}: service port {port.service_port} (ztunnel keeps 16 bits, §1.6)"
        if port.target_port and port.target_port not in _PORTS:
            yield f"{where}: target port {port.target_port} (ztunnel keeps 16 bits, §1.6)"
        if port.service_port in seen:
            yield f"{where}: port {port.service_port} twice"
        seen.add(port.service_port)
        yield from _enum_violations(f"{where}.app_protocol", port.app_protocol, _ADDRESS_ENUMS["AppProtocol"])


def _enum_violations(field: str, value: int, enum: object) -> Iterator[str]:
    if value not in enum.values_by_number:  # type: ignore[attr-defined]
        yield f"{field}: unknown value {value} (§1.6)"


# --- istio.security.Authorization ---


def _policy_violations(payload: bytes, name: str) -> Iterator[str]:
    try:
        policy = security_pb2.Authorization.FromString(payload)
    except ProtobufDecodeError as error:
        yield f"not an Authorization: {error}"
        return
    if f"{policy.namespace}/{policy.name}" != name or not policy.namespace or not policy.name:
        yield f"named {name!r}, is {policy.namespace}/{policy.name} (§6 item 12)"
    enums = security_pb2.DESCRIPTOR.enum_types_by_name
    yield from _enum_violations("scope", policy.scope, enums["Scope"])
    yield from _enum_violations("action", policy.action, enums["Action"])
    for rule in policy.rules:
        for clause in rule.clauses:
            for match in clause.matches:
                yield from _match_violations(match)
    try:
        decode_policy(payload)
    except DecodeError as error:
        yield f"no record of ours: {error}"


def _match_violations(match: security_pb2.Match) -> Iterator[str]:
    for field in ("namespaces", "not_namespaces", "principals", "not_principals"):
        for value in getattr(match, field):
            if value.WhichOneof("match_type") is None:
                yield f"{field}: an unset string match, which ztunnel drops (§1.6)"
    for field in ("source_ips", "not_source_ips", "destination_ips", "not_destination_ips"):
        for block in getattr(match, field):
            if len(block.address) not in {4, 16} or block.length > 8 * len(block.address):
                yield f"{field}: a block of {len(block.address)} bytes and length {block.length} (§1.6)"
    for field in ("destination_ports", "not_destination_ports"):
        for port in getattr(match, field):
            if port > _PORTS[-1]:
                yield f"{field}: port {port} (ztunnel keeps 16 bits, §1.6)"
    for field in ("service_accounts", "not_service_accounts"):
        for account in getattr(match, field):
            if not account.namespace or not account.serviceAccount:
                yield f"{field}: namespace or account is empty"


# --- what only shows in the whole ---


def world_violations(
    addresses: Iterable[Workload | Service], policies: Iterable[Authorization] = (), *, network: str = ""
) -> list[str]:
    """Every rule broken by these records, alone and together, for ztunnels of *network*.

    Beside `violations` of each: names are unique, listed policies exist (an unknown one fails open, §2.3), a
    workload's services exist, no two services of a namespace share a VIP in a network (item 27), exactly one
    service of a host name is canonical (item 28), and wherever double HBONE would be used its preconditions
    hold: SANs on the service, a Workload for the gateway's address on the gateway's network (§3.4).
    """
    records = list(addresses)
    rules = list(policies)
    found = [text for record in (*records, *rules) for text in violations(record)]
    services = {record.resource_name: record for record in records if isinstance(record, Service)}
    workloads = [record for record in records if isinstance(record, Workload)]
    names = [record.uid if isinstance(record, Workload) else record.resource_name for record in records]
    found += [f"{name}: sent twice" for name, times in Counter(names).items() if times > 1]
    found += _policy_reference_violations(workloads, {rule.resource_name: rule for rule in rules})
    found += _vip_violations(services.values())
    found += _canonical_violations(services.values())
    for workload in workloads:
        found += _membership_violations(workload, services)
        if workload.network != network and workload.services:
            found += _double_hbone_violations(workload, workloads, services)
    return found


def _policy_reference_violations(
    workloads: Iterable[Workload], policies: dict[str, Authorization]
) -> list[str]:
    found = []
    for workload in workloads:
        for name in workload.authorization_policies:
            policy = policies.get(name)
            if policy is None:
                found.append(f"{workload.uid}: policy {name} is unknown, which fails open (§2.3)")
            elif policy.scope is not PolicyScope.WORKLOAD_SELECTOR:
                found.append(f"{workload.uid}: lists {name}, whose scope is {policy.scope.name} (item 34)")
    return found


def _vip_violations(services: Iterable[Service]) -> list[str]:
    owners = defaultdict(list)
    for service in services:
        for address in service.addresses:
            owners[service.namespace, address].append(service.hostname)
    return [
        f"{namespace}: {' and '.join(sorted(hosts))} share VIP {address.key()} (item 27)"
        for (namespace, address), hosts in owners.items()
        if len(hosts) > 1
    ]


def _canonical_violations(services: Iterable[Service]) -> list[str]:
    owners: dict[str, list[Service]] = defaultdict(list)
    for service in services:
        owners[service.hostname].append(service)
    return [
        f"{hostname}: {sum(service.canonical for service in group)} canonical services (item 28)"
        for hostname, group in owners.items()
        if sum(service.canonical for service in group) > 1
    ]


def _membership_violations(workload: Workload, services: dict[str, Service]) -> list[str]:
    found = []
    for entry in workload.services:
        service = services.get(entry.service)
        if service is None:
            found.append(
                f"{workload.uid}: belongs to {entry.service}, which is not sent (stagedServices, §5.7)"
            )
            continue
        known = {port.service_port for port in service.ports}
        found += [
            f"{workload.uid}: maps port {port.service_port}, unknown to {entry.service} (§3.3)"
            for port in entry.ports
            if port.service_port not in known
        ]
    return found


def _double_hbone_violations(
    workload: Workload, workloads: Iterable[Workload], services: dict[str, Service]
) -> list[str]:
    gateway = workload.network_gateway
    if gateway is None:
        return [f"{workload.uid}: on another network without network_gateway: no valid destination (§3.4)"]
    found = []
    for entry in workload.services:
        sans = services[entry.service].subject_alt_names if entry.service in services else ("",)
        if not sans:
            found.append(f"{entry.service}: remote endpoints but no subject_alt_names (item 32)")
        for san in sans:
            if san:
                try:
                    parse_spiffe_id(san)
                except ValueError as error:
                    found.append(f"{entry.service}: subject_alt_names: {error}")
    match gateway.destination:
        case NetworkAddress(network, address):
            known = any(
                other.network == network and address in other.addresses
                for other in workloads
                if other.network_mode is NetworkMode.STANDARD
            )
        case NamespacedHostname(namespace, hostname):
            known = f"{namespace}/{hostname}" in services or any(
                other.namespace == namespace and other.hostname == hostname for other in workloads
            )
    if not known:
        found.append(f"{workload.uid}: no Workload for its network gateway (item 31)")
    return found
