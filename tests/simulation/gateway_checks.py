"""What gateways are told, against the truth: what is exported can be called through them, nothing else."""

from collections.abc import Sequence

from peerd.model.types import CLUSTER, ENDPOINT
from peerd.protocol.envelope import DeltaResponse
from tests.simulation.checks import Checks, Run
from tests.simulation.gateway import SimGateway, addresses
from tests.simulation.guarantees import ISOLATION, NO_PHANTOM_DELETE, ORIGIN, RESTART
from tests.simulation.history import Violation
from tests.simulation.truth import LOCAL

_BOUND = 2.0  # seconds from a Pod's deletion to its being called no more


class GatewayChecks(Checks):
    """Checks of gateways."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._gone: list[tuple[float, str, str]] = []

    def before(self, gateway: SimGateway, response: DeltaResponse) -> None:
        """A response came; the gateway still holds what it held."""
        if response.type_url == CLUSTER:
            for each in response.resources:
                self._named(gateway, each.name)
            for name in response.removed:
                if name in gateway.clusters:
                    self._unnamed(gateway, name)
        elif response.type_url == ENDPOINT:
            for each in response.resources:
                self._answers(gateway, each.name, addresses(each.payload))

    def _named(self, gateway: SimGateway, authority: str) -> None:
        """Something can be called."""
        self._history.checks[ORIGIN] += 1
        service = self._truth.services[gateway.cluster].get(authority.partition(".")[0])
        if (service is None or service.scope == LOCAL) and not self._touched(gateway, authority):
            raise Violation(ORIGIN, f"{gateway.name} lets others call {authority}, which is not exported")
        held = gateway.held[CLUSTER].get(authority)
        if self.armed and held is not None and not self._touched(gateway, authority):
            raise Violation(RESTART, f"{gateway.name} was told a new {authority}, and nobody changed it")

    def _unnamed(self, gateway: SimGateway, authority: str) -> None:
        self._history.checks[NO_PHANTOM_DELETE] += 1
        if self.armed and not self._touched(gateway, authority):
            raise Violation(NO_PHANTOM_DELETE, f"{gateway.name} was told that {authority} is gone")

    def _answers(self, gateway: SimGateway, name: str, found: frozenset[str]) -> None:
        """*found* answer for a port of a Service."""
        service = name.rpartition("/")[2].partition(":")[0]
        pods = self._truth.pods
        foreign = [each for each in found if not pods.get((gateway.cluster, each), "").startswith(service)]
        self._history.checks[ORIGIN] += 1
        if foreign:
            raise Violation(ORIGIN, f"{gateway.name} sends what is for {name} to {sorted(foreign)}")
        lost = gateway.endpoints.get(name, frozenset()) - found
        self._history.checks[NO_PHANTOM_DELETE] += 1
        if lost and self.armed and not self._touched(gateway, f"{service}.shop"):
            raise Violation(
                NO_PHANTOM_DELETE, f"{gateway.name} was told that {sorted(lost)} of {name} are gone"
            )

    def _touched(self, gateway: SimGateway, host: str) -> bool:
        return self._truth.touched_since(gateway.cluster, host.partition(".")[0], self.quiet_at)

    # -- time passes -------------------------------------------------------------------------------------

    def gone(self, cluster: str, address: str, now: float) -> None:
        """A Pod of the cluster was deleted."""
        self._gone.append((now, cluster, address))

    def look(self, now: float, gateways: Sequence[SimGateway]) -> None:
        """Whom they must not call any more by now."""
        due = [each for each in self._gone if now - each[0] > _BOUND]
        self._gone = [each for each in self._gone if now - each[0] <= _BOUND]
        for since, cluster, address in due:
            for gateway in gateways:
                replica = self._replicas.get(gateway.at)
                if gateway.cluster != cluster or replica is None:
                    continue
                if not replica.running or replica.disturbed_at >= since:
                    continue
                if not replica.ready_at <= gateway.connected_since < since:
                    continue
                self._history.checks[ISOLATION] += 1
                if any(address in found for found in gateway.endpoints.values()):
                    raise Violation(ISOLATION, f"{gateway.name} calls {address} {_BOUND} s after it is gone")
