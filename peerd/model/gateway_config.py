"""What an east-west gateway is configured from: listeners, names that can be called, who answers."""

from enum import StrEnum

from peerd.model.address import Locality
from peerd.model.record import Record
from peerd.model.service import Scope

ANY_IPV4 = "0.0.0.0"  # noqa: S104 (a Pod's own network namespace)
ANY_IPV6 = "::"  # and IPv4 beside

READY_PATH = "/healthz/ready"
"""What a gateway's probe asks for."""

BOOTSTRAP_FILE = "envoy.json"
"""Envoy's bootstrap, in its working directory."""

GATEWAY_NAME = "GATEWAY_NAME"
BIND_ADDRESS = "BIND_ADDRESS"
PLACE = "LOCALITY"
"""A replica's node metadata, beside NAMESPACE: its Gateway's name, the address that it binds, where it runs.

A place is `<region>/<zone>/<subzone>`, empty where its Pod's node tells.
"""


class ListenerKind(StrEnum):
    """`hbone` terminates the outer tunnel of other clusters' workloads; `peers` passes TLS to peerd."""

    HBONE = "hbone"
    PEERS = "peers"


class GatewayListener(Record, frozen=True):
    """One port of one Gateway (`<namespace>/<name>`), bound to one address.

    A Pod binds any address of its own; on a machine that several gateways share, each binds one of the
    addresses that its Gateway lists.
    """

    gateway: str
    kind: ListenerKind
    bind: str
    port: int

    @property
    def name(self) -> str:
        """The name on the wire."""
        return f"{self.group}/{self.kind}"

    @property
    def group(self) -> str:
        """What the gateways that run it have in common."""
        return gateway_group(self.gateway, self.bind)


def gateway_group(gateway: str, bind: str) -> str:
    """The group of the replicas of *gateway* (`<namespace>/<name>`) that bind *bind*."""
    return f"gateway/{gateway}/{bind or ANY_IPV4}"


class GatewayCluster(Record, frozen=True):
    """A name that callers from other clusters may ask for: the authority `<host>:<port>`.

    `endpoints` names the GatewayEndpoints behind it, shared by all names of one port of a service.
    """

    authority: str
    endpoints: str


class GatewayEndpoint(Record, frozen=True, order=True):
    """A receiving end of HBONE: a Pod, or a waypoint's Pod, on its port 15008."""

    address: bytes
    port: int
    weight: int


class GatewayPlace(Record, frozen=True, order=True):
    """Endpoints of one locality, by address.

    `node` is told where the service prefers the caller's own. Lower priorities are for when those above fail.
    """

    locality: Locality
    endpoints: tuple[GatewayEndpoint, ...]
    node: str = ""
    priority: int = 0


class GatewayEndpoints(Record, frozen=True):
    """Who answers for one port of an exported service; nobody where `places` is empty.

    `prefers` is what an endpoint should share with the gateway, the most important first (D26).
    """

    name: str
    places: tuple[GatewayPlace, ...] = ()
    prefers: tuple[Scope, ...] = ()


class Standpoint(Record, frozen=True):
    """Where a gateway's replica runs; the empty string is unknown."""

    locality: Locality = Locality()
    node: str = ""


class OwnGateway(Record, frozen=True):
    """An east-west gateway of this cluster: the account that its replicas prove to be (decision D37)."""

    namespace: str
    name: str
    service_account: str


def envoy_command(concurrency: int = 0) -> list[str]:
    """Envoy's command line, in the directory that its companion fills; *concurrency* 0: one thread a core."""
    arguments = [
        "-c",
        BOOTSTRAP_FILE,
        "--disable-hot-restart",
        # What tunnels of a replaced listener are given; at the end the companion's own bound decides.
        "--drain-time-s",
        "3600",
        "--drain-strategy",
        "immediate",
        "--file-flush-interval-msec",
        "1000",
        "--log-level",
        "warning",
    ]
    return [*arguments, "--concurrency", str(concurrency)] if concurrency else arguments
