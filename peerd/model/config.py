"""What `peerd serve` is told: one frozen record, from flags, environment and file (peerd/cli/config.py)."""

from peerd.model.record import Record


class ConfigError(Exception):
    """A setting cannot be used: which flag, which value, why, and what to do instead."""

    def __init__(self, flag: str, value: str, message: str, fix: str) -> None:
        super().__init__(f"{flag} {value}: {message}; {fix}" if value else f"{flag}: {message}; {fix}")
        self.flag = flag
        self.value = value


class ServeConfig(Record, frozen=True):
    """Settings of one `peerd serve`. Addresses are `host:port`, an empty host meaning all interfaces.

    `source` is `dir:PATH`, `kube` (the cluster that we run in) or `kube:PATH` (a kubeconfig, of which
    `kube_context` names the context, empty: its current one). `trust_domain` empty: as the mesh configuration
    says, else `cluster.local` (D6). `network` counts only where the system namespace has no label
    `topology.istio.io/network` (D6). `insecure_plaintext_addr` empty: off, `gateway_addr` empty: no gateways
    are configured (D37). `ca_dir` holds what `peerd certs` makes; empty: in Kubernetes Secret `cacerts` or
    `istio-ca-secret`, and elsewhere a self-signed root that is made once, in `ca` of the state directory.
    `jwks_file` verifies tokens of ztunnels (empty: in Kubernetes the API server does), issued by
    `token_issuer` (empty: any) for one of `token_audiences`; `trusted_ztunnel_accounts` are
    `namespace/account`. `peer_trust_domains` are accepted from peers that dial beside our own and those of
    our istio-remote Gateways (D14); a heartbeat goes to each every `heartbeat_seconds` (D17). `mode` is
    `standalone`, `beside` an istiod, or `both`; istiod's flags are read from its Deployment unless
    `istiod_flags` says `right` or `wrong` (D41). Beside it istiod certifies us: at `istiod_addr` (empty: its
    Service), for the token and under the roots of two files (D34). `peering` False: Gateways are derived and
    nobody is dialled. `drain_seconds` bounds what SIGTERM waits for. `gateway_image` empty: no gateways are
    run; else it holds this very command, `envoy_image` an Envoy, and they are run in the system namespace and
    in `gateway_namespaces`.
    """

    source: str
    state_dir: str
    mode: str = "standalone"
    istiod_flags: str = "auto"
    istiod_addr: str = ""
    istiod_token_file: str = "/var/run/secrets/tokens/istio-token"  # noqa: S105 (a path)
    istiod_root_file: str = "/var/run/secrets/istio/root-cert.pem"
    kube_context: str = ""
    ca_dir: str = ""
    cluster_id: str = "Kubernetes"
    trust_domain: str = ""
    system_namespace: str = "istio-system"
    revision: str = ""
    network: str = ""
    xds_addr: str = ":15012"
    peer_addr: str = ":15013"
    gateway_addr: str = ""
    gateway_image: str = ""
    gateway_namespaces: tuple[str, ...] = ()
    envoy_image: str = "envoyproxy/envoy:distroless-v1.36-latest"
    http_addr: str = ":15014"
    insecure_plaintext_addr: str = ""
    peering: bool = True
    jwks_file: str = ""
    token_issuer: str = ""
    token_audiences: tuple[str, ...] = ("istio-ca",)
    trusted_ztunnel_accounts: tuple[str, ...] = ("istio-system/ztunnel",)
    peer_service_account: str = "peerd"
    peer_trust_domains: tuple[str, ...] = ()
    heartbeat_seconds: int = 15
    log_format: str = "auto"
    log_level: str = "info"
    drain_seconds: float = 8.0
