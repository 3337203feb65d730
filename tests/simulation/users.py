"""What users and operators of clusters do: each deed changes objects, and the truth with them."""

from peerd.model.kube.kinds import KINDS_BY_NAME
from tests.simulation.cluster import SimCluster
from tests.simulation.history import History
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Fabric
from tests.simulation.oracle import gateway_key
from tests.simulation.replica import Replica
from tests.simulation.truth import GLOBAL, SEGMENT, TAKEOVER, Service, Truth
from tests.simulation.validators import Validators
from tests.support import clusters as objects

_LABELS = {
    SEGMENT: {"solo.io/service-scope": "segment"},
    GLOBAL: {"solo.io/service-scope": "global"},
    TAKEOVER: {"istio.io/global": "true"},
}


class Users:
    """Everybody who may write into a cluster; a World (world.py) is one, and says what there is."""

    clusters: dict[str, SimCluster]
    replicas: dict[str, Replica]
    fabric: Fabric
    history: History
    loop: VirtualLoop

    def __init__(self, truth: Truth, validators: Validators) -> None:
        self.truth = truth
        self.validators = validators
        self._moves = self._pods = 0
        self._mirrors: dict[str, tuple[str, bool]] = {}
        self.inherited: set[str] = set()  # clusters at whose old addresses others answer
        self.inherited_at = -1.0  # when one of them was last dialled there
        self._dead: dict[tuple[str, str], tuple[str, ...]] = {}
        self._policies: dict[str, set[str]] = {name: set() for name in truth.clusters}

    # -- what users do -----------------------------------------------------------------------------------

    def put_service(self, cluster: str, name: str, scope: str) -> None:
        """Create a Service, or change its scope."""
        services = self.truth.services[cluster]
        service = services.setdefault(name, Service(name))
        service.scope = scope
        self._write(cluster, service)

    def next_generation(self, cluster: str, name: str) -> None:
        """Change a port of a Service."""
        self._write(cluster, self.truth.services[cluster][name])

    def delete_service(self, cluster: str, name: str) -> None:
        """Delete a Service with its Pods."""
        for pod in list(self.truth.services[cluster][name].pods):
            self._delete_pod(cluster, name, pod)
        del self.truth.services[cluster][name]
        self._log(cluster, f"delete Service {name}")
        self.clusters[cluster].apply(objects.gone("Service", "shop", name))
        self.truth.touch(cluster, [name], self.loop.time())

    def scale(self, cluster: str, name: str, count: int) -> None:
        """So many ready Pods."""
        pods = self.truth.services[cluster][name].pods
        self._log(cluster, f"scale {name} from {len(pods)} to {count}")
        while len(pods) > count:
            self._delete_pod(cluster, name, pods[0])
        while len(pods) < count:
            self._pods += 1
            pod = f"{name}-{self._pods}"
            pods.append(pod)
            number = list(self.clusters).index(cluster) + 1
            ip = f"10.{number}.{self._pods // 250}.{self._pods % 250 + 1}"
            self.clusters[cluster].apply(
                objects.pod(pod, name, ip, node="node-1", account=f"{name}-{cluster}")
            )
            self.truth.pods[cluster, ip] = pod
            self.truth.pod_born(cluster, pod, self.loop.time())
            self.validators.expect(cluster, pod, present=True, now=self.loop.time())
        self.truth.touch(cluster, [name], self.loop.time())

    def link(self, viewer: str, peer: str, expire_after: int) -> None:
        """An istio-remote Gateway in *viewer* that leads to *peer*."""
        self._log(viewer, f"link {peer}, expiry {expire_after} s")
        self.truth.links[viewer].add(peer)
        for replica in self.clusters[viewer].replicas:
            self.truth.expired.discard((viewer, peer, replica.name))
        self.validators.expiry[viewer, peer] = expire_after
        self._write_gateway(viewer, peer)
        self.truth.touch_peer(viewer, peer, self.loop.time())

    def reroute(self, peer: str) -> None:
        """Every Gateway that leads to *peer* is edited to what its address and network are now."""
        if peer in self.inherited:
            self.inherited.discard(peer)
            self.inherited_at = self.loop.time()
        for viewer in self.clusters:
            if peer in self.truth.links[viewer]:
                self._log(viewer, f"its Gateway to {peer} is brought up to date")
                self._write_gateway(viewer, peer)
                self.truth.rerouted(viewer, peer, self.loop.time())

    def lengthen(self, viewer: str, peer: str, count: int, *, silent: bool) -> None:
        """The Gateway to *peer* names so many addresses where nobody is, before the right one; with *silent*
        they do not even refuse."""
        self._dead[viewer, peer] = dead = tuple(self.new_address(peer) for _ in range(count))
        if silent:
            self.fabric.silent.update(dead)
        self._log(viewer, f"its Gateway to {peer} names {count} addresses where nobody is")
        self._write_gateway(viewer, peer)
        self.truth.rerouted(viewer, peer, self.loop.time())

    def move(self, cluster: str) -> None:
        """The load balancer before the cluster's gateway gets another address."""
        self.clusters[cluster].move(self.new_address(cluster))
        self._log(cluster, f"its gateway moves to {self.clusters[cluster].address}")
        for replica in self.clusters[cluster].replicas:
            for connection in self.fabric.of(replica.name):
                if connection.server == replica.name and connection.client in self.replicas:
                    connection.drop()

    def inherit(self, cluster: str, address: str) -> None:
        """The cluster's gateway is reached at another address, too."""
        self._log(cluster, f"its gateway is reached at {address}, too")
        self.inherited.add(self.truth.owners[address])
        self.clusters[cluster].inherit(address)

    def relabel(self, cluster: str, network: str = "") -> None:
        """The cluster gets another network, by default one of its own: everything of it changes, here and
        wherever it is imported."""
        found = self.clusters[cluster]
        own = f"{cluster}-net2" if found.network == f"{cluster}-net" else f"{cluster}-net"
        found.network = network or own
        self._log(cluster, f"its network is {found.network}")
        self._write_system(cluster)

    def join(self, cluster: str, segment: str) -> None:
        """The cluster becomes one of a segment, or with "" of the default one: its own global names are below
        another domain, and it sees others."""
        self.truth.segments[cluster] = segment
        self._log(cluster, f"its segment is {segment or 'the default one'}")
        if segment:
            tree = {
                "metadata": {"name": segment, "namespace": "istio-system"},
                "spec": {"domain": self.truth.domain(cluster)},
            }
            self.clusters[cluster].apply(objects.put("Segment", tree))
        self._write_system(cluster)

    def _write_system(self, cluster: str) -> None:
        """Its system Namespace, which says where it is: everything of it changes everywhere."""
        segment, now = self.truth.segments[cluster], self.loop.time()
        labels = {"admin.solo.io/segment": segment} if segment else {}
        self.clusters[cluster].placed_at = now
        self.clusters[cluster].apply(objects.system(self.clusters[cluster].network, labels))
        for viewer in self.clusters:
            if viewer == cluster or cluster in self.truth.links[viewer]:
                self.truth.rerouted(viewer, cluster, now)
        for peer in self.truth.links[cluster]:  # what it may know of others changes as well
            self.truth.rerouted(cluster, peer, now)

    def new_address(self, cluster: str) -> str:
        """One that nobody has had."""
        self._moves += 1
        address = f"192.0.{2 + self._moves // 250}.{self._moves % 250 + 1}"
        self.truth.owners[address] = cluster
        return address

    def unlink(self, viewer: str, peer: str) -> None:
        """Delete it."""
        self._log(viewer, f"unlink {peer}")
        self.truth.links[viewer].discard(peer)
        self.clusters[viewer].apply(objects.gone("Gateway", "istio-system", gateway_key(peer).name))
        self.truth.touch_peer(viewer, peer, self.loop.time())

    def _write_gateway(self, viewer: str, peer: str) -> None:
        network, address, cluster = self.clusters[peer].network, self.clusters[peer].address, peer
        found = self._mirrors.get(viewer)
        if found is not None and found[0] == peer:
            address, cluster = self.clusters[viewer].address, viewer if found[1] else ""
            network = self.clusters[viewer].network if found[1] else ""
        dead = self._dead.get((viewer, peer), ())
        self.clusters[viewer].apply(
            objects.remote_gateway(
                gateway_key(peer).name,
                network,
                *dead,
                address,
                labels={"topology.istio.io/cluster": cluster} if cluster else {},
                annotations={"peering.peerd.io/expire-after": str(self.validators.expiry[viewer, peer])},
            )
        )

    def mirror(self, viewer: str, peer: str, *, says_so: bool) -> None:
        """The Gateway to *peer* leads to *viewer* itself; with *says_so* by its labels."""
        self._mirrors[viewer] = peer, says_so
        self._log(viewer, f"its Gateway to {peer} leads to itself{', and says so' if says_so else ''}")
        self._write_gateway(viewer, peer)
        self.truth.rerouted(viewer, peer, self.loop.time())

    def unmirror(self, viewer: str) -> None:
        """And again to the peer."""
        peer, _ = self._mirrors.pop(viewer)
        if peer in self.truth.links[viewer]:
            self._log(viewer, f"its Gateway to {peer} leads there again")
            self._write_gateway(viewer, peer)
            self.truth.rerouted(viewer, peer, self.loop.time())

    @property
    def mirrored(self) -> set[str]:
        """Clusters of which a Gateway leads to themselves."""
        return set(self._mirrors)

    def put_policy(self, cluster: str, app: str) -> None:
        """An AuthorizationPolicy for the Pods of one Service."""
        self._policies[cluster].add(app)
        self._log(cluster, f"put policy for {app}")
        spec = {
            "selector": {"matchLabels": {"app": app}},
            "action": "DENY",
            "rules": [{"from": [{"source": {"namespaces": ["evil"]}}]}],
        }
        tree = {"metadata": {"name": f"deny-{app}", "namespace": "shop"}, "spec": spec}
        assert "AuthorizationPolicy" in KINDS_BY_NAME
        self.clusters[cluster].apply(objects.put("AuthorizationPolicy", tree))

    def delete_policy(self, cluster: str, app: str) -> None:
        """Delete it."""
        self._policies[cluster].discard(app)
        self._log(cluster, f"delete policy for {app}")
        self.clusters[cluster].apply(objects.gone("AuthorizationPolicy", "shop", f"deny-{app}"))

    def policies(self, cluster: str) -> list[str]:
        """Services that have one."""
        return sorted(self._policies[cluster])

    def _write(self, cluster: str, service: Service) -> None:
        self.truth.generations[service.name] = self.truth.generations.get(service.name, 0) + 1
        service.generation = self.truth.generations[service.name]
        self._log(cluster, f"write Service {service.name}: {service.scope}, generation {service.generation}")
        self.clusters[cluster].apply(
            objects.service(
                service.name, _LABELS.get(service.scope, {}), ports=(80, 8000 + service.generation)
            )
        )
        self.truth.touch(cluster, [service.name], self.loop.time())

    def _delete_pod(self, cluster: str, name: str, pod: str) -> None:
        self.truth.services[cluster][name].pods.remove(pod)
        self.clusters[cluster].apply(objects.gone("Pod", "shop", pod))
        self.truth.pod_gone(cluster, pod, self.loop.time())
        for (where, address), found in self.truth.pods.items():
            if (where, found) == (cluster, pod):
                self.validators.gateways.gone(cluster, address, self.loop.time())
        self.validators.expect(cluster, pod, present=False, now=self.loop.time())

    def _log(self, where: str, what: str) -> None:
        self.history.now = self.loop.time()
        self.history.note(where, what)
