"""East on a fake API server that fails, two replicas of peerd; west, which exports to it, has none of that.

    rig = Rig(seed, root, ca)
    await rig.start()
    rig.server.put(manifest)              # east's people
    rig.west.apply(*changes)              # west's
    ...
    assert rig.violations == []
    await rig.close()

`violations` is what was written that must never be written, seen as it is written.
"""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from peerd.app.kube import join
from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.encode.address import decode_address
from peerd.encode.frame import decode_frame
from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.model.config import ServeConfig
from peerd.model.service import Service
from peerd.model.types import ADDRESS
from tests.simulation.cluster import SimCluster
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Fabric, Host
from tests.simulation.replica import Replica
from tests.support import clusters as objects
from tests.support.fake_apiserver import Chaos, FakeApiServer, kinds
from tests.support.fake_apiserver.faults import status
from tests.support.fake_apiserver.storage import Definition, Tree

EVENT = Definition("", "v1", "events", "CoreEvent")
LEASE = ("istio-system", "peerd")
KEPT = "kept"
"""A Service that is global in both clusters, always."""
Tampering = Callable[[str, str], None]


async def honest_gateway(_host: str, _port: int) -> tuple[str, ...]:
    """A probe of west's gateway: it is there, as who it should be."""
    return ("spiffe://cluster.local/ns/istio-system/sa/west-istio-remote",)


def host(name: str) -> str:
    """The resource name of a global Service in namespace `shop`."""
    return f"shop/{name}.shop.mesh.internal"


class WriteChaos(Chaos):
    """All that goes wrong with reading; and writes: conflicts, answers that are lost or torn off."""

    def __init__(self, random: Random, done: Callable[[str, str, Response], None]) -> None:
        super().__init__(random)
        self._done = done

    async def before(self, method: str, path: str) -> Response | None:
        if method not in {"GET", "WATCH"} and not self.calm and self._random.random() < self.rate / 3:
            self.done.add("409")
            return Response(409, status(409, "Conflict", "the object has been modified"))
        return await super().before(method, path)

    def after(self, method: str, path: str, answer: Response) -> Response:
        if method == "GET":
            return answer
        self._done(method, path, answer)
        if self.calm or self._random.random() >= self.rate / 2:
            return answer
        fault = self._random.choice(("lost", "torn"))
        self.done.add(f"answer {fault}")
        if fault == "lost":
            raise ApiUnreachableError("connection reset")
        return Response(answer.status, answer.body[: len(answer.body) // 2])


class KubeReplica(Replica):
    """One replica of east; a process that starts joins the API server, and waits until that answers."""

    rig: "Rig"
    built: Peerd | None = None  # ready or not
    _starting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start a process; `running` tells when it is ready."""
        self._runs += 1
        process = self.process = Process(f"{self.name}-{self._runs}")
        random = Random(f"{self._seed}/{self.name}/{self._runs}")
        self.host = Host(self._fabric, self.name, process, self.cluster.certificate())
        self._starting = self.loop.spawn(process, self._join(random))

    async def _join(self, random: Random) -> None:
        chaos = WriteChaos(random, self._wrote)
        chaos.calm = self.rig.calm
        self.rig.chaoses.append(chaos)
        config = self.config()
        kube = await join(self.rig.server.transport(chaos), config, self.clock, random)
        assert self.host is not None
        await self._boot(Parts(kube.source(config, random), self.clock, random, self.host, kube=kube))

    async def end(self) -> None:
        """SIGKILL, whether or not it was ready."""
        self.peerd, built = self.built, self.built  # ready or not
        self.built = None
        if built is not None:
            await self.crash(silently=False)
        elif self.process is not None:
            await self._bury(self.process, silently=False)
        self.process = None

    def failure(self) -> BaseException | None:
        """What a process ended with that nobody killed."""
        started = self._starting
        if started is not None and started.done() and not started.cancelled() and started.exception():
            return started.exception()
        for task in () if self.built is None else self.built._tasks:
            if task.done() and not task.cancelled() and task.exception():
                return task.exception()
        return None

    def _wrote(self, method: str, path: str, answer: Response) -> None:
        self.rig.wrote(self, method, path, answer)

    def config(self) -> ServeConfig:
        """`Replica.config`."""
        return ServeConfig(
            source="kube",
            ca_dir=str(self._ca),
            state_dir=str(self.state),
            cluster_id="east",
            trust_domain="cluster.local",
            xds_addr=f"{self.name}:15017",
            peer_addr=f"{self.name}:15012",
            http_addr="127.0.0.1:0",
        )


class Rig:
    """Both clusters. `seed` decides everything."""

    def __init__(self, seed: int, root: Path, ca: Path) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.random = Random(seed)
        self.calm = False
        self.chaoses: list[WriteChaos] = []
        self.violations: list[str] = []
        self.writes: Counter[tuple[str, str]] = Counter()
        """What reached the server, by replica's process and path, without renewals of the Lease."""
        self.unwanted: dict[str, float] = {}
        """When each name was last global nowhere."""
        self.unsettled = 0.0  # until then, whoever held the Lease may hold it still: a backup was restored
        self._addresses: dict[str, Any] = {}
        fabric = Fabric(Random(f"{seed}/network"), (0.0005, 0.08))
        make = {
            "replicas": 0, "fabric": fabric, "loop": loop, "root": root, "ca": ca, "seed": str(seed)
        }  # fmt: skip
        east = SimCluster("east", "192.0.2.1", network="east-net", prepare=self._prepare, **make)  # type: ignore[arg-type]
        self.west = SimCluster(
            "west",
            "192.0.2.2",
            network="west-net",
            prepare=lambda _replica, _peerd: None,
            **(make | {"replicas": 1}),  # type: ignore[arg-type]
        )
        self.replicas = [
            KubeReplica(
                f"east-{number}", east, fabric=fabric, loop=loop, state=root / f"east-{number}", ca=ca,
                seed=str(seed), prepare=self._prepare,
            )
            for number in range(2)
        ]  # fmt: skip
        for each in self.replicas:
            each.rig = self
            each.state.mkdir(parents=True)
            (each.state / "replica").write_text(f"{uuid.UUID(int=self.random.getrandbits(128), version=4)}\n")
        self.server = kinds.cluster(streams_lists=seed % 2 == 0)
        self.server.define(EVENT)

    async def start(self) -> None:
        """West is linked and live before anything goes wrong."""
        self.west.apply(objects.system("west-net"), objects.namespace("shop"))
        self.export(KEPT, 2)
        await self.west.replicas[0].start()
        for each in self.users():
            self.server.put(each)
        self.look()
        for replica in self.replicas:
            replica.begin()

    async def close(self) -> None:
        for replica in self.replicas:
            await replica.end()
        await self.west.replicas[0].crash(silently=True)

    # -- what people do ----------------------------------------------------------------------------------

    def users(self) -> list[Tree]:
        """What a git repository has of east: what is applied again where all was lost."""
        system = kinds.namespace("istio-system")
        system["metadata"]["labels"] = {"topology.istio.io/network": "east-net"}
        gateway = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {
                "namespace": "istio-system",
                "name": "west",
                "labels": {"topology.istio.io/network": "west-net", "topology.istio.io/cluster": "west"},
            },
            "spec": {
                "gatewayClassName": "istio-remote",
                "addresses": [{"type": "IPAddress", "value": "192.0.2.2"}],
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        }
        theirs = kinds.service_entry("theirs", "db.example.org")
        return [kinds.namespace("shop"), gateway, self.service(KEPT), theirs, system]

    def service(self, name: str, *, shared: bool = True) -> Tree:
        """East's Service of a name."""
        labels = {"solo.io/service-scope": "global"} if shared else {}
        return kinds.service(name, "shop", **labels)

    def export(self, name: str, pods: int) -> None:
        """West serves a name with so many Pods; none: not at all."""
        known = [key for kind, key in self.west.objects if kind == "Pod" and key.name.startswith(f"{name}-")]
        self.west.apply(*(objects.gone("Pod", "shop", key.name) for key in known))
        if not pods:
            self.west.apply(objects.gone("Service", "shop", name))
            return
        self.west.apply(
            objects.service(name, {"solo.io/service-scope": "global"}),
            *(
                objects.pod(f"{name}-{number}", name, f"10.2.{sum(map(ord, name)) % 250}.{number + 1}")
                for number in range(pods)
            ),
        )

    # -- what is so --------------------------------------------------------------------------------------

    def shared_here(self) -> set[str]:
        """East's global Services."""
        return {
            name
            for (namespace, name), tree in self.server.objects("Service").items()
            if namespace == "shop" and "solo.io/service-scope" in (tree["metadata"].get("labels") or {})
        }

    def shared_there(self) -> set[str]:
        """West's."""
        return {key.name for kind, key in self.west.objects if kind == "Service"}

    def look(self) -> None:
        """Take note of what is global nowhere; after each change."""
        wanted = self.shared_here() | self.shared_there()
        for name in ("a", "b", "c", "d"):
            if name not in wanted:
                self.unwanted[name] = self.loop.time()

    def entries(self) -> dict[str, Tree]:
        """ServiceEntries that were generated, by the Service they are for."""
        return {
            name.removeprefix("autogen.shop."): tree
            for (_, name), tree in self.server.objects("ServiceEntry").items()
            if (tree["metadata"].get("labels") or {}).get("peerd.io/generated") == "true"
        }

    def conditions(self, kind: str, namespace: str, name: str) -> dict[str, str]:
        """`<status>, <reason>` by type."""
        tree = self.server.objects(kind)[namespace, name]
        return {
            each["type"]: f"{each['status']}, {each['reason']}"
            for each in (tree.get("status") or {}).get("conditions", ())
        }

    def events(self) -> Counter[str]:
        """How often each reason was told."""
        found: Counter[str] = Counter()
        for _, tree in self.server.storage.items(EVENT.name):
            found[tree["reason"]] += tree["count"]
        return found

    # -- what must never happen --------------------------------------------------------------------------

    def wrote(self, replica: KubeReplica, method: str, path: str, answer: Response) -> None:
        """A write that reached the server."""
        if "tokenreviews" in path or answer.status >= 300:
            return
        lease = self.server.storage.get("leases.coordination.k8s.io", LEASE)
        holder = "" if lease is None else lease["spec"]["holderIdentity"]
        if "/leases" in path:
            return
        self.writes[f"{replica.name}-{replica._runs}", path] += 1
        publishing = None if replica.built is None else replica.built._publishing
        if (
            publishing is not None
            and publishing.lease.identity != holder
            and self.loop.time() > self.unsettled
        ):
            self.violations.append(f"{self.loop.time():.0f}: {replica.name} wrote {path}, {holder} may")
        if "(stale)" in answer.body.decode(errors="replace"):
            self.violations.append(f"{self.loop.time():.0f}: {path} calls a cluster stale that is not")
        if method != "DELETE":
            return
        kind, _, name = path.rpartition("/")
        service = name.removeprefix("autogen.shop.")
        if not kind.endswith("/shop/serviceentries") or service == name:
            self.violations.append(f"{self.loop.time():.0f}: {path} was deleted")
        elif self.loop.time() - self.unwanted.get(service, float("-inf")) > LATEST:
            self.violations.append(f"{self.loop.time():.0f}: {path} was deleted, and {service} is wanted")

    def _prepare(self, replica: Replica, peerd: Peerd) -> None:
        """Look at each revision that clients are told."""
        assert isinstance(replica, KubeReplica)
        replica.built = peerd
        commit = peerd.store.commit

        def watched(changes: Any = ()) -> int:
            before = peerd.store.collection(ADDRESS).get(host(KEPT))
            revision = commit(changes)
            after = peerd.store.collection(ADDRESS).get(host(KEPT))
            if before is not None and after is None:
                self.violations.append(f"{self.loop.time():.0f}: {replica.name} took {KEPT} away")
            return revision

        peerd.store.commit = watched  # type: ignore[method-assign]

    def served(self, replica: KubeReplica) -> dict[str, Service]:
        """What its clients have, of global names."""
        assert replica.peerd is not None
        found = {}
        for name in replica.peerd.store.collection(ADDRESS).names():
            resource = replica.peerd.store.collection(ADDRESS).get(name)
            if name.endswith(".mesh.internal") and resource is not None:
                record = decode_address(decode_frame(resource.frame).payload)
                assert isinstance(record, Service)
                found[name] = record
        return found

    def failure(self) -> BaseException | None:
        """What a process ended with that nobody killed."""
        return next(filter(None, (replica.failure() for replica in self.replicas)), None)


LATEST = 900.0
"""A watch that is silent is noticed after ten minutes, and what follows is written some time after."""


def text_of(server: FakeApiServer) -> str:
    """Everything that people wrote into ServiceEntries, as they wrote it."""
    found = {
        str(key): tree["spec"]
        for key, tree in server.objects("ServiceEntry").items()
        if not key[1].startswith("autogen.")
    }
    return json.dumps(found, sort_keys=True)
