"""Random objects of every kind that peerd reads, over few names, so that they meet."""

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import strategies as st

from peerd.model.changes import ObjectChange
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import KubeObject

ROOT = "istio-system"
SPACES = ("nsaaa", "nsbbb")
NAMES = ("n1", "n2")
APPS = ("web", "db")
NETWORKS = ("net1", "net2")
SEGMENTS = ("acme", "beta")
# Templates of aliases: of one service, of several, of none.
PATTERNS = (
    "{service}.{namespace}.alias.example",
    "{service}.alias.example",
    "{labels['team']}.alias.example",
    "{annotations['who']}.alias.example",
    "{service}.{namespace}.mesh.acme",
    "all.{places}",
)

spaces = st.sampled_from(SPACES)
all_spaces = st.sampled_from((*SPACES, ROOT))
names = st.sampled_from(NAMES)
apps = st.sampled_from(APPS)
times = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
ips = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])
maybe_labels = st.sampled_from(
    [
        {},
        {},
        {"istio.io/use-waypoint": "n1"},
        {"istio.io/use-waypoint": "n1"},
        {"istio.io/use-waypoint": "none"},
        {"istio.io/use-waypoint": "n2", "istio.io/use-waypoint-namespace": "nsaaa"},
        {"istio.io/use-waypoint": "n1", "istio.io/use-waypoint-canary": "n2"},
        {"gateway.networking.k8s.io/gateway-name": "n1"},
        {"istio.io/rev": "other"},
        {"team": "x"},
        {"solo.io/service-scope": "global"},
        {"solo.io/service-scope": "global"},
        {"solo.io/service-scope": "global-only"},
        {"solo.io/service-scope": "segment"},
        {"solo.io/service-scope": "cluster"},
        {"solo.io/service-scope": "global", "solo.io/service-takeover": "true"},
        {"solo.io/service-takeover": "true"},
        {"istio.io/global": "true"},
    ]
)
ports = st.sampled_from(
    [
        [],
        [{"port": 80, "name": "http", "targetPort": 8080, "protocol": "TCP"}],
        [{"port": 80, "name": "http", "targetPort": "web", "protocol": "TCP"}],
    ]
)


def _meta(
    space: str, name: str, created: str, labels: dict[str, str], annotations: dict[str, str]
) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "uid": f"uid-{name}", "creationTimestamp": created}
    if space:
        meta["namespace"] = space
    return {**meta, "labels": labels, "annotations": annotations}


def _metas(
    space: st.SearchStrategy[str] = spaces,
    name: st.SearchStrategy[str] = names,
    annotations: Iterable[dict[str, str]] = ({},),
) -> st.SearchStrategy[dict[str, Any]]:
    labels = st.builds(lambda app, more: {"app": app, **more}, apps, maybe_labels)
    return st.builds(_meta, space, name, times, labels, st.sampled_from(list(annotations)))


_CAPTURED: tuple[dict[str, str], ...] = ({}, {"ambient.istio.io/redirection": "enabled"})

TREES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "Namespace": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda meta, network, segment: {**meta, "labels": {**meta["labels"], **network, **segment}},
                _metas(
                    st.just(""),
                    all_spaces,
                    ({}, {"networking.istio.io/traffic-distribution": "PreferClose"}),
                ),
                st.sampled_from([{}, {"topology.istio.io/network": "net1"}]),
                st.sampled_from([{}, *({"admin.solo.io/segment": name} for name in SEGMENTS)]),
            )
        }
    ),
    "Segment": st.fixed_dictionaries(
        {
            "metadata": _metas(all_spaces, st.sampled_from(SEGMENTS)),
            "spec": st.fixed_dictionaries(
                {
                    "domain": st.sampled_from(["mesh.acme", "mesh.acme", "mesh.beta", ""]),
                    "aliases": st.lists(
                        st.fixed_dictionaries(
                            {"pattern": st.sampled_from(PATTERNS)},
                            optional={"selector": st.builds(lambda app: {"matchLabels": {"app": app}}, apps)},
                        ),
                        max_size=3,
                    ),
                }
            ),
        }
    ),
    "Node": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda name, zone: {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
                names,
                st.sampled_from(["", "z1", "z2"]),
            )
        }
    ),
    "Pod": st.fixed_dictionaries(
        {
            "metadata": _metas(annotations=_CAPTURED),
            "spec": st.fixed_dictionaries(
                {
                    "nodeName": names,
                    "serviceAccountName": apps,
                    "containers": st.sampled_from(
                        [[], [{"ports": [{"name": "web", "containerPort": 9090, "protocol": "TCP"}]}]]
                    ),
                }
            ),
            "status": st.fixed_dictionaries(
                {
                    "phase": st.sampled_from(["Running", "Running", "Running", "Pending", "Succeeded"]),
                    "podIPs": st.lists(ips.map(lambda ip: {"ip": ip}), min_size=1, max_size=2),
                    "conditions": st.sampled_from([[], [{"type": "Ready", "status": "True"}]]),
                }
            ),
        }
    ),
    "Service": st.fixed_dictionaries(
        {
            "metadata": _metas(
                annotations=({}, {"who": "me"}, {"networking.istio.io/traffic-distribution": "PreferRegion"})
            ),
            "spec": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["ClusterIP", "ClusterIP", "ExternalName"]),
                    "clusterIPs": st.lists(ips, max_size=2),
                    "ports": ports,
                    "selector": st.sampled_from([{}, {"app": "web"}, {"app": "db"}]),
                    "publishNotReadyAddresses": st.booleans(),
                }
            ),
        }
    ),
    "ServiceEntry": st.fixed_dictionaries(
        {
            "metadata": _metas(annotations=_CAPTURED),
            "spec": st.fixed_dictionaries(
                {
                    "hosts": st.lists(
                        st.sampled_from(
                            [
                                "h.example.org",
                                "*.example.org",
                                "n1.nsaaa.svc.cluster.local",
                                "n1.nsaaa.mesh.internal",
                                "n1.alias.example",
                            ]
                        ),
                        max_size=2,
                        unique=True,
                    ),
                    "addresses": st.sampled_from([[], ["240.0.0.1"], ["10.1.0.0/16"]]),
                    "ports": st.sampled_from([[], [{"number": 80, "name": "web", "protocol": "HTTP"}]]),
                    "resolution": st.sampled_from(["", "STATIC", "DNS", "NONE", "DYNAMIC_DNS"]),
                    "endpoints": st.lists(
                        st.fixed_dictionaries(
                            {"address": ips, "network": st.sampled_from(["", *NETWORKS])},
                            optional={"labels": maybe_labels, "weight": st.just(3)},
                        ),
                        max_size=2,
                    ),
                },
                optional={"workloadSelector": st.just({"labels": {"app": "web"}})},
            ),
        }
    ),
    "WorkloadEntry": st.fixed_dictionaries(
        {
            "metadata": _metas(annotations=_CAPTURED),
            "spec": st.fixed_dictionaries(
                {"address": st.one_of(ips, st.just("vm.example.org")), "labels": maybe_labels},
                optional={"network": st.sampled_from(NETWORKS), "ports": st.just({"http": 81})},
            ),
        }
    ),
    "EndpointSlice": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda meta, service: {**meta, "labels": {"kubernetes.io/service-name": service}},
                _metas(),
                names,
            ),
            "addressType": st.sampled_from(["IPv4", "FQDN"]),
            "endpoints": st.lists(
                st.fixed_dictionaries(
                    {"addresses": st.lists(ips, max_size=2)},
                    optional={
                        "targetRef": st.builds(
                            lambda space, name: {
                                "kind": "Pod",
                                "namespace": space,
                                "name": name,
                                "uid": f"uid-{name}",
                            },
                            spaces,
                            names,
                        )
                    },
                ),
                max_size=2,
            ),
            "ports": st.sampled_from([[], [{"name": "http", "port": 8080, "protocol": "TCP"}]]),
        }
    ),
    "Gateway": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda meta, more: {**meta, "labels": more},
                _metas(
                    all_spaces,
                    annotations=({}, {"ambient.istio.io/waypoint-inbound-binding": "PROXY/15088"}),
                ),
                st.sampled_from(
                    [{}, {"topology.istio.io/network": "net1"}, {"topology.istio.io/network": "net2"}]
                ),
            ),
            "spec": st.fixed_dictionaries(
                {
                    "gatewayClassName": st.sampled_from(
                        ["istio-waypoint", "istio-waypoint", "istio-remote", "istio-eastwest"]
                    ),
                    "addresses": st.sampled_from([[], [{"type": "IPAddress", "value": "192.0.2.1"}]]),
                    "listeners": st.lists(
                        st.fixed_dictionaries(
                            {"port": st.sampled_from([15008, 15088]), "protocol": st.just("HBONE")},
                            optional={
                                "allowedRoutes": st.sampled_from(
                                    [
                                        {"namespaces": {"from": "All"}},
                                        {
                                            "namespaces": {
                                                "from": "Selector",
                                                "selector": {"matchLabels": {"team": "x"}},
                                            }
                                        },
                                    ]
                                )
                            },
                        ),
                        max_size=2,
                    ),
                }
            ),
            "status": st.fixed_dictionaries(
                {
                    "addresses": st.sampled_from(
                        [
                            [],
                            [{"type": "IPAddress", "value": "192.0.2.1"}],
                            [{"type": "IPAddress", "value": "192.0.2.1"}],
                            [{"type": "Hostname", "value": "gw.example.org"}],
                        ]
                    )
                }
            ),
        }
    ),
    "GatewayClass": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda name, traffic: {"name": name, "labels": {"istio.io/waypoint-for": traffic}},
                st.just("istio-waypoint"),
                st.sampled_from(["service", "all", "workload"]),
            )
        }
    ),
    "AuthorizationPolicy": st.fixed_dictionaries(
        {
            "metadata": _metas(all_spaces),
            "spec": st.fixed_dictionaries(
                {"action": st.sampled_from(["ALLOW", "DENY", "AUDIT"])},
                optional={"selector": st.builds(lambda app: {"matchLabels": {"app": app}}, apps)},
            ),
        }
    ),
    "PeerAuthentication": st.fixed_dictionaries(
        {
            "metadata": _metas(all_spaces),
            "spec": st.fixed_dictionaries(
                {"mtls": st.sampled_from([{"mode": "STRICT"}, {"mode": "PERMISSIVE"}, {}])},
                optional={
                    "selector": st.builds(lambda app: {"matchLabels": {"app": app}}, apps),
                    "portLevelMtls": st.sampled_from(
                        [{"80": {"mode": "STRICT"}}, {"80": {"mode": "DISABLE"}}]
                    ),
                },
            ),
        }
    ),
    "ConfigMap": st.fixed_dictionaries(
        {
            "metadata": st.just({"namespace": ROOT, "name": "istio"}),
            "data": st.sampled_from(
                [
                    {},
                    {"mesh": "trustDomain: other.local"},
                    {"mesh": "discoverySelectors: [{matchLabels: {team: x}}]"},
                    {"mesh": "rootNamespace: nsaaa"},
                    {"mesh": "serviceEntryVisibility: {defaultVisibility: NAMESPACE}"},
                ]
            ),
        }
    ),
}


def change(kind: str, tree: dict[str, Any]) -> ObjectChange:
    """An object put, from its JSON tree."""
    found: KubeObject = msgspec.convert(tree, KINDS_BY_NAME[kind].type)
    return ObjectChange(kind, found.key, found)
