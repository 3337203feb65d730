"""Where a replica's Envoy listens, and what it says of itself."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peerd.gateway.bootstrap import bootstrap
from peerd.model.address import Locality
from tests.support.envoys import settings


def made(**given: Any) -> dict[str, Any]:
    """The bootstrap of a replica with these settings."""
    found: dict[str, Any] = json.loads(bootstrap(msgspec.structs.replace(settings(Path("unused")), **given)))
    return found


@pytest.mark.parametrize(
    ("ip", "bind", "compat"),
    [
        ("10.0.0.1", "0.0.0.0", False),
        ("fd00::1", "::", True),
        ("10.0.0.1,fd00::1", "::", True),
        ("fd00::1,10.0.0.1", "::", True),
    ],
)
def test_ports_are_bound_in_every_family_that_the_replica_has(ip, bind, compat):
    """A Pod of one family, of the other, of both in either order."""
    tree = made(ip=ip, bind="", health="", stats="")
    sockets = [each["address"]["socket_address"] for each in tree["static_resources"]["listeners"]]
    assert [(each["address"], each["port_value"]) for each in sockets] == [(bind, 15021), (bind, 15020)]
    assert all(each.get("ipv4_compat", False) == compat for each in sockets)
    assert tree["node"]["metadata"]["BIND_ADDRESS"] == bind
    assert tree["node"]["metadata"]["INSTANCE_IPS"] == ip
    assert tree["node"]["id"].split("~")[1] == ip.split(",")[0]


def test_what_is_told_counts():
    """On a machine that several gateways share."""
    tree = made(ip="127.0.1.1,::1", bind="127.0.1.1", health="127.0.1.1:15021", stats="[::1]:15020")
    sockets = [each["address"]["socket_address"] for each in tree["static_resources"]["listeners"]]
    assert sockets == [
        {"address": "127.0.1.1", "port_value": 15021},
        {"address": "::1", "port_value": 15020},
    ]
    assert tree["node"]["metadata"]["BIND_ADDRESS"] == "127.0.1.1"


@pytest.mark.parametrize(
    ("locality", "told"),
    [
        (Locality(), ""),
        (Locality("r1"), "r1"),
        (Locality("r1", "a"), "r1/a"),
        (Locality("r1", "", "s"), "r1//s"),
    ],
)
def test_its_place_is_what_it_was_told(locality, told):
    """Nothing where its Pod's node says it."""
    assert made(locality=locality)["node"]["metadata"]["LOCALITY"] == told
