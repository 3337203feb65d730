"""Whatever is in a file, it becomes objects or problems that name the file, and never an exception."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.model.kube.kinds import KINDS
from peerd.sources.manifests import Unreadable, parse

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=8)
)
NAMES = st.sampled_from(
    """name namespace labels annotations uid metadata spec status items kind apiVersion ports port targetPort
    selector clusterIP clusterIPs podIP podIPs ip addresses value type listeners endpoints conditions hosts
    containers rules from source data mesh creationTimestamp""".split()  # noqa: SIM905 (a page of quotes)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)
OBJECTS = st.builds(
    lambda kind, body, metadata, named: {
        **body,
        "apiVersion": f"{kind.group}/{kind.versions[0]}".lstrip("/"),
        "kind": kind.name,
        "metadata": {**metadata, "name": "x"} if named else metadata,
    },
    st.sampled_from(KINDS),
    st.dictionaries(NAMES, TREES, max_size=5),
    st.dictionaries(NAMES, TREES, max_size=4),
    st.booleans(),
)


@given(
    st.one_of(OBJECTS, st.builds(lambda items: {"apiVersion": "v1", "kind": "List", "items": items}, TREES))
)
@settings(max_examples=400)
def test_any_tree_becomes_an_object_or_a_problem(tree):
    """As JSON and as YAML, which reads JSON; every problem names file, object, field and fix."""
    raw = msgspec.json.encode(tree)
    for path in ("m.json", "m.yaml"):
        try:
            manifest = parse(path, raw, 0.0)
        except Unreadable:
            assert path == "m.yaml"  # YAML knows fewer escapes than JSON
            continue
        for problem in manifest.diagnostics:
            assert problem.where == path
            assert problem.object
            assert problem.field
            assert problem.message
            assert problem.fix
        for (kind, key), value in manifest.objects.items():
            assert type(value).__name__ == kind
            assert value.key == key
            assert value.metadata.uid
            assert value.metadata.creation_timestamp


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_a_manifest_or_unreadable(raw):
    """A file is whatever somebody copied there."""
    for path in ("m.json", "m.yaml"):
        try:
            parse(path, raw, 0.0)
        except Unreadable:
            continue  # the one exception there is
