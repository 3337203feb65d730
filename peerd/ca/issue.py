"""peerd's own certificates: the server's (wire-contract §5.2) and the control plane's (decision D14)."""

from dataclasses import dataclass, field

from cryptography.x509 import GeneralName

from peerd.ca import leaf, pem, signer
from peerd.ca.bundle import CaBundle

OWN_TTL = 24 * 3600

# Names under which ztunnels, istioctl and charts look for a control plane (decision D35).
_SERVICE_NAMES = ("istiod", "istiod-remote", "istio-pilot", "peerd")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A leaf with its intermediates, and its key, in PEM; its end and when to replace it in Unix seconds."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    not_after: float
    renew_at: float


def server_names(system_namespace: str, revision: str = "", extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Every host name and address the server answers to, as istiod's are, and this machine's own."""
    names = (*_SERVICE_NAMES, f"istiod-{revision}") if revision else _SERVICE_NAMES
    in_cluster = tuple(f"{name}.{system_namespace}.svc" for name in names)
    return tuple(dict.fromkeys((*extra, *in_cluster, *_LOCAL_NAMES)))


def server_certificate(
    bundle: CaBundle, names: tuple[str, ...], now: float, ttl: int = OWN_TTL
) -> OwnCertificate:
    """The certificate of the TLS ports that ztunnels reach. An ordinary leaf: ztunnel refuses a CA there.

    Raises:
        SigningError: the CA has expired.
    """
    return _own(bundle, [leaf.host_san(name) for name in names], now, ttl)


def identity_certificate(bundle: CaBundle, identity: str, now: float, ttl: int = OWN_TTL) -> OwnCertificate:
    """The certificate that proves a SPIFFE identity: peerd's own, on both ends of peer streams.

    Raises:
        SigningError: the CA has expired.
    """
    return _own(bundle, [leaf.uri_san(identity)], now, ttl)


def _own(bundle: CaBundle, names: list[GeneralName], now: float, ttl: int) -> OwnCertificate:
    key = pem.new_key()
    certificate = signer.issue(bundle, key.public_key(), names, ttl, now)
    not_after = certificate.not_valid_after_utc.timestamp()
    return OwnCertificate(
        certificate_chain=pem.write_certificates(certificate) + bundle.intermediates_pem,
        private_key=pem.write_key(key),
        not_after=not_after,
        renew_at=now + (not_after - now) / 2,
    )
