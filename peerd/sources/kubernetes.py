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
from peerd.kubeapi.objects import Resource
from peerd.kubeapi.reflector import Reflector, Target
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.kinds import CONFIG_MAP, KINDS, POD, Kind
from peerd.model.kube.meta import ObjectKey
from peerd.sources.base import Sink
from peerd.sources.feed import Feed
from peerd.sources.kube_objects import KindObjects

_BUILT_IN_GROUPS = frozenset({"", "discovery.k8s.io"})


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
        async with asyncio.TaskGroup() as tasks:
            for kinds in ([kind for kind in KINDS if kind is not POD], [POD]):
                followers = [each for kind in kinds for each in self._followers(kind, feed, sink)]
                for follower in followers:
                    tasks.create_task(self._reflector(follower).run())
                for follower in followers:
                    await follower.complete.wait()
            feed.flush()
            sink.synced()

    def _followers(self, kind: Kind, feed: Feed, sink: Sink) -> "list[_Follower]":
        objects = KindObjects(kind, feed, sink)
        return [_Follower(kind, target, objects, sink) for target in self._targets(kind)]

    def _reflector(self, follower: "_Follower") -> Reflector:
        return Reflector(self._transport, follower.target, follower, self._continuity, self._random)

    def _targets(self, kind: Kind) -> Iterable[Target]:
        versions = tuple(
            Resource(kind.group, version, kind.plural, kind.name, kind.namespaced)
            for version in kind.versions
        )
        if kind is not CONFIG_MAP:
            return (Target(versions, defined=kind.group not in _BUILT_IN_GROUPS),)
        names = ("istio", f"istio-{self._revision}") if self._revision else ("istio",)
        return tuple(Target(versions, self._system_namespace, f"metadata.name={name}") for name in names)


class _Follower:
    """`peerd.kubeapi.reflector.Handler`: one target's objects and troubles."""

    def __init__(self, kind: Kind, target: Target, objects: KindObjects, sink: Sink) -> None:
        self.target = target
        self.complete = asyncio.Event()
        self._kind = kind
        self._objects = objects
        self._sink = sink

    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        self._objects.put(head, raw, event=event)

    def delete(self, key: ObjectKey) -> None:
        self._objects.delete(key)

    def listed(self) -> None:
        self.complete.set()

    def trouble(self, problem: str) -> None:
        where = f"API server, {self.target.name} {self.target.field_selector}".strip()
        if not problem:
            self._sink.report(where, ())
            return
        diagnostic = Diagnostic(
            f"{self._kind.name}/(all)",
            "(list and watch)",
            f"cannot be followed: {problem}; what is known of them stays",
            f"let peerd's account list and watch {self.target.name}, and see that the API server is well",
            where=where,
        )
        self._sink.report(where, (diagnostic,))
