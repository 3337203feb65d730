"""What ztunnels are told, against the truth (docs/guarantees.md)."""

from collections.abc import Iterator, Sequence

from peerd.model.service import Service
from peerd.model.types import ADDRESS
from peerd.model.workload import Workload
from peerd.protocol.envelope import DeltaResponse
from tests.simulation.checks import Checks, Run
from tests.simulation.guarantees import (
    ISOLATION,
    NO_PHANTOM_DELETE,
    NOTHING_TWICE,
    POLICIES_FIRST,
    RESTART,
)
from tests.simulation.history import Violation
from tests.simulation.replica import Replica
from tests.simulation.ztunnel import SimZtunnel

_LOCAL_BOUND = 2.0  # seconds from a local change to the cluster's own ztunnel, whatever peers do


class ClientChecks(Checks):
    """Checks of ztunnels."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._expected: list[tuple[float, str, str, bool]] = []

    # -- responses ---------------------------------------------------------------------------------------

    def before(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """A response came; the client still holds what it held."""
        if response.type_url != ADDRESS:
            return
        held = client.versions(ADDRESS)
        if client.connected_since < 0 and held and not client.on_demand:
            self._history.checks[NOTHING_TWICE] += 1
            again = [each.name for each in response.resources if held.get(each.name) == each.version]
            if again:
                raise Violation(NOTHING_TWICE, f"{client.name} resumed, and was sent what it held: {again}")
        if not self.armed:
            return
        for name in response.removed:
            if name in held:
                self._removed(client, name)
        for resource in response.resources:
            if resource.name in held and held[resource.name] != resource.version:
                self._changed(client, resource.name)

    def after(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """And now it holds the new."""
        self._history.note(
            client.name,
            f"{response.type_url.rpartition('.')[2]}"
            f" +{[each.name for each in response.resources]} -{list(response.removed)}",
        )
        self._history.checks[POLICIES_FIRST] += 1
        if response.type_url == ADDRESS:
            named = [client.addresses[each.name] for each in response.resources]
        else:
            named = list(client.addresses.values()) if response.removed else []
        for record in named:
            if not isinstance(record, Workload):
                continue
            unknown = set(record.authorization_policies) - client.policies.keys()
            if unknown:
                raise Violation(
                    POLICIES_FIRST, f"{client.name} holds {record.uid} without its policies {sorted(unknown)}"
                )

    def _removed(self, client: SimZtunnel, name: str) -> None:
        self._history.checks[NO_PHANTOM_DELETE] += 1
        key = self._key(client, name)
        if key is None or self._truth.absent_since(self.quiet_at, *key) or self._given_up(client, key):
            return
        if key[0] == "pod" and not self._replicas[client.at].knows("Pod", key[-1]):
            return  # it moved from one replica to another, which has not seen that Pod yet
        exporters = self._truth.exporters(client.cluster, key[2] if key[0] == "global" else key[-1])
        raise Violation(
            NO_PHANTOM_DELETE,
            f"{client.name} was told that {name} is gone, and it is not: exported by {exporters}",
        )

    def _changed(self, client: SimZtunnel, name: str) -> None:
        record = client.addresses.get(name)
        if not isinstance(record, Service) or self._lagged(client) or self._began_poor(client):
            return
        self._history.checks[RESTART] += 1
        if self._truth.touched_since(client.cluster, record.name, self.quiet_at):
            return
        if self._given_up(client, ("global", client.cluster, record.name)):
            return
        raise Violation(RESTART, f"{client.name} was told a new {name}, and nobody changed it")

    # -- what is not promised ----------------------------------------------------------------------------

    def _lagged(self, client: SimZtunnel) -> bool:
        """Its peerd crashed before it wrote what it had imported last (decision D22)."""
        return any(replica.lagged_at > self.quiet_at for replica in self._of(client))

    def _began_poor(self, client: SimZtunnel) -> bool:
        """It began when its peerd had lost its memory: there is nothing that could have been kept for it."""
        return any(client.born > at > self.quiet_at for replica in self._of(client) for at in replica.forgot)

    def _given_up(self, client: SimZtunnel, key: tuple[str, ...]) -> bool:
        """A peer that was never heard since the disk was lost is waited for no longer than its expiry."""
        if key[0] not in {"global", "endpoints", "flat"}:
            return False
        cluster, found = client.cluster, False
        peers = self._truth.exporters(cluster, key[2]) if key[0] == "global" else [key[2]]
        for replica in self._of(client):
            if replica.forgot_at <= self.quiet_at:
                continue
            now = replica.loop.time()
            for peer in peers:
                wait = self._expiry.get((cluster, peer), 0)
                # The wait is of the wall clock: since it was set it means nothing.
                over = now - replica.forgot_at >= wait or replica.skewed_at > replica.forgot_at
                if wait and over:
                    found = True
                    self._truth.touch_peer(cluster, peer, now)
        return found

    def _of(self, client: SimZtunnel) -> Iterator[Replica]:
        return (each for each in self._replicas.values() if each.cluster.name == client.cluster)

    def _key(self, client: SimZtunnel, name: str) -> tuple[str, ...] | None:
        viewer = client.cluster
        record = client.addresses.get(name)
        if isinstance(record, Service):
            if record.hostname.endswith(".svc.cluster.local"):
                return ("local", viewer, record.name)
            return ("global", viewer, record.name, record.hostname.split(".", 2)[2])
        if name.startswith("autogen."):
            _, peer, _, service, _ = name.split(".")
            return ("endpoints", viewer, peer, service)
        if name.startswith("NetworkGateway/"):
            owner = self._truth.owners.get(name.split("/")[-2])
            return None if owner is None else ("link", viewer, owner)
        if name.startswith("autogenflat."):
            _, peer, _, pod, _ = name.split(".")
            return ("flat", viewer, peer, pod)
        if "//Pod/" in name:
            return ("pod", viewer, name.rpartition("/")[2])
        return None

    # -- time passes -------------------------------------------------------------------------------------

    def expect(self, cluster: str, pod: str, *, present: bool, now: float) -> None:
        """A Pod of the cluster was made or deleted: its own ztunnels must learn it soon."""
        self._expected.append((now, cluster, pod, present))

    def look(self, now: float, clients: Sequence[SimZtunnel]) -> None:
        """What they must know by now."""
        due = [each for each in self._expected if now - each[0] > _LOCAL_BOUND]
        self._expected = [each for each in self._expected if now - each[0] <= _LOCAL_BOUND]
        latest = {(cluster, pod): (since, present) for since, cluster, pod, present in due}
        newer = {(cluster, pod) for _, cluster, pod, _ in self._expected}
        for (cluster, pod), (since, present) in latest.items():
            if (cluster, pod) in newer:
                continue
            for client in clients:
                replica = self._replicas.get(client.at)
                if client.cluster != cluster or replica is None:
                    continue
                if not replica.running or replica.disturbed_at >= since:
                    continue
                if client.rests or client.rested_at >= since:
                    continue
                if not replica.ready_at <= client.connected_since < since:
                    continue
                self._history.checks[ISOLATION] += 1
                if (f"{cluster}//Pod/shop/{pod}" in client.addresses) is not present:
                    raise Violation(
                        ISOLATION,
                        f"{client.name} does not know after {_LOCAL_BOUND} s that Pod {pod} is"
                        f" {'there' if present else 'gone'}",
                    )
