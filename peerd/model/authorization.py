"""`istio.security.Authorization` as a record (wire-contract §2.3, §4.7, §4.8)."""

from enum import IntEnum

from peerd.model.record import Record


class PolicyScope(IntEnum):
    """Which workloads a policy applies to by itself."""

    GLOBAL = 0
    NAMESPACE = 1
    WORKLOAD_SELECTOR = 2


class Action(IntEnum):
    """What a match means."""

    ALLOW = 0
    DENY = 1


class MatchKind(IntEnum):
    """Which field of the StringMatch oneof is set."""

    EXACT = 1
    PREFIX = 2
    SUFFIX = 3
    PRESENCE = 4


class StringMatch(Record, frozen=True):
    """One string pattern; PRESENCE carries no value."""

    kind: MatchKind
    value: str = ""


class AddressBlock(Record, frozen=True):
    """An IP block: 4 or 16 bytes and a prefix length that fits them."""

    address: bytes
    length: int


class ServiceAccountMatch(Record, frozen=True):
    """A caller's account, whatever its trust domain."""

    namespace: str
    service_account: str


class Match(Record, frozen=True):
    """Fields are ANDed, values of one field ORed; a Match with no field set never matches."""

    namespaces: tuple[StringMatch, ...] = ()
    not_namespaces: tuple[StringMatch, ...] = ()
    principals: tuple[StringMatch, ...] = ()
    not_principals: tuple[StringMatch, ...] = ()
    source_ips: tuple[AddressBlock, ...] = ()
    not_source_ips: tuple[AddressBlock, ...] = ()
    destination_ips: tuple[AddressBlock, ...] = ()
    not_destination_ips: tuple[AddressBlock, ...] = ()
    destination_ports: tuple[int, ...] = ()
    not_destination_ports: tuple[int, ...] = ()
    service_accounts: tuple[ServiceAccountMatch, ...] = ()
    not_service_accounts: tuple[ServiceAccountMatch, ...] = ()


class Clause(Record, frozen=True):
    """Matches are ORed; a clause with none matches everything."""

    matches: tuple[Match, ...] = ()


class Rule(Record, frozen=True):
    """Clauses are ANDed; a rule with none matches everything."""

    clauses: tuple[Clause, ...] = ()


class Authorization(Record, frozen=True):
    """One policy; its resource name is `<namespace>/<name>`. Rules are ORed; none never matches."""

    name: str
    namespace: str
    scope: PolicyScope = PolicyScope.GLOBAL
    action: Action = Action.ALLOW
    rules: tuple[Rule, ...] = ()
    dry_run: bool = False

    @property
    def resource_name(self) -> str:
        """`<namespace>/<name>`, the name on the wire and in `Workload.authorization_policies`."""
        return f"{self.namespace}/{self.name}"
