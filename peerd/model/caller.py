"""Who is on the other end of a stream, once authenticated."""

from enum import StrEnum

from peerd.model.identity import SpiffeId
from peerd.model.record import Record


class CallerKind(StrEnum):
    """What a caller may ask for follows from this (serve/authorisation.py)."""

    WORKLOAD = (
        "workload"  # a Kubernetes account that proved itself by token: ztunnels are told apart by account
    )
    GATEWAY = "gateway"  # an east-west gateway of our own trust domain, by client certificate
    PEER = "peer"  # the control plane of another cluster, by client certificate
    LOOPBACK = "loopback"  # the plaintext loopback address, without authentication


class Caller(Record, frozen=True):
    """An authenticated caller. `pod_name` and `pod_uid` come from a bound token, empty where unknown."""

    kind: CallerKind
    identity: SpiffeId | None = None
    pod_name: str = ""
    pod_uid: str = ""
    issuer_key_sha256: str = ""
