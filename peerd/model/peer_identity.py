"""Who may stand on the other end of a peer stream; both ends ask here (decision D14)."""

from collections.abc import Collection, Sequence

from peerd.model.identity import SpiffeId, parse_spiffe_id


class PeerRefusedError(Exception):
    """The far end is not a control plane that is meant; the text says who it is and who would be welcome."""


def check_peer(
    uris: Sequence[str], issuer: str, accepted: Collection[SpiffeId], pins: Collection[str] = ()
) -> SpiffeId:
    """Check the URI SANs of a verified certificate against who may be there.

    *accepted* is the one control plane that a Gateway names when dialling, and all that may connect when
    serving. *issuer* is the SHA-256 (hex) of the public key of the CA that issued the leaf; where *pins* is
    not empty it must be one of them, which is what tells clusters of a shared trust domain apart.

    Raises:
        PeerRefusedError: no or several URI SANs, no SPIFFE identity, another trust domain, another account,
            or an issuer that is not pinned.
    """
    if len(uris) != 1:
        found = ", ".join(uris) or "none"
        raise PeerRefusedError(f"its certificate must name exactly one URI, and names {found}")
    try:
        identity = parse_spiffe_id(uris[0])
    except ValueError as error:
        raise PeerRefusedError(f"its certificate's name cannot be an identity: {error}") from error
    if identity not in accepted:
        raise PeerRefusedError(_why(identity, accepted))
    if pins and issuer not in pins:
        raise PeerRefusedError(
            f"{identity} was issued by the CA with key {issuer}, pinned is {' or '.join(sorted(pins))}"
        )
    return identity


def _why(identity: SpiffeId, accepted: Collection[SpiffeId]) -> str:
    domains = sorted({each.trust_domain for each in accepted})
    if identity.trust_domain not in domains:
        welcome = ", ".join(domains) or "none"
        return f"{identity} is of trust domain {identity.trust_domain!r}; accepted here: {welcome}"
    welcome = ", ".join(str(each) for each in sorted(accepted) if each.trust_domain == identity.trust_domain)
    return f"{identity} is not a control plane of a peer; accepted here: {welcome}"
