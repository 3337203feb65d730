"""Whether the gateways of peers answer: a TLS handshake with each HBONE address from time to time (D33).

It proves the way to the gateway, and who answers there: the identity that our ztunnels will demand. What lies
behind the gateway it does not prove. Only the replica that writes asks.
"""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable

import structlog

from peerd.limits import PROBES, hit
from peerd.model.clock import Clock
from peerd.model.federation import NetworkGateway
from peerd.model.identity import SpiffeId
from peerd.model.kube.meta import ObjectKey
from peerd.publish.gateway_status import Path, PathFacts
from peerd.publish.pace import Bucket
from peerd.publish.permit import Permit
from peerd.transport.tls import TlsError, TlsSource, client_context, peer_certificate

log = structlog.get_logger("peerd.probe")

INTERVAL = 30.0
TIMEOUT = 5.0
_FAILURES = 2  # in a row, before what was reached counts as unreachable: one lost packet is none
_AT_ONCE = 16
_LOOK = 1.0

Probe = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""URI SANs of who answers at an address (IP or host name) and port; raises ProbeError."""

_Way = tuple[str, str, int]


class ProbeError(Exception):
    """Nobody answered, or nobody who can be trusted; the text says why."""


def tls_probe(source: TlsSource) -> Probe:
    """Probes with the certificate of *source*, as our control plane."""

    async def probe(host: str, port: int) -> tuple[str, ...]:
        material = source.current()
        try:
            async with asyncio.timeout(TIMEOUT):
                _, writer = await asyncio.open_connection(host, port, ssl=client_context(material))
        except TimeoutError:
            raise ProbeError(f"no answer within {TIMEOUT:.0f} s") from None
        except ssl.SSLCertVerificationError as error:
            raise ProbeError(f"its certificate is refused: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise ProbeError(f"TLS handshake failed: {error.reason or error}") from error
        except (OSError, TlsError) as error:
            raise ProbeError(str(error)) from error
        try:
            return peer_certificate(writer.get_extra_info("ssl_object"), material).uris
        except TlsError as error:
            raise ProbeError(str(error)) from error
        finally:
            writer.transport.abort()

    return probe


class _State:
    """One address."""

    __slots__ = ("asked", "due", "failure", "failures", "gateway", "reached")

    def __init__(self, gateway: NetworkGateway, due: float) -> None:
        self.gateway = gateway
        self.due = due
        self.asked = False  # and answered, one way or the other
        self.reached = False
        self.failures = 0
        self.failure = ""


class GatewayProbes:
    """Call `run` in a task.

    Args:
        probe: asks one address.
        clock: monotonic.
        source: spreads the probes.
        permit: without it nobody is asked.
        changed: called with the key of an istio-remote Gateway of which `facts` may be otherwise now.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        clock: Clock,
        source: random.Random,
        permit: Permit,
        changed: Callable[[ObjectKey], None],
    ) -> None:
        self._probe = probe
        self._clock = clock
        self._random = source
        self._permit = permit
        self._changed = changed
        self._states: dict[_Way, _State] = {}
        self._by_gateway: dict[ObjectKey, dict[_Way, None]] = {}
        self._bucket = Bucket(PROBES.value, PROBES.value, clock.monotonic())
        self._running: set[asyncio.Task[None]] = set()

    def ways(self, changes: Iterable[tuple[_Way, NetworkGateway | None]]) -> None:
        """Addresses as derivation has them (`Commit.ways`)."""
        now = self._clock.monotonic()
        for way, gateway in changes:
            key = ObjectKey(way[0], way[1])
            if gateway is None:
                self._states.pop(way, None)
                held = self._by_gateway.get(key, {})
                held.pop(way, None)
                if not held:
                    self._by_gateway.pop(key, None)
            else:
                before = self._states.get(way)
                if before is None or _asked(before.gateway) != _asked(gateway):
                    self._states[way] = _State(gateway, now)
                else:
                    before.gateway = gateway
                self._by_gateway.setdefault(key, {})[way] = None
            self._changed(key)

    def facts(self, key: ObjectKey) -> PathFacts:
        """What is known of the gateways behind an istio-remote Gateway."""
        states = [self._states[way] for way in sorted(self._by_gateway.get(key, ()))]
        if not states:
            return PathFacts(
                Path.UNKNOWN, "add an HBONE listener (15008) and an address, or expose the peer's gateway"
            )
        reached = [each for each in states if each.reached]
        failed = [each for each in states if each.asked and not each.reached]
        problems = "; ".join(f"{_address(each.gateway)}: {each.failure}" for each in failed)
        if reached:
            addresses = ", ".join(_address(each.gateway) for each in reached)
            told = f"{addresses} answers as {_expected(reached[0].gateway)}"
            return PathFacts(Path.REACHED, f"{told}; {problems}" if problems else told)
        if len(failed) < len(states):
            return PathFacts(Path.PROBING, "not probed yet")
        return PathFacts(Path.UNREACHABLE, problems)

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                self.start_due()
                await asyncio.sleep(_LOOK)
        finally:
            for task in self._running:
                task.cancel()

    def start_due(self) -> None:
        """Begin the probes that are due and allowed now."""
        if self._permit.remaining() <= 0:
            return
        now = self._clock.monotonic()
        for way, state in sorted(self._states.items(), key=lambda each: (each[1].due, each[0])):
            if state.due > now:
                return
            if len(self._running) >= _AT_ONCE or self._bucket.wait(now) > 0:
                hit(PROBES)
                return
            self._bucket.take(now)
            state.due = now + INTERVAL * self._random.uniform(0.9, 1.1)
            task = asyncio.ensure_future(self._ask(way, state))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _ask(self, way: _Way, state: _State) -> None:
        gateway = state.gateway
        failure = ""
        try:
            uris = await self._probe(gateway.value, gateway.address.hbone_mtls_port)
            if _expected(gateway) not in uris:
                said = ", ".join(uris) or "nobody"
                failure = f"it proves to be {said}, not {_expected(gateway)}"
        except ProbeError as error:
            failure = str(error)
        before = self.facts(ObjectKey(way[0], way[1]))
        state.asked = True
        state.failures = state.failures + 1 if failure else 0
        if not failure:
            state.reached, state.failure = True, ""
        elif not state.reached or state.failures >= _FAILURES:
            state.reached, state.failure = False, failure
        else:
            state.due = min(state.due, self._clock.monotonic() + TIMEOUT)  # ask again soon
        if self._states.get(way) is state and self.facts(ObjectKey(way[0], way[1])) != before:
            log.info(
                "gateway_probed", gateway=f"{way[0]}/{way[1]}", address=_address(gateway), problem=failure
            )
            self._changed(ObjectKey(way[0], way[1]))


def _asked(gateway: NetworkGateway) -> tuple[object, ...]:
    return gateway.value, gateway.address.hbone_mtls_port, _expected(gateway)


def _expected(gateway: NetworkGateway) -> str:
    domain = gateway.trust_domain or "cluster.local"
    return str(SpiffeId(domain, gateway.namespace, gateway.service_account))


def _address(gateway: NetworkGateway) -> str:
    value = f"[{gateway.value}]" if ":" in gateway.value else gateway.value
    return f"{value}:{gateway.address.hbone_mtls_port}"
