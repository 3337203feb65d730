"""A request for a certificate, as it came over the wire."""

from peerd.model.record import Record


class CertificateRequest(Record, frozen=True):
    """`csr` is PEM. `impersonated` is the SPIFFE URI that a node proxy asks for, empty for the caller's own.

    `signer` names an external signer, empty for ours.
    """

    csr: str
    validity_seconds: int = 0
    impersonated: str = ""
    signer: str = ""
