"""Every configuration that the scenario corpus gives rise to is accepted by a real Envoy.

Three times: by the messages of `xds-protos`, field by field; by Envoy's `--mode validate`; and live over
delta ADS, where every revision of every scenario must be ACKed.
"""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2  # noqa: F401 (for Any)
from envoy.extensions.access_loggers.stream.v3 import stream_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,  # noqa: F401
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2  # noqa: F401
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2  # noqa: F401
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from peerd.app.gateways import TYPES
from peerd.encode.envoy import encode_cluster, encode_endpoints
from peerd.encode.envoy_listeners import encode_listener, encode_route
from peerd.encode.frame import decode_frame
from peerd.gateway.companion import envoy_arguments
from peerd.model.caller import Caller, CallerKind
from peerd.model.gateway_config import BOOTSTRAP_FILE, OwnGateway
from peerd.model.identity import SpiffeId
from peerd.model.resource import Resource, ResourceChange
from peerd.model.types import CLUSTER, DELTA_METHOD, ENDPOINT, LISTENER, ROUTE
from peerd.resources.store import ResourceStore
from peerd.serve.ads import AdsService
from peerd.serve.authentication import by_certificate, chain
from peerd.serve.authorisation import Authorisation
from peerd.serve.connections import ConnectionRegistry
from peerd.serve.debug_types import DebugTypes
from peerd.serve.gateways import check_gateway, gateway_rules
from peerd.transport.http2 import Http2Server
from peerd.transport.tls import FixedTls
from tests.support.ads import SystemClock
from tests.support.clusters import Cluster, put
from tests.support.envoys import CONTROL_PLANE, make_ca, material, prepare, settings
from tests.support.gateways import ACCOUNT, envoy
from tests.support.ports import address_block
from tests.support.scenarios import Scenario

SCENARIOS = sorted((Path(__file__).parents[1] / "scenarios").glob("*.yaml"))
MESSAGES: dict[str, Any] = {
    LISTENER: listener_pb2.Listener,
    ROUTE: route_pb2.RouteConfiguration,
    CLUSTER: cluster_pb2.Cluster,
    ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
}
Resources = dict[tuple[str, str], Resource]


def resources(cluster: Cluster, block: str) -> Resources:
    """What a cluster's gateways are served, with a Gateway that binds an address of *block*."""
    own = {
        "metadata": {
            "name": ACCOUNT,
            "namespace": "istio-system",
            "labels": {"istio.io/expose-istiod": "15012"},
        },
        "spec": {
            "gatewayClassName": "istio-eastwest",
            "addresses": [{"type": "IPAddress", "value": f"{block}.1"}],
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    }
    # Beside what the scenario has: it must not change what it says of itself.
    listeners = Cluster("listeners", [put("Gateway", own)]).gateway_listeners
    route = encode_route()
    found: Resources = {(ROUTE, route.name): route}
    found |= {(LISTENER, name): encode_listener(each) for name, each in listeners.items()}
    found |= {(CLUSTER, name): encode_cluster(each) for name, each in cluster.gateway_clusters.items()}
    found |= {(ENDPOINT, name): encode_endpoints(each) for name, each in cluster.gateway_endpoints.items()}
    return found


def states(path: Path, block: str) -> Iterator[Resources]:
    """Every state of every cluster of a scenario."""
    scenario = Scenario(path)
    for _ in scenario.steps():
        for cluster in scenario.clusters.values():
            yield resources(cluster, block)


def test_the_corpus_gives_gateways_something_to_do():
    """Names, empty and filled endpoints, several localities: otherwise the rest proves little."""
    found = [state for path in SCENARIOS for state in states(path, "127.0.0")]
    clusters = {name for state in found for kind, name in state if kind == CLUSTER}
    places = [
        len(endpoint_pb2.ClusterLoadAssignment.FromString(decode_frame(each.frame).payload).endpoints)
        for state in found
        for (kind, _), each in state.items()
        if kind == ENDPOINT
    ]
    assert len(clusters) > 20
    assert {0, 1, 2} <= set(places)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_envoy_takes_it_as_a_file(path, tmp_path):
    """Nothing is unknown to Envoy's own messages, and `--mode validate` says OK."""
    static: dict[str, dict[str, Any]] = {LISTENER: {}, CLUSTER: {}}
    loads: dict[str, Any] = {}
    for state in states(path, "127.0.0"):
        for (kind, name), resource in state.items():
            payload = decode_frame(resource.frame).payload
            tree = as_envoy(kind, payload)
            if kind in static:
                static[kind][f"{name} {resource.version}"] = tree
            elif kind == ENDPOINT:
                loads[f"{name} {resource.version}"] = tree
    clusters = []
    for number, tree in enumerate(static[CLUSTER].values()):
        clusters.append({**tree, "name": f"{number}.{tree['name']}"})
    # Endpoints are not part of a file; as a static cluster's they are looked at none the less.
    for number, tree in enumerate(loads.values()):
        name = f"load-{number}"
        clusters.append({"name": name, "type": "STATIC", "load_assignment": {**tree, "cluster_name": name}})
    prepare(make_ca(tmp_path), settings(tmp_path))
    whole = json.loads((tmp_path / BOOTSTRAP_FILE).read_text())
    whole["static_resources"]["clusters"] += clusters
    whole["static_resources"]["listeners"] += list(static[LISTENER].values())
    (tmp_path / BOOTSTRAP_FILE).write_text(json.dumps(whole))

    done = subprocess.run(
        [envoy(), "--mode", "validate", *envoy_arguments(settings(tmp_path))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK" in done.stdout


def as_envoy(kind: str, payload: bytes) -> dict[str, Any]:
    """The message as Envoy's own protos have it, after a look that nothing of it is unknown to them."""
    message = MESSAGES[kind].FromString(payload)
    assert unknown(message) == []
    tree: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return tree


def unknown(message: Message) -> list[str]:
    """Fields that the message's type does not have, in it and in all that it holds, Anys included."""
    found = [f"{message.DESCRIPTOR.full_name}: {each.field_number}" for each in UnknownFieldSet(message)]
    if isinstance(message, any_pb2.Any):
        kind = message_factory.GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(message.TypeName())
        )
        return found + unknown(kind.FromString(message.value))
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for each in value if field.is_repeated else (value,):
            found += unknown(each)
    return found


def test_a_field_that_envoy_does_not_know_is_found():
    """In a message, and in an Any within."""
    inner = any_pb2.Any()
    inner.Pack(tls_pb2.DownstreamTlsContext())
    inner.value += b"\xd2\x3e\x00"
    message = listener_pb2.Listener()
    message.filter_chains.add().transport_socket.typed_config.CopyFrom(inner)
    assert unknown(message) == ["envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext: 1002"]
    assert unknown(listener_pb2.Listener.FromString(b"\xd2\x3e\x00")) != []


async def test_envoy_takes_it_live(tmp_path):
    """One Envoy is served every state of every scenario in turn: each revision is ACKed, none is NACKed."""
    block = address_block()
    store = ResourceStore(TYPES, "test")
    registry = ConnectionRegistry()
    ca = make_ca(tmp_path)
    own = {f"istio-system/{ACCOUNT}": OwnGateway("istio-system", ACCOUNT, ACCOUNT)}
    gateway = SpiffeId("cluster.local", "istio-system", ACCOUNT)

    def check(node: Any, caller: Caller) -> None:
        check_gateway(node, caller, own)

    service = AdsService(
        store,
        gateway_rules(),
        authenticate=chain(by_certificate(CallerKind.GATEWAY, lambda: (gateway,))),
        allowed=Authorisation((), "istio-system").allowed,
        registry=registry,
        debug=DebugTypes(registry, "peerd-0"),
        clock=SystemClock(),
        check=check,
    )
    await service.start()
    server = Http2Server(
        "127.0.0.1:0",
        {DELTA_METHOD: service.handlers[DELTA_METHOD]},
        tls=FixedTls(material(ca, str(CONTROL_PLANE))),
    )
    bound = await server.start()
    own_settings = settings(tmp_path, xds=bound, block=block)
    prepare(ca, own_settings)
    log = tmp_path / "envoy.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            envoy(), *envoy_arguments(own_settings), cwd=tmp_path, stdout=output, stderr=output
        )
    revisions = 0
    try:
        before: Resources = {}
        for path in SCENARIOS:
            for state in states(path, block):
                changes = [ResourceChange(*key, None) for key in before.keys() - state.keys()]
                changes += [
                    ResourceChange(*key, each) for key, each in state.items() if before.get(key) != each
                ]
                before = state
                if not changes:
                    continue
                store.commit(changes)
                service.window.publish()
                revisions += 1
                await settled(registry, state, log.read_text, revisions)
    finally:
        process.terminate()
        await process.wait()
        await server.close(0)
        await service.close()
    assert revisions > 100
    assert not registry.rejects, log.read_text()
    assert registry.pushes[ENDPOINT] > 100


async def settled(
    registry: ConnectionRegistry, state: Resources, told: Callable[[], str], revision: int
) -> None:
    """Wait until Envoy has ACKed all that it is owed of *state*."""
    wanted = {kind for kind, _ in state}
    try:
        async with asyncio.timeout(60):
            while True:
                rows = {row.type_url: row for connection in registry for row in connection.views()}
                if wanted <= rows.keys() and all(
                    rows[kind].sent and rows[kind].sent == rows[kind].acked for kind in wanted
                ):
                    return
                assert not registry.rejects, told()
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"revision {revision} is not ACKed: {rows}; {told()[-3000:]}") from None
