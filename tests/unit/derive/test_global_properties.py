"""Two clusters under random histories: what is served follows from what there is, not from how it came."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.model.changes import Change
from peerd.model.federation import Freshness
from tests.support.clusters import Cluster, gone, namespace, pod, remote_gateway, service, system

LABELS: tuple[dict[str, str], ...] = (
    {},
    {"solo.io/service-scope": "global"},
    {"solo.io/service-scope": "global-only"},
    {"solo.io/service-scope": "cluster"},
    {"istio.io/global": "true"},
    {"solo.io/service-takeover": "true"},
)
GATEWAYS: tuple[tuple[str, ...], ...] = (("198.51.100.20",), ("198.51.100.20", "198.51.100.21"), ())

_services = st.builds(
    service,
    st.sampled_from(["a", "b"]),
    st.sampled_from(LABELS),
    ports=st.sampled_from([(80,), (80, 90)]),
    created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
)
_pods = st.builds(
    lambda number, app, ready, ambient: pod(
        f"p{number}", app, f"10.0.0.{number + 1}", ready=ready, ambient=ambient
    ),
    st.integers(0, 3),
    st.sampled_from(["a", "b"]),
    st.booleans(),
    st.booleans(),
)
_gone = st.one_of(
    st.builds(lambda name: gone("Service", "shop", name), st.sampled_from(["a", "b"])),
    st.builds(lambda number: gone("Pod", "shop", f"p{number}"), st.integers(0, 3)),
)
_namespaces = st.builds(lambda labels: namespace("shop", labels), st.sampled_from(LABELS))
_gateways = st.builds(
    lambda addresses, allowed: remote_gateway(
        "peer", "west", *addresses, annotations={"peering.peerd.io/allow-takeover": "true"} if allowed else {}
    ),
    st.sampled_from(GATEWAYS),
    st.booleans(),
)
_objects = st.one_of(_services, _pods, _gone, _namespaces)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("east"), st.one_of(_objects, _gateways)),
        st.tuples(st.just("west"), _objects),
        st.tuples(st.just("sync"), st.sampled_from(list(Freshness))),
    ),
    max_size=14,
)


class Kept:
    """The objects that a history leaves."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, Any], Change] = {}

    def note(self, change: Any) -> None:
        if change.object is None:
            self.objects.pop((change.kind, change.key), None)
        else:
            self.objects[change.kind, change.key] = change


@settings(deadline=None, max_examples=60)
@given(_steps, st.sampled_from(list(Freshness)))
def test_any_history_of_two_clusters_gives_what_a_fresh_start_gives(
    steps: list[tuple[str, Any]], freshness: Freshness
) -> None:
    """`Cluster` holds all that is served against ztunnel's rules after every step."""
    east, west = Cluster("east", [system("east")]), Cluster("west", [system("west")])
    kept = {"east": Kept(), "west": Kept()}
    for where, what in steps:
        if where == "sync":
            east.pull("peer", west, what)
        else:
            {"east": east, "west": west}[where].apply([what])
            kept[where].note(what)
    east.pull("peer", west, freshness)
    fresh_west = Cluster("west", [*reversed(kept["west"].objects.values()), system("west")])
    fresh_east = Cluster("east")
    fresh_east.pull("peer", fresh_west, freshness)
    fresh_east.apply([*reversed(kept["east"].objects.values()), system("east")])
    assert fresh_west.addresses == west.addresses
    assert fresh_west.exports == west.exports
    assert fresh_east.addresses == east.addresses
    assert fresh_east.exports == east.exports
    assert fresh_east.diagnostics == east.diagnostics
    assert fresh_east.wanted == east.wanted
