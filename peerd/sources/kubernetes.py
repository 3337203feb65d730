"""The cluster's own API server as a source of objects.

One follower per kind (peerd/kubeapi/reflector.py). Pods come last: at that time all that derivation looks up
for them is there, and 50,000 of them are derived once.
"""

import asyncio
from collections.abc import Iterable
from random import Random

import msgspec

from peerd.kubeapi.base import ApiTransport
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.lists import Head
from peerd.kubeapi.reflector import Reflector, Target
from peerd.kubeapi.resources import resource_of
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.kinds import CONFIG_MAP, KINDS, POD, Kind
from peerd.model.kube.meta import ObjectKey
from peerd.sources.base import Sink
from peerd.sources.feed import Feed
from peerd.sources.kube_objects import KindObjects

_BUILT_IN_GROUPS = frozenset({"", "discovery.k8s.io"})
_WHERE = "API server"


class KubernetesSource:
    """`peerd.sources.base.Source` over *transport*.

    Args:
        transport: the API server.
        system_namespace: where the mesh configuration lies, and whose uid names the cluster.
        revision: its ConfigMap is followed beside the default one (decision D6).
        random: spreads time-outs and attempts.
    """

    def __init__(
        self, transport: ApiTransport, *, system_namespace: str, random: Random, revision: str = ""
    ) -> None:
        self._transport = transport
        self._system_namespace = system_namespace
        self._revision = revision
        self._random = random
        self._continuity = Continuity(transport, system_namespace)

    async def run(self, sink: Sink) -> None:
        """`Source.run`."""
        feed = Feed(sink)
        troubles = _Troubles(feed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.run())
            for kinds in ([kind for kind in KINDS if kind is not POD], [POD]):
                followers = [each for kind in kinds for each in self._followers(kind, feed, troubles)]
                for follower in followers:
                    tasks.create_task(self._reflector(follower).run())
                for follower in followers:
                    await follower.complete.wait()
            feed.synced()

    def _followers(self, kind: Kind, feed: Feed, troubles: "_Troubles") -> "list[_Follower]":
        objects = KindObjects(kind, feed)
        return [_Follower(target, objects, troubles) for target in self._targets(kind)]

    def _reflector(self, follower: "_Follower") -> Reflector:
        return Reflector(self._transport, follower.target, follower, self._continuity, self._random)

    def _targets(self, kind: Kind) -> Iterable[Target]:
        versions = tuple(resource_of(kind, version) for version in kind.versions)
        if kind is not CONFIG_MAP:
            return (Target(versions, defined=kind.group not in _BUILT_IN_GROUPS),)
        names = ("istio", f"istio-{self._revision}") if self._revision else ("istio",)
        return tuple(Target(versions, self._system_namespace, f"metadata.name={name}") for name in names)


class _Follower:
    """`peerd.kubeapi.reflector.Handler`: one target's objects and troubles."""

    def __init__(self, target: Target, objects: KindObjects, troubles: "_Troubles") -> None:
        self.target = target
        self.complete = asyncio.Event()
        self._objects = objects
        self._troubles = troubles

    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        self._objects.put(head, raw, event=event)

    def delete(self, key: ObjectKey) -> None:
        self._objects.delete(key)

    def listed(self) -> None:
        self.complete.set()

    def trouble(self, problem: str) -> None:
        self._troubles.put(self.target, problem)


class _Troubles:
    """What keeps targets from being followed: a server that is away is one problem, not one for each."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._present: dict[Target, str] = {}

    def put(self, target: Target, problem: str) -> None:
        """What is wrong with *target* now; empty where nothing is."""
        if problem:
            self._present[target] = problem
        else:
            self._present.pop(target, None)
        self._feed.report(_WHERE, tuple(_diagnostic(each) for each in sorted(set(self._present.values()))))


def _diagnostic(problem: str) -> Diagnostic:
    return Diagnostic(
        "(API server)",
        "(list and watch)",
        f"{problem}; what is known stays",
        "let peerd's account list and watch what its ClusterRole names, and see that the API server is well",
    )
