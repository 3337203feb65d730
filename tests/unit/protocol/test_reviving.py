"""A service whose health policy is loosened has its workloads sent again (wire-contract §3.2, §6 no. 26).

ztunnel does not store an unhealthy endpoint of a service that wants healthy ones only, and the looser policy
does not bring it back. The client here does the same: payloads are a policy, or a status and services.
"""

from collections.abc import Iterable

import pytest

from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.envelope import DeltaResponse
from tests.support.delta import Driver, connected, drop, names, put, ztunnel_store

HEALTHY, ALL = b"healthy only", b"all"
SERVICE = "shop/web.shop.svc.cluster.local"


def service(policy: bytes, name: str = SERVICE) -> ResourceChange:
    return put(name, policy, revives=f"service/{name}" if policy == ALL else "")


def pod(name: str, *, status: str = "unhealthy", services: Iterable[str] = (SERVICE,)) -> ResourceChange:
    return put(
        f"c//Pod/shop/{name}",
        " ".join((status, *services)).encode(),
        groups=tuple(f"service/{each}" for each in services),
    )


class Ztunnel:
    """The endpoints that a ztunnel has after some responses, each taken in its order."""

    def __init__(self) -> None:
        self._policies: dict[str, bytes] = {}
        self._staged: dict[str, list[tuple[str, str]]] = {}
        self.endpoints: set[tuple[str, str]] = set()

    def take(self, responses: Iterable[DeltaResponse]) -> None:
        for response in responses:
            for each in response.resources:
                if "//" in each.name:
                    status, *services = each.payload.decode().split()
                    self.endpoints = {end for end in self.endpoints if end[1] != each.name}
                    for name in services:
                        self._insert(name, each.name, status)
                elif response.type_url == ADDRESS:
                    self._policies[each.name] = each.payload
                    for workload, status in self._staged.pop(each.name, ()):
                        self._insert(each.name, workload, status)
            for name in response.removed:
                self.endpoints = {end for end in self.endpoints if name not in end}

    def _insert(self, name: str, workload: str, status: str) -> None:
        policy = self._policies.get(name)
        if policy is None:
            self._staged.setdefault(name, []).append((workload, status))
        elif status == "healthy" or policy == ALL:
            self.endpoints.add((name, workload))


WORLD = (
    service(HEALTHY),
    pod("a"),
    pod("b", status="healthy"),
    service(HEALTHY, "shop/other"),
    pod("x", services=()),
)
BOTH = {(SERVICE, "c//Pod/shop/a"), (SERVICE, "c//Pod/shop/b")}


def begun() -> tuple[Driver, Ztunnel]:
    driver, ztunnel = Driver(ztunnel_store()), Ztunnel()
    driver.publish(*WORLD)
    driver.open()
    ztunnel.take(driver.settle())
    assert ztunnel.endpoints == {(SERVICE, "c//Pod/shop/b")}
    return driver, ztunnel


def test_a_loosened_policy_brings_back_what_was_left_out_and_nothing_else() -> None:
    driver, ztunnel = begun()
    driver.publish(service(ALL))
    (response,) = driver.settle()
    assert names(response) == [SERVICE, "c//Pod/shop/a", "c//Pod/shop/b"]
    ztunnel.take([response])
    assert ztunnel.endpoints == BOTH


def test_a_service_that_wants_all_is_changed_alone() -> None:
    """Its workloads were there since it did; a tightened policy brings nothing back either."""
    driver = connected(service(ALL), pod("a"))
    driver.publish(put(SERVICE, b"all, other port", revives=f"service/{SERVICE}"))
    assert names(driver.step()) == [SERVICE]
    driver.publish(service(HEALTHY))
    assert names(driver.step()) == [SERVICE]


def test_what_comes_and_changes_beside_it_comes_after_it() -> None:
    """In one window and over several, while an ACK is outstanding; what is gone stays so."""
    driver, ztunnel = begun()
    driver.publish(pod("z", services=()))
    held = driver.send()
    driver.publish(pod("new"), pod("a", status="unhealthy"), pod("b", services=()))
    driver.publish(pod("late"), service(ALL), drop("c//Pod/shop/b"))
    driver.request(driver.client.accept(held))
    (response,) = driver.settle()
    assert names(response)[0] == SERVICE
    assert response.removed == ("c//Pod/shop/b",)
    ztunnel.take([response])
    assert ztunnel.endpoints == {(SERVICE, f"c//Pod/shop/{name}") for name in ("a", "new", "late")}


@pytest.mark.parametrize("others", [0, 1_500])
def test_who_was_away_when_it_was_loosened_is_sent_them_too(others: int) -> None:
    """Its versions of them are true. Who holds nothing as it is finds them in everybody's first answer."""
    driver, ztunnel = begun()
    driver.publish(*(pod(f"n{index}", services=()) for index in range(others)))
    ztunnel.take(driver.settle())
    held = dict(driver.client.versions(ADDRESS))
    driver.publish(service(ALL))
    again = Driver(driver.store, held={ADDRESS: dict.fromkeys(held, "") if others else held})
    again.open()
    for _ in again.server.compare():
        pass
    responses = [r for r in again.settle() if r.type_url != AUTHORIZATION]
    if not others:
        assert [names(each) for each in responses] == [[SERVICE, "c//Pod/shop/a", "c//Pod/shop/b"]]
    ztunnel.take(responses)
    assert ztunnel.endpoints == BOTH


def test_clients_on_demand_are_sent_those_of_services_that_they_hold() -> None:
    driver, ztunnel = Driver(ztunnel_store(), on_demand=[ADDRESS]), Ztunnel()
    driver.publish(*WORLD)
    driver.open()
    driver.ask(SERVICE)
    ztunnel.take(driver.settle())
    assert ztunnel.endpoints == {(SERVICE, "c//Pod/shop/b")}
    driver.publish(service(ALL), service(ALL, "shop/other"))
    (response,) = driver.settle()
    assert names(response) == [SERVICE, "c//Pod/shop/a", "c//Pod/shop/b"]
    ztunnel.take([response])
    assert ztunnel.endpoints == BOTH
    driver.publish(pod("a", status="healthy"))
    assert names(driver.step()) == ["c//Pod/shop/a"], "what it holds it still follows"
