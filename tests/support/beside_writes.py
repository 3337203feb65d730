"""One cluster beside istiod with its peers, in virtual time, and the writer that keeps what it generates."""

import random

from peerd.kubeapi.objects import KubeObjects
from peerd.model.changes import ImportChange, IstiodChange, OwnChange, PeerChange
from peerd.model.federation import Freshness, PeerView
from peerd.model.generated import Generate, IstiodFlags
from peerd.model.kube.meta import ObjectKey
from peerd.peering.steady import Steady
from peerd.publish.generated import GeneratedObjects
from peerd.publish.generated_manifests import RESOURCES
from peerd.publish.writer import Writer
from tests.support.clusters import Cluster, gone, namespace, remote_gateway, system
from tests.support.stepping import SteppedTime

KINDS = {resource.plural: kind for kind, resource in RESOURCES.items()}


class Link:
    """What west announces, as east's importer hears it."""

    def __init__(self, east, west, name, network=""):
        self._east = east
        self._west = west
        self._steady = Steady()
        self.key = ObjectKey("istio-system", name)
        east.apply([remote_gateway(name, network or name, f"198.51.100.{len(east.links) + 1}")])
        east.links[name] = west
        self.freshness(Freshness.FRESH)

    def freshness(self, word):
        self._east.apply([PeerChange(self.key, PeerView(self.key, self._west.info, word))])

    def announce(self, now):
        """Derivation's exports go through the exporter's rules; what comes out, east imports."""
        told = self._steady.put(sorted(self._west.exports.items()), now) + self._steady.due(now)
        self._east.apply([ImportChange(self.key, name, found) for name, found in told])

    def unlink(self):
        withdrawn = [ImportChange(self.key, name, None) for name in self._west.exports]
        self._east.apply(
            [gone("Gateway", "istio-system", self.key.name), PeerChange(self.key, None), *withdrawn]
        )


class Rig:
    """East beside istiod, and what it writes."""

    def __init__(self, api):
        self.clock = SteppedTime()
        base = [system("east"), namespace("shop"), IstiodChange(IstiodFlags(True))]
        self.east = Cluster("east", base, generate=Generate.BESIDE)
        self.api = api
        self.api.changed = self._watch
        self.notices = []
        self._writer = Writer(
            KubeObjects(self.api), clock=self.clock, source=random.Random(5), tell=self.notices.append
        )
        self._kept = GeneratedObjects(self._writer)
        self._before = {}
        self._kept.settle(frozenset())

    def _watch(self, plural, where, name, tree):
        """As the source tells it: objects of ours, and what is gone."""
        if tree is None or tree["metadata"].get("labels", {}).get("peerd.io/generated"):
            self._kept.observe([OwnChange(KINDS[plural], ObjectKey(where, name), tree)])

    async def work(self, seconds=0):
        """Write what follows from the present derivation, while so many seconds pass."""
        now = self.east.generated
        changed = [(key, found) for key, found in now.items() if self._before.get(key) != found]
        self._kept.put([*changed, *((key, None) for key in self._before if key not in now)])
        self._before = dict(now)
        await self._writer.work()
        for _ in range(seconds):
            await self.clock.advance(1)
            await self._writer.work()

    @property
    def now(self):
        return self.clock.monotonic()

    def weights(self):
        return {
            name: tree["spec"]["weight"]
            for (plural, _, name), tree in self.api.objects.items()
            if plural == "workloadentries"
        }
