"""Who may ask for which type: one table (decision D37). What it does not name is refused."""

from collections.abc import Collection
from enum import Enum, auto

from peerd.model.caller import Caller, CallerKind
from peerd.model.types import (
    ADDRESS,
    AUTHORIZATION,
    CLUSTER,
    DEBUG,
    DEBUG_CONFIG_DUMP,
    DEBUG_SYNCZ,
    ENDPOINT,
    FEDERATED_SERVICE,
    LISTENER,
    PEER_INFO,
    ROUTE,
    SECRET,
    SEGMENT,
)


class Role(Enum):
    """What an identity is to us."""

    ZTUNNEL = auto()  # an account on the list of trusted ztunnel accounts
    OPERATOR = auto()  # any other account of the system namespace, such as istioctl's
    WORKLOAD = auto()  # any other account: only CreateCertificate, for itself
    GATEWAY = auto()
    PEER = auto()
    LOOPBACK = auto()


_MESH = frozenset({ADDRESS, AUTHORIZATION})
_DEBUG = frozenset({DEBUG, DEBUG_SYNCZ, DEBUG_CONFIG_DUMP})

TABLE: dict[Role, frozenset[str]] = {
    Role.ZTUNNEL: _MESH,
    Role.OPERATOR: _DEBUG,
    Role.WORKLOAD: frozenset(),
    Role.GATEWAY: frozenset({LISTENER, ROUTE, CLUSTER, ENDPOINT}),  # secrets only by file
    Role.PEER: frozenset({FEDERATED_SERVICE, SEGMENT, PEER_INFO, ADDRESS}),
    Role.LOOPBACK: _MESH | _DEBUG,
}
GOVERNED = frozenset[str]({SECRET}).union(*TABLE.values())
"""Types that somebody may have, and secrets, which nobody may: they are files (decision D37)."""


class Authorisation:
    """Decides by the table.

    *ztunnels* are accounts as `namespace/account` (setting `trusted_ztunnel_accounts`), also where they lie
    in *system_namespace*.
    """

    def __init__(self, ztunnels: Collection[str], system_namespace: str) -> None:
        self._ztunnels = frozenset(ztunnels)
        self._system_namespace = system_namespace

    def role(self, caller: Caller) -> Role:
        """What *caller* is to us."""
        match caller.kind:
            case CallerKind.LOOPBACK:
                return Role.LOOPBACK
            case CallerKind.PEER:
                return Role.PEER
            case CallerKind.GATEWAY:
                return Role.GATEWAY
            case CallerKind.WORKLOAD:
                identity = caller.identity
                if identity is None:
                    return Role.WORKLOAD
                if f"{identity.namespace}/{identity.service_account}" in self._ztunnels:
                    return Role.ZTUNNEL
                return Role.OPERATOR if identity.namespace == self._system_namespace else Role.WORKLOAD

    def allowed(self, caller: Caller, type_url: str) -> bool:
        """Whether *caller* may ask for *type_url*."""
        return type_url in TABLE[self.role(caller)]

    def refusal(self, caller: Caller, type_url: str) -> str:
        """What to tell a caller that is not allowed, so that its operator can act."""
        role = self.role(caller)
        who = f"{caller.identity or caller.kind} ({role.name.lower()})"
        if role in {Role.WORKLOAD, Role.OPERATOR} and type_url in _MESH:
            return f"{who} may not ask for {type_url}: its account is no trusted ztunnel account"
        if type_url in _DEBUG:
            return f"{who} may not ask for {type_url}: only accounts of {self._system_namespace} may"
        return f"{who} may not ask for {type_url}"
