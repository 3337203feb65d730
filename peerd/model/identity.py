"""SPIFFE identities of workloads, gateways and control planes."""

from peerd.model.record import Record

_SCHEME = "spiffe://"


class SpiffeId(Record, frozen=True, order=True):
    """`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the only form the mesh uses."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def parse_spiffe_id(uri: str) -> SpiffeId:
    """Parse a SPIFFE URI of the mesh's form.

    Raises:
        ValueError: *uri* is not `spiffe://<td>/ns/<ns>/sa/<sa>` with three non-empty parts.
    """
    if uri.startswith(_SCHEME):
        match uri.removeprefix(_SCHEME).split("/"):
            case [trust_domain, "ns", namespace, "sa", account] if trust_domain and namespace and account:
                return SpiffeId(trust_domain, namespace, account)
    raise ValueError(
        f"{uri!r} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
    )
