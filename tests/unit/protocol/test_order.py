"""Which type goes first on a stream: policies before workloads, and removed ones after them (D8)."""

from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.rules import TypeRules
from tests.support.delta import Driver, connected, drop, names, policy, put, ztunnel_store


def test_policies_go_before_the_workloads_of_their_revision() -> None:
    driver = connected()
    driver.publish(put("w", b"1"), policy("ns/p"))
    assert [r.type_url for r in driver.settle()] == [AUTHORIZATION, ADDRESS]


def test_a_removed_policy_goes_once_what_named_it_is_acked() -> None:
    driver = connected(put("w", b"1"), policy("ns/p"))
    driver.publish(put("w", b"2"), drop("ns/p", AUTHORIZATION))
    address = driver.send()
    assert names(address) == ["w"]
    assert driver.send() is None, "before the ACK"
    driver.request(driver.client.accept(address))
    removal = driver.send()
    assert (removal.type_url, removal.removed) == (AUTHORIZATION, ("ns/p",))


def test_a_removed_policy_stays_while_a_workload_is_refused() -> None:
    """The workload as ztunnel has it may still name the policy."""
    driver = connected(put("w", b"1"), policy("ns/p"))
    driver.publish(put("w", b"2"), drop("ns/p", AUTHORIZATION))
    driver.request(driver.client.reject(driver.send(), {"w": "bad"}))
    assert driver.settle() == []
    driver.publish(put("w", b"3"))
    assert [r.type_url for r in driver.settle()] == [ADDRESS, AUTHORIZATION]


def test_after_a_restart_a_removed_policy_waits_for_the_workloads_too() -> None:
    driver = Driver(ztunnel_store(), held={ADDRESS: {"w": "old"}, AUTHORIZATION: {"ns/gone": "old"}})
    driver.publish(put("w", b"2"))
    driver.open()
    first, second = driver.step(), driver.send()
    assert (first.type_url, first.removed) == (AUTHORIZATION, ())
    assert (second.type_url, names(second)) == (ADDRESS, ["w"])
    assert driver.send() is None
    driver.request(driver.client.accept(second))
    assert driver.send().removed == ("ns/gone",)


def test_a_client_that_asks_for_addresses_alone_gets_them_after_a_second() -> None:
    driver = Driver(ztunnel_store(), types=(ADDRESS,))
    driver.publish(put("w"))
    driver.open()
    assert driver.send() is None
    assert driver.server.wake_at == driver.clock.now + 1.0
    driver.clock.now += 0.99
    assert driver.send() is None
    driver.clock.now += 0.01
    assert names(driver.send()) == ["w"]


def test_policies_asked_for_within_that_second_still_go_first() -> None:
    driver = Driver(ztunnel_store())
    driver.publish(put("w"), policy("ns/p"))
    address, authorization = driver.client.start()
    driver.request(address)
    assert driver.send() is None
    driver.clock.now += 0.5
    driver.request(authorization)
    assert [r.type_url for r in driver.settle()] == [AUTHORIZATION, ADDRESS]


def test_plain_rules_send_removals_with_the_changes_they_belong_to() -> None:
    driver = Driver(ztunnel_store(), rules={ADDRESS: TypeRules()}, types=(ADDRESS,))
    driver.publish(put("a"))
    driver.open()
    driver.settle()
    driver.publish(drop("a"), put("b"))
    response = driver.step()
    assert (names(response), response.removed) == (["b"], ("a",))
