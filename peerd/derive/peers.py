"""Peers: istio-remote Gateways as the dialer needs them (decisions D14, D15)."""

import re

from peerd.derive import labels
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.gateways import NetworkGateways
from peerd.derive.mesh import Mesh
from peerd.derive.problems import error, keyed, name_of
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import PeerView, RemotePeer
from peerd.model.kube.gateway import Gateway
from peerd.model.mesh import Settings

XDS_LISTENER = "xds-tls"
XDS_PORT = 15012
EXPIRE_AFTER = 86_400

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd]?)", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse_expiry(text: str) -> int | None:
    """Seconds of `90`, `90s`, `10m`, `24h`, `7d`: the default for an empty text, None for what is none."""
    if not text:
        return EXPIRE_AFTER
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def dial_port(gateway: Gateway) -> int:
    """The port of listener `xds-tls`, else 15012."""
    for listener in gateway.spec.listeners:
        if listener.name == XDS_LISTENER:
            return listener.port
    return XDS_PORT


def dial_addresses(gateway: Gateway) -> tuple[str, ...]:
    """What to dial: `spec.addresses` (decision D15)."""
    return tuple(address.value for address in gateway.spec.addresses if address.value)


def _issuer(gateway: Gateway) -> str:
    return gateway.metadata.annotations.peer_issuer.replace(":", "").lower()


def check(gateway: Gateway) -> tuple[Diagnostic, ...]:
    """What keeps a peer from being dialled as meant."""
    where = name_of("Gateway", gateway)
    found: list[Diagnostic] = []
    if not dial_addresses(gateway):
        fix = "name the peer's east-west gateway; it is not dialled"
        found.append(error(where, "spec.addresses", "is empty", fix))
    port = dial_port(gateway)
    if not 0 < port < 65536:
        found.append(
            error(
                where, f"spec.listeners[{XDS_LISTENER}].port", f"{port} is no port", "write the peer's 15012"
            )
        )
    expiry = gateway.metadata.annotations.peer_expiry
    if parse_expiry(expiry) is None:
        field = "metadata.annotations[peering.peerd.io/expire-after]"
        fix = "write seconds or 90s, 10m, 24h; 0 is never. The default of 24h is used"
        found.append(error(where, field, f"{expiry!r} is no duration", fix))
    issuer = _issuer(gateway)
    if issuer and not _SHA256.fullmatch(issuer):
        field = "metadata.annotations[peering.peerd.io/issuer-sha256]"
        fix = "write the 64 hex digits of the issuer key's SHA-256; the peer is not dialled"
        found.append(error(where, field, "is no SHA-256", fix))
    return tuple(found)


def remote_peer(
    gateway: Gateway, view: PeerView | None, settings: Settings, trust_domain: str
) -> RemotePeer | None:
    """The peer behind an istio-remote Gateway, None where it cannot be dialled.

    *trust_domain* is the mesh's, for Gateways that name none. The account is that of the peer's control plane
    (D14): by default the one the settings name, in a system namespace called like ours.
    """
    addresses, port, issuer = dial_addresses(gateway), dial_port(gateway), _issuer(gateway)
    if not addresses or not 0 < port < 65536 or (issuer and not _SHA256.fullmatch(issuer)):
        return None
    meta = gateway.metadata
    notes = meta.annotations
    cluster = meta.labels.get(labels.CLUSTER, "")
    learnt = view.info.cluster if view is not None and view.info is not None else ""
    expiry = parse_expiry(notes.peer_expiry)
    return RemotePeer(
        key=gateway.key,
        cluster=cluster,
        network=meta.labels.get(labels.NETWORK, ""),
        addresses=addresses,
        port=port,
        trust_domain=notes.gateway_trust_domain or trust_domain,
        namespace=notes.peer_namespace or settings.system_namespace,
        service_account=notes.peer_service_account or settings.peer_service_account,
        issuer=issuer,
        expire_after=EXPIRE_AFTER if expiry is None else expiry,
        created=meta.creation_timestamp,
        self_peer=settings.cluster_id in {cluster, "" if cluster else learnt},
    )


class Peers:
    """One RemotePeer for each istio-remote Gateway, under `<namespace>/<name>`."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        gateways: NetworkGateways,
        views: Input[str, PeerView],
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._views = views
        self.table = engine.derive("peers", gateways.remote, self._peer, joined=(views,))
        self.diagnostics = engine.derive_many(
            "peer diagnostics",
            gateways.remote,
            lambda _ctx, _key, gateway: keyed(check(gateway)) if settings.peering else {},
        )

    def _peer(self, ctx: Context, _key: str, gateway: Gateway) -> RemotePeer | None:
        if not self._settings.peering:
            return None
        domain = self._mesh.of(ctx).identity_domain
        return remote_peer(gateway, ctx.same(self._views), self._settings, domain)
