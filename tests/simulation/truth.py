"""What users and operators have done: the ground truth that every view is held against.

It knows names, scopes, numbers and links, nothing of how peerd works. Moments are virtual seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

LOCAL, SEGMENT, GLOBAL, TAKEOVER = "local", "segment", "global", "takeover"

_NEVER = -1.0


@dataclass
class Service:
    """`shop/<name>` of one cluster. `generation`, a port of the Service, only grows, over deletions too."""

    name: str
    scope: str = LOCAL
    generation: int = 0
    pods: list[str] = field(default_factory=list)


class Truth:
    """Per cluster: Services and links; and since when what has not changed."""

    def __init__(self, clusters: Iterable[str]) -> None:
        self.clusters = tuple(clusters)
        self.services: dict[str, dict[str, Service]] = {each: {} for each in self.clusters}
        self.links: dict[str, set[str]] = {each: set() for each in self.clusters}
        self.expired: set[tuple[str, str, str]] = set()  # viewer, peer, and which of the viewer's replicas
        self.generations: dict[str, int] = {}
        self.segments: dict[str, str] = dict.fromkeys(self.clusters, "")
        self.owners: dict[str, str] = {}  # of gateways' addresses: the cluster that had it first
        self.pods: dict[tuple[str, str], str] = {}  # by cluster and address, those that are gone too
        self._born: dict[tuple[str, str], float] = {}  # cluster, Pod
        self._touched: dict[tuple[str, str], float] = {}
        self._gone: dict[tuple[str, ...], float] = {}

    # -- what happened -----------------------------------------------------------------------------------

    def touch(self, cluster: str, names: Iterable[str], now: float) -> None:
        """Services *names* of *cluster* were changed: so was what every cluster that imports them has."""
        for name in names:
            for viewer in self.clusters:
                if viewer == cluster or cluster in self.links[viewer]:
                    self._touched[viewer, name] = now
        self.look(now)

    def touch_peer(self, viewer: str, peer: str, now: float) -> None:
        """A link appeared, went, or its imports expired: everything of the peer is touched at the viewer."""
        for name in {*self.services[peer], *self.services[viewer]}:
            self._touched[viewer, name] = now
        self.look(now)

    def domain(self, cluster: str) -> str:
        """Of the global names that it has itself."""
        return f"{self.segments[cluster]}.internal" if self.segments[cluster] else "mesh.internal"

    def rerouted(self, viewer: str, peer: str, now: float) -> None:
        """The way from one to the other changed: endpoints, and all that is known of it, are made anew."""
        for name in self.generations:
            for kind in ("import", "endpoints"):
                self._gone[kind, viewer, peer, name] = now
            self._touched[viewer, name] = now
        self._gone["link", viewer, peer] = now

    def pod_born(self, cluster: str, pod: str, now: float) -> None:
        """A Pod was made."""
        self._born[cluster, pod] = now

    def born_since(self, cluster: str, pod: str, moment: float) -> bool:
        """Whether a Pod is younger than that."""
        return self._born.get((cluster, pod), _NEVER) >= moment

    def pod_gone(self, cluster: str, pod: str, now: float) -> None:
        """A Pod was deleted."""
        self._gone["pod", cluster, pod] = now

    def look(self, now: float) -> None:
        """Note what is absent at this moment."""
        for key in self._absent():
            self._gone[key] = now

    # -- what that means ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Every Service name anywhere."""
        return sorted({name for services in self.services.values() for name in services})

    def exporters(self, viewer: str, name: str) -> list[str]:
        """Clusters from which *viewer* may know the global name."""
        return [each for each in self.clusters if self._exported(viewer, each, name)]

    def touched_since(self, viewer: str, name: str, moment: float) -> bool:
        """Whether anything that *viewer* can see of *name* was changed."""
        return self._touched.get((viewer, name), _NEVER) >= moment

    def absent_since(self, moment: float, *key: str) -> bool:
        """Whether that was away at some time from *moment* on. Keys as in `_absent`.

        A global name is there as long as one and the same cluster of its domain exports it all the time: of
        two that take turns a viewer may learn in either order.
        """
        if key[0] == "global":
            _, viewer, name, domain = key
            of_it = [each for each in self.clusters if self.domain(each) == domain]
            return all(self.absent_since(moment, "import", viewer, each, name) for each in of_it)
        if key[0] == "flat":
            _, viewer, peer, pod = key
            way = "endpoints", viewer, peer, pod.rpartition("-")[0]
            # Who moves to another replica of the peer is told what that one has seen.
            young = self.born_since(peer, pod, moment)
            return young or self.absent_since(moment, *way) or self.absent_since(moment, "pod", peer, pod)
        return self._gone.get(key, _NEVER) >= moment or key in set(self._absent())

    def _exported(self, viewer: str, cluster: str, name: str) -> bool:
        service = self.services[cluster].get(name)
        if service is None or service.scope == LOCAL:
            return False
        if viewer == cluster:
            return True
        if service.scope == SEGMENT and self.segments[viewer] != self.segments[cluster]:
            return False
        gone = any((viewer, cluster) == (each[0], each[1]) for each in self.expired)
        return cluster in self.links[viewer] and not gone

    def _absent(self) -> Iterable[tuple[str, ...]]:
        names = sorted({*self.generations})
        for viewer in self.clusters:
            for name in names:
                if name not in self.services[viewer]:
                    yield "local", viewer, name
                for peer in self.clusters:
                    if not self._exported(viewer, peer, name):
                        yield "import", viewer, peer, name
                        yield "endpoints", viewer, peer, name
                    elif not self.services[peer][name].pods:
                        yield "endpoints", viewer, peer, name
            for peer in self.clusters:
                if peer not in self.links[viewer]:
                    yield "link", viewer, peer
