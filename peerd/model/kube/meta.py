"""What all objects share."""

import msgspec

from peerd.model.record import Record


class KubeRecord(Record, frozen=True, rename="camel"):
    """A part of an API object; `serviceAccountName` on the wire is `service_account_name` here."""


class Annotations(Record, frozen=True):
    """Every annotation that peerd reads, and no other: the rest is dropped while decoding.

    An absent annotation is the empty string.
    """

    redirection: str = msgspec.field(name="ambient.istio.io/redirection", default="")
    waypoint_inbound_binding: str = msgspec.field(
        name="ambient.istio.io/waypoint-inbound-binding", default=""
    )
    waypoint_canary_weight: str = msgspec.field(name="istio.io/use-waypoint-canary-weight", default="")
    auto_registration_group: str = msgspec.field(name="istio.io/autoRegistrationGroup", default="")
    dry_run: str = msgspec.field(name="istio.io/dry-run", default="")
    traffic_distribution: str = msgspec.field(name="networking.istio.io/traffic-distribution", default="")
    gateway_service_account: str = msgspec.field(name="gateway.istio.io/service-account", default="")
    gateway_trust_domain: str = msgspec.field(name="gateway.istio.io/trust-domain", default="")
    preferred_data_plane: str = msgspec.field(
        name="peering.solo.io/preferred-data-plane-service-type", default=""
    )
    data_plane: str = msgspec.field(name="peering.solo.io/data-plane-service-type", default="")
    # Ours, on istio-remote Gateways (docs/peering.md).
    peer_service_account: str = msgspec.field(name="peering.peerd.io/service-account", default="")
    peer_namespace: str = msgspec.field(name="peering.peerd.io/system-namespace", default="")
    peer_issuer: str = msgspec.field(name="peering.peerd.io/issuer-sha256", default="")
    peer_expiry: str = msgspec.field(name="peering.peerd.io/expire-after", default="")
    peer_takeover: str = msgspec.field(name="peering.peerd.io/allow-takeover", default="")
    peer_namespaces: str = msgspec.field(name="peering.peerd.io/import-namespaces", default="")


class OwnerReference(KubeRecord, frozen=True):
    """The object that made this one."""

    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool = False


class ObjectMeta(KubeRecord, frozen=True):
    """Identity, age and labels. Times are RFC 3339 in UTC, so that they sort as text."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    generate_name: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: Annotations = Annotations()
    owner_references: tuple[OwnerReference, ...] = ()


class ObjectKey(Record, frozen=True, order=True):
    """Namespace (empty for cluster-scoped kinds) and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class KubeObject(KubeRecord, frozen=True):
    """The base of every kind."""

    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.metadata.namespace, self.metadata.name)


class StatusCondition(KubeRecord, frozen=True):
    """One of `status.conditions`, whole (`metav1.Condition`)."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


class ConditionsStatus(KubeRecord, frozen=True):
    """A status of which only the conditions are read."""

    conditions: tuple[StatusCondition, ...] = ()


class TargetReference(KubeRecord, frozen=True):
    """`targetRef` of policies and endpoints: the object that is meant."""

    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class LabelSelector(KubeRecord, frozen=True):
    """The `matchLabels` selector of Istio's kinds."""

    match_labels: dict[str, str] = {}
