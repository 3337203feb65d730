"""Names of generated objects: readable where they can be, valid and unlike each other always."""

import re

import hypothesis.strategies as st
from hypothesis import given

from peerd.derive.generated_names import LOCAL, label_value, service_entry_name, workload_entry_name

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
names = st.one_of(labels, st.lists(labels, min_size=1, max_size=3).map(".".join))
anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300)


def test_plain_names_are_plain():
    """As users, tools and the commercial product know them."""
    assert service_entry_name("shop", "reviews") == "autogen.shop.reviews"
    assert service_entry_name("shop", "reviews", LOCAL) == "autogen.svc.shop.reviews"
    assert service_entry_name("shop", "reviews", "acme") == "autogen.acme.shop.reviews"
    uid = "autogen.west.shop.reviews.0123abcd"
    assert workload_entry_name(uid, "west", "shop", uid) == uid
    flat = workload_entry_name("west//Pod/shop/reviews-0", "west", "shop", "reviews-0")
    assert re.fullmatch(r"autogenflat\.west\.shop\.reviews-0\.[0-9a-f]{12}", flat)


def test_dots_do_not_make_two_services_one():
    """A segment `a` with service `b/c` is not namespace `a` with a ServiceEntry called `b.c`."""
    pairs = [("b", "c", "a"), ("a", "b.c", ""), ("b", "c", "mesh.a"), ("a.b", "c", "")]
    assert len({service_entry_name(*pair) for pair in pairs}) == len(pairs)


@given(st.lists(st.tuples(names, names, st.one_of(st.just(""), names)), max_size=8, unique=True))
def test_service_entries_have_valid_names_of_their_own(services):
    """Whatever peers call theirs."""
    made = [service_entry_name(*each) for each in services]
    assert len(set(made)) == len(services)
    for name in made:
        assert SUBDOMAIN.fullmatch(name)
        assert len(name) <= 253
        assert name.startswith("autogen.")
        assert LABEL_VALUE.fullmatch(label_value(name))


@given(st.lists(anything, min_size=1, max_size=6, unique=True))
def test_workload_entries_have_valid_names_of_their_own(clusters):
    """Cluster ids are any text, with upper case, slashes, or too long."""
    uids = [f"autogen.{cluster}.shop.reviews.0123abcd" for cluster in clusters]
    made = [workload_entry_name(uid, "c", "shop", uid) for uid in uids]
    assert len(set(made)) == len(uids)
    flat = [workload_entry_name(f"{cluster}//Pod/a/b", cluster, "a", "b") for cluster in clusters]
    assert len({*made, *flat}) == 2 * len(clusters)
    for name in (*made, *flat):
        assert SUBDOMAIN.fullmatch(name)
        assert len(name) <= 253


@given(st.lists(names, min_size=2, max_size=6, unique=True))
def test_label_values_tell_names_apart(found):
    """Two entries with one label value would share their endpoints."""
    assert len({label_value(name) for name in found}) == len(found)
