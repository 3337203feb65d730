"""Names made from templates, and which of a peer's names a template could have made (decisions D23, D25)."""

import pytest

from peerd.derive.aliases import Alias, Named, admitted, fault, made

RESERVED = ("cluster.local", "mesh.acme")
SERVICE = Named("reviews", "shop", {"tier": "front", "public": "yes"}, {"example.org/host": "www"})


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("{service}.{namespace}.example.org", "reviews.shop.example.org"),
        ("{labels['tier']}-{service}.example.org", "front-reviews.example.org"),
        ("{annotations['example.org/host']}.example.org", "www.example.org"),
        ("fixed.example.org", "fixed.example.org"),
    ],
)
def test_each_place_is_filled_in(pattern: str, host: str) -> None:
    assert made([Alias(pattern, ())], SERVICE, reserved=RESERVED) == (host,)
    assert admitted([Alias(pattern, ())], SERVICE, [host, "other.example.net"], reserved=RESERVED) == (host,)


def test_a_service_that_lacks_a_label_silently_has_no_such_name() -> None:
    assert made([Alias("{labels['none']}.example.org", ())], SERVICE, reserved=RESERVED) == ()


def test_the_selector_says_whose_names_a_template_makes() -> None:
    aliases = [Alias("a.example.org", (("public", "yes"),)), Alias("b.example.org", (("public", "no"),))]
    assert made(aliases, SERVICE, reserved=RESERVED) == ("a.example.org",)


@pytest.mark.parametrize(
    "pattern",
    [
        "{service}.{namespace}.svc.cluster.local",
        "{service}.mesh.acme",
        "mesh.acme",
        "{labels['tier']}_x.example.org",
        "A.example.org",
    ],
)
def test_names_of_services_and_what_is_no_name_are_not_made(pattern: str) -> None:
    assert made([Alias(pattern, ())], SERVICE, reserved=RESERVED) == ()


def test_a_peer_cannot_give_itself_a_name_that_no_template_of_ours_makes() -> None:
    aliases = [Alias("{service}.{labels['tier']}.example.org", ())]
    hosts = ["reviews.any.example.org", "other.any.example.org", "www.example.com", "reviews.example.org"]
    assert admitted(aliases, SERVICE, hosts, reserved=RESERVED) == ("reviews.any.example.org",)
    assert admitted([], SERVICE, hosts, reserved=RESERVED) == ()


@pytest.mark.parametrize(
    "pattern", ["", "{oops}.x", "{labels[k]}.x", "{service", "service}", "UPPER.x", "a..b"]
)
def test_a_template_that_makes_no_name_is_told(pattern: str) -> None:
    assert fault(pattern)


def test_a_sound_template_is_not_told() -> None:
    assert fault("{labels['a.b/c']}.{annotations['d']}.{service}.{namespace}.example.org") == ""
