"""The language of scenarios: several clusters in one YAML file, what happens to them, and who is asked.

    proves: one sentence
    covers: [row 8, istio 57395]       # features, faults and decisions, each by its usual name
    clusters:
      west:                            # its network is called like it; or a mapping with `objects`
        - Service shop/reviews: {labels: {solo.io/service-scope: global}}
        - Pods shop/reviews in us/us-1: 2
      east: []
    links: [east -> west]              # an istio-remote Gateway in east that leads to west
    ask:
      east calls reviews.shop.mesh.internal: west
    then:
      - step: nobody is left
        change: {west: [Pods shop/reviews in us/us-1: 0]}
        ask: {...}

An object is `<Kind> <namespace>/<name>: {labels, annotations, created, status, ...}`, all else being its
`spec`. Shorthands: `Pods <ns>/<app> [in <region>/<zone>]` (a number, or count, ready, outside, account,
node, labels, ports, ips), `Waypoint <ns>/<name>` (its Gateway, Service and so many Pods), `Segment <name>`,
`Gone <Kind> <ns>/<name>`. A step may also say `peers: {east -> west: stale | expired | fresh | cut}`, `link`
and `unlink`. A question is `<cluster> [at <region>/<zone>] [on <node>] [in <namespace>] calls
<host>[:<port>]`,
its answer one of tests/support/paths.py.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from peerd.model.address import Locality
from peerd.model.changes import (
    Change,
    ImportChange,
    ImportedWorkloadChange,
    ObjectChange,
    PeerChange,
    TakeoverChange,
)
from peerd.model.federation import FederatedService, Freshness, PeerInfo, PeerView
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.model.workload import Workload
from tests.support.clusters import Cluster, flat_exports, gone, put
from tests.support.paths import answers, words
from tests.support.views import view
from tests.support.ztunnel_choice import Client

SYSTEM = "istio-system"
_LINK = re.compile(r"(\S+) -> (\S+)(?: as (\S+))?")
_QUESTION = re.compile(
    r"(?P<cluster>\S+)(?: at (?P<region>[^/ ]+)/(?P<zone>\S+))?(?: on (?P<node>\S+))?(?: in (?P<ns>\S+))?"
    r" calls (?P<host>[^:\s]+)(?::(?P<port>\d+))?"
)


class Link:
    """An istio-remote Gateway of one cluster that leads to another, and what came through it."""

    def __init__(self, text: str) -> None:
        found = _LINK.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no link; write `east -> west`")
        self.home, self.to, name = found.groups()
        self.key = ObjectKey(SYSTEM, name or self.to)
        self.freshness = Freshness.FRESH
        self.cut = False
        self.info: PeerInfo | None = None
        self.seen: dict[str, FederatedService] = {}
        self.seen_flat: dict[str, Workload] = {}

    def changes(self, peer: Cluster, home: Cluster) -> list[Change]:
        """What the importer of *home* would tell now."""
        before, before_flat = self.seen, self.seen_flat
        if not self.cut:
            self.seen, self.info = dict(peer.exports), peer.info
            self.seen_flat = flat_exports(peer, home)
        return [
            PeerChange(self.key, PeerView(self.key, self.info, self.freshness)),
            *(ImportChange(self.key, name, None) for name in sorted(before.keys() - self.seen.keys())),
            *(
                ImportedWorkloadChange(self.key, uid, None)
                for uid in sorted(before_flat.keys() - self.seen_flat.keys())
            ),
            *self.imports(),
        ]

    def imports(self) -> list[Change]:
        """Everything that was told."""
        return [
            *(ImportChange(self.key, name, found) for name, found in sorted(self.seen.items())),
            *(ImportedWorkloadChange(self.key, uid, found) for uid, found in sorted(self.seen_flat.items())),
        ]

    def withdrawn(self) -> list[Change]:
        """Everything taken back."""
        return [
            *(ImportChange(self.key, name, None) for name in self.seen),
            *(ImportedWorkloadChange(self.key, uid, None) for uid in self.seen_flat),
        ]


class Scenario:
    """Clusters that play one file. `steps` runs it; each yields its name, wrong answers and changed views.

    *settings* are all clusters' (peerd/model/mesh.py).
    """

    def __init__(self, path: Path, **settings: Any) -> None:
        self._common = settings
        self.script: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        self.clusters: dict[str, Cluster] = {}
        self.links: dict[str, Link] = {}
        self._settings: dict[str, dict[str, Any]] = {}
        self._objects: dict[str, dict[tuple[str, ObjectKey], Change]] = {}
        self._pods: dict[tuple[str, str], int] = {}
        self._places: dict[str, int] = {}
        for name, tree in self.script["clusters"].items():
            self._start(name, tree)

    def steps(self) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
        """Play the file."""
        start = {"step": "start", "link": self.script.get("links", []), "ask": self.script.get("ask", {})}
        before: dict[str, Any] = {}
        for step in (start, *self.script.get("then", [])):
            self._play(step)
            views = {name: view(cluster) for name, cluster in self.clusters.items()}
            changed = {name: found for name, found in views.items() if before.get(name) != found}
            before = views
            yield step["step"], self._wrong(step.get("ask") or {}), changed

    def objects(self, name: str) -> list[KubeObject]:
        """The objects that a cluster has now."""
        return [
            change.object
            for change in self._objects[name].values()
            if isinstance(change, ObjectChange) and change.object is not None
        ]

    def afresh(self) -> dict[str, Cluster]:
        """The same clusters from what there is now, told in the opposite order."""
        fresh = {
            name: Cluster(name, [*reversed(found.values())], **self._settings[name])
            for name, found in self._objects.items()
        }
        for link in reversed(self.links.values()):
            told = PeerChange(link.key, PeerView(link.key, link.info, link.freshness))
            fresh[link.home].apply([*self._remembered(link.home), *reversed(link.imports()), told])
        return fresh

    def _remembered(self, name: str) -> list[Change]:
        """What is kept over a restart, beside objects and imports."""
        return [TakeoverChange(service, found) for service, found in self.clusters[name].takeovers.items()]

    # -- what happens ------------------------------------------------------------------------------------

    def _start(self, name: str, tree: Any) -> None:
        given = dict(tree) if isinstance(tree, dict) else {"objects": tree or []}
        network, segment = given.get("network", name), given.get("segment")
        self._settings[name] = dict(self._common) | {
            key: given[key.replace("_", "-")]
            for key in ("trust_domain", "domain")
            if key.replace("_", "-") in given
        }
        self.clusters[name] = Cluster(name, **self._settings[name])
        self._objects[name] = {}
        labels = {"topology.istio.io/network": network} if network else {}
        if segment:
            labels["admin.solo.io/segment"] = segment
        self._apply(name, [put("Namespace", {"metadata": {"name": SYSTEM, "labels": labels}})])
        self._apply(name, self._all(name, given.get("objects") or []))

    def _play(self, step: Mapping[str, Any]) -> None:
        for name, entries in (step.get("change") or {}).items():
            self._apply(name, self._all(name, entries))
        for entry in step.get("link") or []:
            text, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            link = self.links.setdefault(text, Link(text))
            self._apply(link.home, [self._gateway(link, dict(options))])
        for text in step.get("unlink") or []:
            link = self.links.pop(text)
            self._apply(link.home, [gone("Gateway", *_parts(link.key)), PeerChange(link.key, None)])
            self._apply(link.home, link.withdrawn())
        for text, word in (step.get("peers") or {}).items():
            link = self.links[text]
            link.cut = word != "fresh"
            link.freshness = Freshness.FRESH if word == "cut" else Freshness(word)
        for link in self.links.values():
            home = self.clusters[link.home]
            home.apply(link.changes(self.clusters[link.to], home))

    def _apply(self, name: str, changes: list[Any]) -> None:
        changes = [*self._new_namespaces(name, changes), *changes]
        for change in changes:
            if isinstance(change, ObjectChange):
                if change.object is None:
                    del self._objects[name][change.kind, change.key]
                else:
                    self._objects[name][change.kind, change.key] = change
        self.clusters[name].apply(changes)

    def _new_namespaces(self, name: str, changes: list[Any]) -> list[Any]:
        """Namespaces that an API server would have demanded first."""
        put_here = [each for each in changes if isinstance(each, ObjectChange) and each.object is not None]
        there = {key.name for kind, key in self._objects[name] if kind == "Namespace"}
        there |= {each.key.name for each in put_here if each.kind == "Namespace"}
        wanted = {each.key.namespace for each in put_here if each.key.namespace}
        return [put("Namespace", {"metadata": {"name": each}}) for each in sorted(wanted - there)]

    def _wrong(self, ask: Mapping[str, str]) -> list[str]:
        return self.wrong(ask, self.clusters)

    def wrong(self, ask: Mapping[str, str], clusters: Mapping[str, Cluster]) -> list[str]:
        """The questions whose answer is another one, where *clusters* are as ztunnels see them."""
        found = []
        for question, expected in ask.items():
            answer = self._answer(question, clusters)
            if answer != expected:
                found.append(f"{question}: {answer}, not {expected}")
        return found

    def _answer(self, question: str, clusters: Mapping[str, Cluster]) -> str:
        parsed = _QUESTION.fullmatch(question)
        if parsed is None:
            raise ValueError(f"{question!r} is no question; write `east calls a.b.mesh.internal:80`")
        name = parsed["cluster"]
        client = Client(
            clusters[name].network,
            parsed["ns"] or "client",
            name,
            parsed["node"] or "",
            Locality(parsed["region"] or "", parsed["zone"] or ""),
        )
        return words(answers(clusters, client, parsed["host"], int(parsed["port"] or 80)))

    # -- shorthands --------------------------------------------------------------------------------------

    def _all(self, cluster: str, entries: list[dict[str, Any] | str]) -> list[Any]:
        found: list[Any] = []
        for entry in entries:
            text, body = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            found += self._entry(cluster, text, body)
        return found

    def _entry(self, cluster: str, text: str, body: Any) -> list[Any]:
        kind, _, place = text.partition(" ")
        match kind:
            case "Pods":
                return self._some_pods(cluster, place, body if isinstance(body, dict) else {"count": body})
            case "Waypoint":
                return self._waypoint(cluster, place, body if isinstance(body, dict) else {"pods": body})
            case "Segment":
                return [put(kind, {"metadata": {"name": place, "namespace": SYSTEM}, "spec": body})]
            case "Gone":
                kind, _, place = place.partition(" ")
                namespace, _, name = place.rpartition("/")
                return [gone(kind, namespace, name)]
        namespace, _, name = place.rpartition("/")
        rest = dict(body or {})
        meta = {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": str(rest.pop("created", "2026-01-01T00:00:00Z")),
            "labels": rest.pop("labels", {}),
            "annotations": rest.pop("annotations", {}),
        }
        tree: dict[str, Any] = {"metadata": meta}
        for part in ("status", "data"):
            if part in rest:
                tree[part] = rest.pop(part)
        if kind == "Service":
            rest = _service_spec(name, namespace, rest)
        if rest:
            tree["spec"] = rest
        return [put(kind, tree)]

    def _some_pods(self, cluster: str, text: str, body: dict[str, Any]) -> list[Any]:
        """So many Pods of an app in one place; those there were before and are too many go."""
        owner, _, place = text.partition(" in ")
        namespace, _, app = owner.partition("/")
        suffix = f"-{place.partition('/')[2]}" if place else ""
        count = body.get("count", 1)
        ready = body.get("ready", count)
        before = self._pods.get((cluster, text), 0)
        self._pods[cluster, text] = count
        at = self._places.setdefault(text, len(self._places) + 1)
        index, ips = list(self._settings).index(cluster), body.get("ips")
        node = body.get("node", place.replace("/", "-"))
        found: list[Any] = []
        if place:
            region, _, zone = place.partition("/")
            labels = {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}
            found.append(put("Node", {"metadata": {"name": node, "labels": labels}}))
        for number in range(count):
            tree = {
                "metadata": {
                    "name": f"{app}{suffix}-{number}",
                    "namespace": namespace,
                    "labels": {"app": app, **body.get("labels", {})},
                    "annotations": {} if body.get("outside") else {"ambient.istio.io/redirection": "enabled"},
                },
                "spec": {
                    "serviceAccountName": body.get("account", app),
                    "nodeName": node,
                    "containers": [{"name": "app", "ports": body.get("ports", [])}],
                },
                "status": {
                    "phase": "Running",
                    "podIP": ips[number] if ips else f"10.{index}.{at}.{number + 1}",
                    "conditions": [{"type": "Ready", "status": str(number < ready)}],
                },
            }
            found.append(put("Pod", tree))
        return found + [gone("Pod", namespace, f"{app}{suffix}-{number}") for number in range(count, before)]

    def _waypoint(self, cluster: str, place: str, body: dict[str, Any]) -> list[Any]:
        namespace, _, name = place.partition("/")
        host = f"{name}.{namespace}.svc.{self._settings[cluster].get('domain', 'cluster.local')}"
        addresses = [{"type": "Hostname", "value": host}]
        listeners = [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
        gateway = {"gatewayClassName": "istio-waypoint", "listeners": listeners}
        return [
            *self._entry(cluster, f"Gateway {place}", {**gateway, "status": {"addresses": addresses}}),
            *self._entry(cluster, f"Service {place}", {"ports": [15008], **body.get("service", {})}),
            *self._some_pods(cluster, place, {"count": body.get("pods", 1), "ready": body.get("ready", 99)}),
        ]

    def _gateway(self, link: Link, options: dict[str, Any]) -> Any:
        """The Gateway of a link; by default with the one address that documents give the far cluster."""
        number = 10 * (list(self._settings).index(link.to) + 1)
        addresses = [
            {"type": "Hostname" if re.search("[a-z]", value) else "IPAddress", "value": value}
            for value in options.pop("addresses", [f"198.51.100.{number}"])
        ]
        network = options.pop("network", self.clusters[link.to].network)
        tree = {
            "metadata": {
                "name": link.key.name,
                "namespace": SYSTEM,
                "creationTimestamp": str(options.pop("created", "2026-01-01T00:00:00Z")),
                "labels": {
                    **({"topology.istio.io/network": network} if network else {}),
                    **options.pop("labels", {}),
                },
                "annotations": {
                    "gateway.istio.io/service-account": "eastwest",
                    **options.pop("annotations", {}),
                },
            },
            "spec": {
                "gatewayClassName": "istio-remote",
                "addresses": addresses,
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
                if options.pop("hbone", True)
                else [{"name": "xds-tls", "port": 15012, "protocol": "TLS"}],
            },
            "status": {"addresses": addresses},
        }
        if options:
            raise ValueError(f"a link knows no {', '.join(options)}")
        return put("Gateway", tree)


def _parts(key: ObjectKey) -> tuple[str, str]:
    return key.namespace, key.name


def _service_spec(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Ports as numbers, a selector and a cluster IP where none is written."""
    number = sum(position * ord(letter) for position, letter in enumerate(f"{namespace}/{name}", 1)) % 65_000
    ports = [
        port if isinstance(port, dict) else {"port": port, "name": f"p{port}", "targetPort": port + 8000}
        for port in spec.pop("ports", [80])
    ]
    for port in ports:
        if port["port"] == 15008:
            port["targetPort"] = 15008
        port.setdefault("protocol", "TCP")
    return {
        "clusterIP": f"10.96.{number >> 8}.{number & 255}",
        "selector": {"app": name},
        "ports": ports,
        **spec,
    }
