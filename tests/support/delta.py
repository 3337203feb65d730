"""Small resources, a clock one sets by hand, and a driver that plays both ends of a delta stream."""

from collections.abc import Iterable, Mapping

from peerd.encode.frame import any_header, frame, version_of
from peerd.limits import ACK_OVERDUE_S, WRITE_DEADLINE_S
from peerd.model.resource import Alias, Resource, ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import DeltaResponse, Node, delta_request, parse_delta_request
from peerd.protocol.interest import Interest
from peerd.protocol.rules import TypeRules
from peerd.protocol.server import DeltaServer, Outgoing
from peerd.resources.store import ResourceStore
from peerd.serve.ads import ztunnel_rules

NODE = Node(
    "ztunnel~10.0.0.1~ztunnel-1.istio-system~istio-system.svc.cluster.local",
    "",
    {"NAMESPACE": "istio-system", "NODE_NAME": "node-a", "CLUSTER_ID": "Kubernetes"},
)


class FakeClock:
    """Time stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now + 1_700_000_000

    def monotonic(self) -> float:
        return self.now


def resource(
    name: str,
    payload: bytes = b"",
    *,
    type_url: str = ADDRESS,
    aliases: tuple[Alias, ...] = (),
    groups: tuple[str, ...] = (),
    revives: str = "",
) -> Resource:
    """A resource whose payload is opaque."""
    version = version_of(payload)
    return Resource(
        name, version, frame(name, version, any_header(type_url), payload), aliases, groups, revives
    )


def put(name: str, payload: bytes = b"", **options: object) -> ResourceChange:
    """An Address put; options as `resource`."""
    type_url = str(options.get("type_url", ADDRESS))
    return ResourceChange(type_url, name, resource(name, payload, **options))  # type: ignore[arg-type]


def policy(name: str, payload: bytes = b"") -> ResourceChange:
    """An Authorization put."""
    return put(name, payload, type_url=AUTHORIZATION)


def drop(name: str, type_url: str = ADDRESS) -> ResourceChange:
    """A removal."""
    return ResourceChange(type_url, name, None)


def ztunnel_store(**options: int) -> ResourceStore:
    """An empty store of ztunnel's two types."""
    return ResourceStore((AUTHORIZATION, ADDRESS), "test", **options)


class Missing:
    """`Withheld` of what is in `names`, which are `here` by our own word."""

    def __init__(self, *names: str, here: str = "1") -> None:
        self.names = set(names)
        self.here = here

    def active(self) -> bool:
        return bool(self.names)

    def __call__(self, _type_url: str, name: str) -> bool:
        return name in self.names

    def definition(self, _type_url: str, _name: str) -> str | None:
        return self.here or None

    def lingers(self, _type_url: str, name: str) -> bool:
        return name in self.names


class Driver:
    """A machine and the client on the other end, with nothing in between.

    `step` moves one response: out of the machine, into the client, its ACK back. `log` keeps what was sent.
    """

    def __init__(
        self,
        store: ResourceStore,
        *,
        rules: Mapping[str, TypeRules] | None = None,
        interest: Interest | None = None,
        held: Mapping[str, Mapping[str, str]] | None = None,
        on_demand: Iterable[str] = (),
        types: Iterable[str] = (ADDRESS, AUTHORIZATION),
        clock: FakeClock | None = None,
    ) -> None:
        self.store = store
        self.clock = clock or FakeClock()
        self.interest = interest or Interest()
        self.stale = 0
        self.server = DeltaServer(
            store,
            rules or ztunnel_rules(),
            self.interest,
            ack_overdue=ACK_OVERDUE_S,
            write_deadline=WRITE_DEADLINE_S,
            stale=self._count_stale,
        )
        self.client = DeltaClient(types, NODE, held, on_demand=on_demand)
        self.log: list[DeltaResponse] = []

    def open(self) -> None:
        """The client's first requests."""
        for message in self.client.start():
            self.request(message)

    def request(self, message: bytes) -> None:
        """A request reaches the machine."""
        self.server.receive(parse_delta_request(message), self.clock.now)

    def ask(self, *names: str, type_url: str = ADDRESS) -> None:
        """Subscribe to names."""
        self.request(delta_request(type_url, subscribe=names))

    def outgoing(self) -> Outgoing | None:
        """Take one response and report it written."""
        out = self.server.next(self.clock.now)
        if out is not None:
            self.server.written(self.clock.now)
        return out

    def send(self) -> DeltaResponse | None:
        """One response reaches the client, which has not answered it yet."""
        out = self.outgoing()
        if out is None:
            return None
        response = self.client.receive(out.frame.message)
        assert response.type_url == out.type_url
        self.log.append(response)
        return response

    def step(self) -> DeltaResponse | None:
        """One response, accepted."""
        response = self.send()
        if response is not None:
            self.request(self.client.accept(response))
        return response

    def settle(self) -> list[DeltaResponse]:
        """All that is owed, accepted."""
        taken = []
        while (response := self.step()) is not None:
            taken.append(response)
            assert len(taken) < 1000, "the machine never rests"
        return taken

    def publish(self, *changes: ResourceChange) -> None:
        """Commit, close the window, tell followers."""
        self.store.commit(changes)
        for type_url, published in self.store.close_window().items():
            self.interest.publish(type_url, published)

    def _count_stale(self) -> None:
        self.stale += 1


def names(response: DeltaResponse | None) -> list[str]:
    """Names of a response's resources."""
    assert response is not None, "nothing was sent"
    return [each.name for each in response.resources]


def connected(*changes, **options) -> Driver:
    """A client that has everything, over a store with *changes* in it; its log is empty."""
    driver = Driver(ztunnel_store(), **options)
    driver.publish(*changes)
    driver.open()
    driver.settle()
    driver.log.clear()
    return driver
