"""The demo's steps. Each one waits for something that a client received, or fails with the reason."""

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peerd.ca import authority
from peerd.cli.demo import application
from peerd.cli.demo.cluster import Cluster
from peerd.cli.demo.errors import DemoError
from peerd.cli.demo.ports import unused_ports
from peerd.cli.demo.show import Show
from peerd.cli.demo.traffic import Traffic
from peerd.cli.demo.ztunnel import Ztunnel
from peerd.model.address import NamespacedHostname, NetworkAddress
from peerd.model.service import Service
from peerd.model.types import ADDRESS
from peerd.model.workload import TunnelProtocol, Workload

RESYNC_BYTES = 1024
"""What a reconnect with nothing changed may cost in gRPC messages (decision D18)."""

_GLOBAL = f"{application.SERVICE}.{application.NAMESPACE}.mesh.internal"
_NAME = f"{application.NAMESPACE}/{_GLOBAL}"
_CATALOG = "books/catalog.books.mesh.internal"
_ORDERS = "sales/orders.sales.mesh.internal"
_OTHER = {"east": "west", "west": "east"}
_IDENTITY = f"spiffe://cluster.local/ns/{application.NAMESPACE}/sa/{application.SERVICE}"
_GATEWAY_IDENTITY = ("istio-system", "istio-eastwest")


class Story:
    """One run of the demo in *root*, an empty directory.

    Args:
        root: where certificates, manifests, state and logs go.
        command: what is started as `peerd serve`.
        show: where it is told.
        patience: seconds that a step may take before it counts as not happened.
    """

    def __init__(self, root: Path, command: Sequence[str], show: Show, patience: float) -> None:
        self._root = root
        self._command = command
        self._show = show
        self._patience = patience
        self._roots = b""
        self._clusters: dict[str, Cluster] = {}
        self._clients: list[Ztunnel] = []
        self._first_sync = 0
        self._traffic = Traffic()

    @property
    def clusters(self) -> list[Cluster]:
        """East and west, once they were made."""
        return list(self._clusters.values())

    async def tell(self) -> None:
        """All steps; raises DemoError at the first one that did not happen."""
        await self._two_clusters_start()
        east = await self._ztunnels_connect()
        await self._they_peer(east)
        await self._reviews_is_told(east)
        await self._requests_are_answered(east)
        await self._scaling_arrives(east)
        await self._west_stops(east)
        await self._west_returns(east)

    async def close(self, *, keep: bool) -> None:
        """End the clients and, unless *keep*, the processes."""
        for client in self._clients:
            await client.close()
        await self._traffic.close()
        if not keep:
            for cluster in self.clusters:
                with contextlib.suppress(DemoError):
                    await cluster.stop()

    async def _two_clusters_start(self) -> None:
        self._show.step("Two clusters start, each one process of its own")
        self._make()
        started = time.monotonic()
        for cluster in self.clusters:
            await cluster.start()
        await self._all(cluster.until_ready(self._patience) for cluster in self.clusters)
        self._show.done("east and west are ready, without waiting for each other", time.monotonic() - started)
        for cluster in self.clusters:
            await cluster.check_certificate(self._roots)
        self._show.facts(
            [
                (
                    "root",
                    "one, and an intermediate for each cluster: `peerd certs root`, `peerd certs cluster`",
                ),
                *((cluster.name, _whereabouts(cluster)) for cluster in self.clusters),
            ]
        )

    def _make(self) -> None:
        """Certificates, manifests, ports."""
        now = time.time()
        root = authority.make_root("peerd demo", now)
        authority.write_new(self._root / "certs", authority.root_files(root))
        self._roots = (self._root / "certs" / authority.ROOT_FILES[0]).read_bytes()
        names = ("xds", "peer", "http", "plaintext", "gateway", "hbone", "health", "stats")
        ports = unused_ports(2 * len(names))
        given = {
            "east": dict(zip(names, ports[: len(names)], strict=True)),
            "west": dict(zip(names, ports[len(names) :], strict=True)),
        }
        in_manifests = {
            f"{name}_{port}": each[port] for name, each in given.items() for port in ("peer", "hbone")
        }
        for name, each in given.items():
            ca_dir = self._root / "certs" / name
            authority.write_new(ca_dir, authority.make_cluster_ca(root, name, now))
            home = self._root / name
            application.write_manifests(name, home / "manifests", in_manifests, self._traffic.addresses(name))
            self._clusters[name] = Cluster(name, home, ca_dir, each, self._command)

    async def _ztunnels_connect(self) -> Ztunnel:
        self._show.step("A ztunnel of each cluster connects: delta xDS over TLS, with its token")
        for name in self._clusters:
            started = time.monotonic()
            client = await self._client(name)
            self._show.done(
                f"{name} told its ztunnel {len(client.workloads)} workloads, "
                f"{len(client.services)} services, {len(client.policies)} policies",
                time.monotonic() - started,
            )
        east, west = self._clients
        if "books/catalog-callers" not in east.policies:
            raise DemoError("east: its ztunnel was not told the policy books/catalog-callers")
        local = "books/catalog.books.svc.cluster.local"
        for client, name, count in ((east, "east", 2), (west, "west", 1)):
            here = [workload for workload in client.endpoints(local) if workload.addresses]
            if len(here) != count:
                raise DemoError(f"{name}: {local} has {len(here)} local endpoints, not {count}")
        return east

    async def _client(self, name: str) -> Ztunnel:
        cluster = self._clusters[name]
        client = Ztunnel(name, f"127.0.0.1:{cluster.ports['xds']}", self._roots, cluster.token)
        self._clients.append(client)
        await client.connect(self._patience)
        return client

    async def _they_peer(self, east: Ztunnel) -> None:
        self._show.step("They peer: each dials the other's peer port with mutual TLS")
        started = time.monotonic()
        for name, other in (("east", "west"), ("west", "east")):
            peer = await self._peer(name, other, lambda peer: peer["state"] == "live", "in sync")
            if name == "east":
                self._first_sync = int(peer["receivedBytes"])
            self._show.done(
                f"{name} has {peer['services']} global services of {other}, in {peer['receivedBytes']} bytes"
            )
        self._show.note("no cluster holds a credential for the other's API server, or reads its Pods")
        await east.until(
            lambda: bool(east.remote(_NAME)) and bool(east.remote(_CATALOG)),
            self._patience,
            f"remote endpoints of {_GLOBAL} and of the catalog",
        )
        self._show.done("and east's ztunnel was told", time.monotonic() - started)

    async def _reviews_is_told(self, east: Ztunnel) -> None:
        self._show.step(f"What east's ztunnel knows of {application.SERVICE}, which exists only in west")
        replicas = application.replicas(self._clusters["west"].manifests)
        await east.until(
            lambda: _capacity(east) == replicas and _NAME in east.services,
            self._patience,
            f"{_GLOBAL} with capacity {replicas}",
        )
        service, remote = east.services[_NAME], east.remote(_NAME)
        _check_service(service)
        gateway = _check_remote(remote, east)
        if [each for each in east.endpoints(_NAME) if each.addresses]:
            raise DemoError(f"east: {_GLOBAL} has local endpoints, but no Pod of it runs in east")
        catalog = [each for each in east.endpoints(_CATALOG) if each.addresses]
        if len(catalog) != 2:
            raise DemoError(f"east: {_CATALOG} has {len(catalog)} local endpoints, not 2")
        if any("payments" in name and "mesh.internal" in name for name in east.services):
            raise DemoError("east: payments is not global, but has a global name")
        self._show.facts(
            [
                ("host", service.hostname),
                ("VIP", ", ".join(str(ipaddress.ip_address(each.address)) for each in service.addresses)),
                ("ports", ", ".join(str(port.service_port) for port in service.ports)),
                ("identities", ", ".join(service.subject_alt_names)),
                *(("endpoint", _described(each)) for each in remote),
                ("gateway", f"{gateway.uid} as {gateway.namespace}/{gateway.service_account}"),
            ]
        )
        self._show.done("that is what makes ztunnel open an HBONE tunnel to west's gateway and one inside it")

    async def _requests_are_answered(self, east: Ztunnel) -> None:
        self._show.step("A request goes from east to west, and one back, through the other's gateway")
        if self._traffic.missing:
            self._show.note(f"left out: {self._traffic.missing}")
            return
        started = time.monotonic()
        await self._traffic.start(self._clusters, self._root, self._patience)
        self._show.done(
            "both gateways are ready: upstream Envoys that peerd configures", time.monotonic() - started
        )
        for name, client, service in (("east", east, _NAME), ("west", self._clients[1], _ORDERS)):
            started = time.monotonic()
            answer = await self._traffic.request(client, self._clusters[name], service, self._patience)
            self._show.done(f"{name} asks {service.partition('/')[2]}", time.monotonic() - started)
            self._show.facts([("answer", answer)])
            if f"hello from {name}" not in answer or f" in {_OTHER[name]}" not in answer:
                raise DemoError(f"{name}: {service} answered something else: {answer}")
        self._show.note("each in a tunnel of its own to the Pod, which the gateway cannot look into")

    async def _scaling_arrives(self, east: Ztunnel) -> None:
        before = _capacity(east)
        after = before // 2
        self._show.step(
            f"{application.SERVICE} is scaled from {before} to {after} in west, by an edit of its manifest"
        )
        started = time.monotonic()
        path = application.scale(self._clusters["west"].manifests, after)
        at = await east.until(
            lambda: _capacity(east) == after, self._patience, f"capacity {after} of {_GLOBAL}"
        )
        self._show.note(f"edited {path.relative_to(self._root)}")
        self._show.done(f"east's ztunnel was told: capacity {after}", at - started)
        self._show.note("of these, 200 ms are the rest that a file must have before it is read")

    async def _west_stops(self, east: Ztunnel) -> None:
        self._show.step("West stops")
        held = _held(east)
        started = time.monotonic()
        code = await self._clusters["west"].stop()
        if code != 0:
            raise DemoError(f"west: peerd serve ended with code {code} on SIGTERM, not 0")
        self._show.done("west drained and ended", time.monotonic() - started)
        peer = await self._peer("east", "west", lambda peer: not peer["connected"], "disconnected")
        self._show.done(f"east names it: {peer['gateway']} is disconnected since {peer['since']}")
        if peer["reason"]:
            self._show.facts([("reason", str(peer["reason"]))])
        fresh = await self._client("east")
        if _held(fresh) != held:
            raise DemoError(f"east: a new ztunnel is told something else of {_GLOBAL} while west is away")
        self._show.done(f"east keeps serving: a new ztunnel is told the same of {_GLOBAL}")
        if _held(east) != held:
            raise DemoError(f"east: {_GLOBAL} changed for its ztunnel while west is away")

    async def _west_returns(self, east: Ztunnel) -> None:
        self._show.step("West returns")
        seen = len(east.messages)
        started = time.monotonic()
        west = self._clusters["west"]
        await west.start()
        await west.until_ready(self._patience)
        peer = await self._peer("east", "west", lambda peer: peer["state"] == "live", "in sync again")
        moved = int(peer["receivedBytes"])
        self._show.done("they peer again", time.monotonic() - started)
        if moved > min(RESYNC_BYTES, self._first_sync - 1):
            raise DemoError(
                f"east: the resync moved {moved} bytes where nothing had changed; the first sync took "
                f"{self._first_sync}, and at most {RESYNC_BYTES} are allowed"
            )
        # What a change would take to reach the ztunnel has passed: merge window, encoding, wire.
        await asyncio.sleep(0.5)
        pushed = [each for each in east.messages[seen:] if each.type_url == ADDRESS]
        if pushed:
            total = sum(each.resources + each.removed for each in pushed)
            raise DemoError(
                f"east: its ztunnel was told {total} resources again although nothing had changed"
            )
        self._show.done(
            f"the resync moved nothing: {moved} bytes of agreement (the first sync: {self._first_sync}), "
            "0 messages to east's ztunnel"
        )

    async def _peer(
        self, name: str, other: str, happened: Callable[[dict[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        """What *name* says of its peer *other*, once that is so."""
        last: dict[str, Any] = {}
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    for cluster in self.clusters:
                        cluster.check_running()
                    for peer in await self._clusters[name].debug("peers"):
                        if peer["gateway"] == f"istio-system/istio-remote-peer-{other}":
                            last = peer
                    if last and happened(last):
                        return last
                    await asyncio.sleep(0.05)
        except TimeoutError:
            if not last:
                raise DemoError(f"{name}: does not know a peer {other}") from None
            reason = last["reason"] or "no reason is known"
            raise DemoError(
                f"{name}: its peer {other} is not {what} after {self._patience:.0f} s: "
                f"{last['state']} since {last['since']}: {reason}"
            ) from None

    @staticmethod
    async def _all(waits: Any) -> None:
        """Wait for all, and tell the first that fails."""
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


def _whereabouts(cluster: Cluster) -> str:
    ports = cluster.ports
    return f"xDS :{ports['xds']}, peers :{ports['peer']}, http :{ports['http']}, objects {cluster.manifests}"


def _described(workload: Workload) -> str:
    zone = workload.locality.zone if workload.locality is not None else "no zone"
    return (
        f"capacity {workload.capacity or 1} in {zone}, network {workload.network}, no address, "
        f"through {_place(workload)}"
    )


def _capacity(client: Ztunnel) -> int:
    return sum(1 if each.capacity is None else each.capacity for each in client.remote(_NAME))


def _held(client: Ztunnel) -> tuple[Service | None, list[Workload]]:
    return client.services.get(_NAME), client.endpoints(_NAME)


def _check_service(service: Service) -> None:
    if not service.addresses:
        raise DemoError(f"east: {_GLOBAL} has no VIP")
    if _IDENTITY not in service.subject_alt_names:
        raise DemoError(
            f"east: {_GLOBAL} lacks the identity {_IDENTITY}; it has {', '.join(service.subject_alt_names)}"
        )
    if [port.service_port for port in service.ports] != [80]:
        raise DemoError(f"east: {_GLOBAL} has not exactly port 80")


def _check_remote(remote: list[Workload], client: Ztunnel) -> Workload:
    """The gateway's workload, after checking what ztunnel needs for double HBONE (wire-contract §3.4)."""
    for each in remote:
        if each.network != "west-net" or each.tunnel_protocol is not TunnelProtocol.HBONE:
            raise DemoError(
                f"east: {each.uid} is on network {each.network!r} with {each.tunnel_protocol.name}, "
                "not on west-net with HBONE"
            )
    gateway = remote[0].network_gateway
    destination = gateway.destination if gateway is not None else None
    for workload in client.workloads.values():
        if isinstance(destination, NetworkAddress):
            same = workload.network == destination.network and destination.address in workload.addresses
        else:
            same = isinstance(destination, NamespacedHostname) and workload.hostname == destination.hostname
        if same and (workload.namespace, workload.service_account) == _GATEWAY_IDENTITY:
            return workload
    raise DemoError(f"east: its ztunnel was not told who answers at the gateway {_place(remote[0])}")


def _place(workload: Workload) -> str:
    gateway = workload.network_gateway
    if gateway is None:
        return "nothing"
    if isinstance(gateway.destination, NetworkAddress):
        host = str(ipaddress.ip_address(gateway.destination.address))
    else:
        host = gateway.destination.hostname
    return f"{host}:{gateway.hbone_mtls_port}"
