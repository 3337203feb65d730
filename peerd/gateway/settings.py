"""What one replica of a gateway is told: one frozen record, from flags (peerd/cli/gateway.py)."""

from peerd.model.address import Locality
from peerd.model.gateway_config import ANY_IPV4, ANY_IPV6
from peerd.model.identity import SpiffeId
from peerd.model.record import Record

HEALTH_PORT, STATS_PORT = 15021, 15020


class GatewaySettings(Record, frozen=True):
    """Settings of one `peerd gateway`. Addresses are `host:port`.

    `namespace` and `name` are the Gateway's, `pod` and `ip` the replica's own, of both families with a comma
    between them. `xds` is peerd's gateway port,
    `peers` its peer port, where 15012 leads; `ca` answers CreateCertificate. `roots_file` verifies `ca` and
    is trusted for `trust_domain`; `other_roots` are files by trust domain, `other_pem` PEM by it.
    `control_plane` is who answers at `xds`. `bind` is the address that the gateway's ports are bound to,
    empty for all of `ip`'s families; `health` and `stats` empty are the usual ports there.
    `directory` is Envoy's own.
    """

    namespace: str
    name: str
    directory: str
    xds: str
    ca: str
    peers: str
    roots_file: str
    token_file: str
    control_plane: SpiffeId
    service_account: str = ""
    trust_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    pod: str = "gateway"
    ip: str = "127.0.0.1"
    bind: str = ""
    health: str = ""
    stats: str = ""
    locality: Locality = Locality()
    ca_server_name: str = ""
    other_roots: tuple[tuple[str, str], ...] = ()
    other_pem: tuple[tuple[str, str], ...] = ()
    validity_seconds: int = 86_400
    drain_notice_seconds: float = 5.0
    drain_seconds: float = 30.0
    concurrency: int = 0
    envoy: str = ""

    @property
    def own_bind(self) -> str:
        """`bind`, or any address of the families that the replica has."""
        return self.bind or (ANY_IPV6 if ":" in self.ip else ANY_IPV4)

    def listening(self, port: int) -> str:
        """Any address of the replica's families with *port*."""
        return f"[{ANY_IPV6}]:{port}" if ":" in self.ip else f"{ANY_IPV4}:{port}"

    @property
    def identity(self) -> SpiffeId:
        """Who the gateway proves to be."""
        return SpiffeId(self.trust_domain, self.namespace, self.service_account or self.name)
