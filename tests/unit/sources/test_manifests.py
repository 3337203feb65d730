"""Files become objects as an API server would return them, or one clear problem each."""

# ruff: noqa: E501 (a table of whole messages)

import pytest

from peerd import limits
from peerd.model.kube.meta import ObjectKey
from peerd.sources.manifests import Unreadable, parse


def read(text, path="m.yaml", modified=0.0):
    return parse(path, text.encode(), modified)


def one(text):
    manifest = read(text)
    assert manifest.diagnostics == ()
    (value,) = manifest.objects.values()
    return value


def problems(text, path="m.yaml"):
    return [str(problem) for problem in read(text, path).diagnostics]


def test_namespaced_kinds_default_to_namespace_default_and_cluster_scoped_ones_have_none():
    """As the API server does for the URL that was used."""
    text = "apiVersion: v1\nkind: {kind}\nmetadata: {{name: a{more}}}\nspec: {{clusterIP: None}}\n"
    assert list(read(text.format(kind="Service", more="")).objects) == [
        ("Service", ObjectKey("default", "a"))
    ]
    manifest = read(text.format(kind="Node", more=", namespace: stray"))
    assert list(manifest.objects) == [("Node", ObjectKey("", "a"))]


def test_missing_uid_and_creation_time_are_made_from_name_and_file_time():
    """Equal for equal names, also in another process; given ones stay."""
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"
    first = read(text, modified=86_400.0)
    (value,) = first.objects.values()
    assert value.metadata.creation_timestamp == "1970-01-02T00:00:00Z"
    assert value.metadata.uid == one(text).metadata.uid
    given = one(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, uid: u, creationTimestamp: 2024-01-01T00:00:00Z}"
    )
    assert (given.metadata.uid, given.metadata.creation_timestamp) == ("u", "2024-01-01T00:00:00Z")


def test_scalars_mean_what_they_mean_to_kubernetes():
    """Times stay text, `12:30` is no number, versions in quotes stay text."""
    labels = one(
        "apiVersion: v1\nkind: Namespace\n"
        'metadata: {name: a, labels: {at: 2024-01-01, t: 12:30, v: "1.0", o: "true", e: 1e}}\n'
    ).metadata.labels
    assert labels == {"at": "2024-01-01", "t": "12:30", "v": "1.0", "o": "true", "e": "1e"}


def test_null_is_absent():
    """`labels: null` and `labels:` are what kubectl writes for nothing."""
    value = one(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: null}\nspec:\nstatus: {podIP: 10.0.0.1}\n"
    )
    assert value.metadata.labels == {}
    assert value.spec.service_account_name == "default"


def test_items_of_a_typed_list_need_no_kind():
    """`kubectl get --raw` gives a PodList whose items carry neither apiVersion nor kind."""
    manifest = read(
        '{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "p", "namespace": "n"},'
        ' "status": {"podIP": "10.0.0.1"}}]}',
        path="m.json",
    )
    assert list(manifest.objects) == [("Pod", ObjectKey("n", "p"))]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n", "m.yaml: document 1: (whole document): is not an object; start it with apiVersion and kind"),
        ("kind: Pod\n", "m.yaml: document 1: apiVersion: is missing or not a string; write apiVersion as kubectl shows it"),
        ("apiVersion: v1\n", "m.yaml: document 1: kind: is missing or not a string; write kind as kubectl shows it"),
        ("apiVersion: v1\nkind: Pod\n", "m.yaml: Pod in document 1: metadata.name: is missing; name the object"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n",
            'm.yaml: Pod in document 1: metadata.name: is not a string; write it in quotes: "…"',
        ),
        (
            "apiVersion: v1\nkind: List\nitems: {}\n",
            "m.yaml: document 1: items: is not a list; write items as a list of objects",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: [7]\n",
            "m.yaml: document 1, items[0]: (whole document): is not an object; start it with apiVersion and kind",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: http}]}\n",
            "m.yaml: Service/default/s: spec.ports[0].port: is a string, not a whole number; write it as a whole number",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: s}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: s}\n",
            "m.yaml: Namespace/s: document 2: is in this file twice; the first one is used; remove one of them",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_fix(text, problem):
    """File, object or document, field, what is wrong, what to do."""
    assert problems(text) == [problem]


def test_a_mistake_leaves_the_other_documents_alone():
    """One broken document of three."""
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n"
    manifest = read(text % "a" + "---\nkind: 3\n---\n" + text % "b")
    assert [str(key) for _, key in manifest.objects] == ["a", "b"]
    assert len(manifest.diagnostics) == 1


@pytest.mark.parametrize(
    ("path", "raw", "message"),
    [
        ("m.yaml", b"a: [", r"is not valid YAML: line 2, column 1"),
        ("m.yaml", b"a: &x [*x, *y]", "is not valid YAML"),
        ("m.yaml", b"\xff\xfe\xfa", "is not valid YAML"),
        ("m.yaml", b"a: !!python/object:os.system {}", "is not valid YAML"),
        ("m.json", b'{"a": ', "is not valid JSON"),
        ("m.json", b"\xff", "is not valid JSON"),
    ],
)
def test_what_is_not_a_manifest_at_all_is_refused_whole(path, raw, message):
    """The caller keeps what it had."""
    with pytest.raises(Unreadable, match=message):
        parse(path, raw, 0.0)


def test_a_file_beyond_the_limit_is_refused_and_counted(monkeypatch):
    """The limit names its size and the fix."""
    small = limits.SOURCE_FILE_BYTES._replace(value=10)
    monkeypatch.setattr(limits, "SOURCE_FILE_BYTES", small)
    before = limits.hits(small)
    with pytest.raises(Unreadable, match="more than the 10 that are read; split it"):
        parse("m.yaml", b"#" * 11, 0.0)
    assert limits.hits(small) == before + 1


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "kind: Pod\nmetadata: &m {name: x, labels: *m}",
        "\n".join(["a0: &a0 x", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]),
    ],
)
def test_aliases_that_expand_without_end_are_refused_and_counted(text):
    """A few hundred bytes that mean billions of values, or a circle."""
    before = limits.hits(limits.SOURCE_ALIASES)
    with pytest.raises(Unreadable, match="has aliases that expand to far more than the file"):
        read(text)
    assert limits.hits(limits.SOURCE_ALIASES) == before + 1


def test_ordinary_aliases_are_fine():
    """Shared labels are common in manifests written by hand."""
    manifest = read(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: a, labels: &l {x: y}}}\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: b, labels: *l}}\n"
    )
    assert [value.metadata.labels for value in manifest.objects.values()] == [{"x": "y"}] * 2
