"""The guarantees of docs/guarantees.md as code: each step is checked as it happens, by who saw it.

A check compares with the truth (truth.py) *since the last quiet moment*, when every view was found equal to
it: a name that nobody touched since then must not have gone away, whatever else failed. What peerds do to
each other is in peer_checks.py, what ztunnels are told in client_checks.py.
"""

from collections.abc import Callable, Sequence

from peerd.app.peerd import Peerd
from peerd.protocol.envelope import DeltaResponse
from tests.simulation.checks import Run
from tests.simulation.client_checks import ClientChecks
from tests.simulation.disk_checks import DiskChecks
from tests.simulation.event_checks import EventChecks
from tests.simulation.gateway import SimGateway
from tests.simulation.gateway_checks import GatewayChecks
from tests.simulation.history import History
from tests.simulation.peer_checks import PeerChecks
from tests.simulation.replica import WRITE_LAG, Replica
from tests.simulation.streams import Parcel
from tests.simulation.truth import Truth
from tests.simulation.watching import watch
from tests.simulation.work_checks import WorkChecks
from tests.simulation.ztunnel import SimZtunnel


class Validators:
    """Every check, over one run."""

    def __init__(self, history: History, truth: Truth, replicas: dict[str, Replica]) -> None:
        self._history = history
        self._replicas = replicas
        self.expiry: dict[tuple[str, str], int] = {}  # of the link from one cluster to another, seconds
        run = Run(history, truth, replicas, self.expiry)
        self.peers = PeerChecks(run)
        self.clients = ClientChecks(run)
        self.gateways = GatewayChecks(run)
        self.events = EventChecks(history, replicas)
        self.work = WorkChecks(history, replicas)
        self.disks = DiskChecks(history, replicas)

    def quiet(self, now: float) -> None:
        """Every view was found equal to the truth."""
        for checks in (self.peers, self.clients, self.gateways):
            checks.quiet_at, checks.armed = now, True
        self.work.quiet()

    def watch(self, replica: Replica, peerd: Peerd, guard: Callable[[Callable[[], None]], None]) -> None:
        """Look over a new peerd's shoulder: nothing of what it does is changed. *guard* runs each check."""
        self.peers.begins(replica)
        watch(self.peers, self._history, replica, peerd, guard)
        self.events.watch(replica, peerd, guard)
        self.work.watch(replica, peerd, guard)
        self.disks.watch(replica, peerd, guard)

    def ended(self, name: str, now: float) -> None:
        """What a peerd heard or imported last may not be on its disk (decision D22)."""
        replica = self._replicas[name]
        until = replica.written_until
        if until >= now:
            return
        if self.peers.imported_at.get(name, 0.0) > until:
            replica.lagged_at = now
            if until < now - WRITE_LAG:
                replica.forgot.append(now)  # perhaps all that it knew of a peer
        self.peers.ended(name, until)

    def delivered(self, parcel: Parcel) -> None:
        """A message arrived at a host."""
        self._history.deliveries += 1
        if self._between(parcel):
            self.peers.delivered(parcel)
            if parcel.answer:
                self.work.delivered(parcel.source, parcel.target, parcel.method, parcel.message)

    def sent(self, parcel: Parcel) -> None:
        """A message left a host."""
        if self._between(parcel):
            self.peers.sent(parcel)

    def _between(self, parcel: Parcel) -> bool:
        return parcel.source in self._replicas and parcel.target in self._replicas

    def before(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """A response came; the client still holds what it held."""
        self.clients.before(client, response)
        self.work.before(client, response)

    def after(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """And now it holds the new."""
        self.clients.after(client, response)
        self.disks.after(client, response)

    def expect(self, cluster: str, pod: str, *, present: bool, now: float) -> None:
        """A Pod of the cluster was made or deleted: its own ztunnels must learn it soon."""
        self.clients.expect(cluster, pod, present=present, now=now)

    def look(self, now: float, clients: Sequence[SimZtunnel], gateways: Sequence[SimGateway]) -> None:
        """What must be so by now."""
        self.clients.look(now, clients)
        self.gateways.look(now, gateways)
        self.peers.look(now)
        self.events.look(now)
        self.disks.look(now)
