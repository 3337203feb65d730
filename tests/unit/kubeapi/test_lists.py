"""What an API server sends, read as far as following needs it."""

import json

import pytest

from peerd.kubeapi.lists import EXPIRED, Event, GarbledError, Head, order, read_event, read_page
from peerd.model.kube.meta import ObjectKey

POD = {
    "kind": "Pod",
    "message": 7,  # fields of a Status, of any type, on objects that are none
    "code": "x",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "u1",
        "resourceVersion": "12",
        "annotations": {"other": "y"},
    },
    "spec": {},
}


def line(type_: str, tree: object) -> bytes:
    return json.dumps({"type": type_, "object": tree}).encode()


@pytest.mark.parametrize("type_", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_names_its_object_and_version(type_: str) -> None:
    """And nothing else is read."""
    assert read_event(line(type_, POD)) == Event(type_, Head(ObjectKey("shop", "web"), "u1", "12"))


def test_an_object_of_the_cluster_has_no_namespace() -> None:
    """Absent or null."""
    for metadata in ({"name": "n"}, {"name": "n", "namespace": None}):
        assert read_event(line("ADDED", {"metadata": metadata})).head.key == ObjectKey("", "n")


def test_a_bookmark_has_a_version_and_one_of_them_ends_the_beginning() -> None:
    """By its annotation."""
    plain = read_event(line("BOOKMARK", {"metadata": {"resourceVersion": "9", "annotations": None}}))
    assert (plain.head.version, plain.ends) == ("9", False)
    ends = {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}
    assert read_event(line("BOOKMARK", {"metadata": ends})).ends


@pytest.mark.parametrize(
    ("status", "code", "retry_after"),
    [
        ({"code": 410, "reason": "Expired", "message": "too old"}, 410, 0.0),
        ({"reason": "Gone"}, EXPIRED, 0.0),
        ({"code": 429, "details": {"retryAfterSeconds": 3}}, 429, 3.0),
        ({}, 500, 0.0),
    ],
)
def test_an_error_is_a_status(status: dict[str, object], code: int, retry_after: float) -> None:
    """Its code, or what its reason means, and how long to wait."""
    event = read_event(line("ERROR", {"kind": "Status", "metadata": {}, **status}))
    assert (event.type, event.code, event.retry_after) == ("ERROR", code, retry_after)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff\x00",
        b"<html>",
        b"{}",
        b"[]",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":{}}',
        b'{"type":"ADDED","object":{"metadata":{"name":""}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":7}}}',
        b'{"type":"GREETING","object":{"metadata":{"name":"x"}}}',
        line("ADDED", POD)[:-9],
    ],
)
def test_what_is_no_event_is_garbled(garbage: bytes) -> None:
    """Cut short, of another shape, of an unknown type."""
    with pytest.raises(GarbledError):
        read_event(garbage)


def test_a_page_has_its_objects_and_where_it_goes_on() -> None:
    """Items stay JSON."""
    body = {"metadata": {"resourceVersion": "30", "continue": "next"}, "items": [POD]}
    page = read_page(json.dumps(body).encode())
    assert (page.version, page.after) == ("30", "next")
    ((head, raw),) = page.items
    assert head == Head(ObjectKey("shop", "web"), "u1", "12")
    assert json.loads(bytes(raw)) == POD


def test_a_page_may_be_empty() -> None:
    """As null, too, which Go makes of an empty slice."""
    for items in ([], None):
        assert (
            read_page(json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}).encode()).items == ()
        )


@pytest.mark.parametrize(
    "garbage", [b"", b"<html>", b'{"items":[]}', b'{"metadata":{},"items":[]}', b'{"metadata":{"res']
)
def test_what_is_no_list_is_garbled(garbage: bytes) -> None:
    """Or a proxy's error page would look like an empty cluster."""
    with pytest.raises(GarbledError):
        read_page(garbage)


def test_versions_are_compared_as_numbers() -> None:
    """And not at all where they are none."""
    assert order("9") < order("10")
    assert order("") == order("x") == order("-1") == 0
