"""Roots of other trust domains follow the mesh configuration (decision D14)."""

import json

from structlog.testing import capture_logs

from peerd.ca import authority, pem
from peerd.model.changes import ObjectChange
from peerd.model.kube.core import ConfigMap, Namespace
from peerd.model.kube.meta import ObjectKey, ObjectMeta
from peerd.model.mesh import Settings
from peerd.serve.other_roots import OtherRoots
from tests.support.cas import NOW

ONE = pem.write_certificates(authority.make_root("one", NOW).certificate)
TWO = pem.write_certificates(authority.make_root("two", NOW).certificate)


def change(name: str = "istio", namespace: str = "istio-system", mesh: object = None) -> ObjectChange:
    text = mesh if isinstance(mesh, str) else json.dumps(mesh or {})
    made = ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data={"mesh": text})
    return ObjectChange("ConfigMap", ObjectKey(namespace, name), made)


def entries(*certificates: tuple[bytes, list[str]]) -> dict[str, object]:
    return {
        "caCertificates": [{"pem": text.decode(), "trustDomains": domains} for text, domains in certificates]
    }


def test_roots_are_told_apart_by_trust_domain() -> None:
    """One certificate for two domains, two for one; the first named is first."""
    roots = OtherRoots(Settings())

    roots.apply([change(mesh=entries((ONE, ["west", "north"]), (TWO, ["west"])))])

    assert set(roots.current()) == {"west", "north"}
    assert pem.read_certificates(roots.current()["west"]) == pem.read_certificates(ONE + TWO)
    assert pem.read_certificates(roots.current()["north"]) == pem.read_certificates(ONE)


def test_an_entry_without_trust_domains_speaks_for_nobody_else() -> None:
    """It would otherwise let one CA speak for every domain."""
    roots = OtherRoots(Settings())

    roots.apply([change(mesh=entries((ONE, [])))])

    assert roots.current() == {}


def test_the_revisions_own_configuration_wins() -> None:
    """And the plain one counts again when it is gone (decision D6)."""
    roots = OtherRoots(Settings(revision="canary"))
    roots.apply(
        [change(mesh=entries((ONE, ["west"]))), change("istio-canary", mesh=entries((TWO, ["west"])))]
    )

    assert pem.read_certificates(roots.current()["west"]) == pem.read_certificates(TWO)
    roots.apply([ObjectChange("ConfigMap", ObjectKey("istio-system", "istio-canary"), None)])
    assert pem.read_certificates(roots.current()["west"]) == pem.read_certificates(ONE)


def test_what_cannot_be_read_changes_nothing() -> None:
    """A text that is no YAML keeps the last good roots; one bad entry is told, the others count."""
    roots = OtherRoots(Settings())
    roots.apply([change(mesh=entries((ONE, ["west"])))])
    before = roots.current()

    roots.apply([change(mesh="{")])
    assert roots.current() == before
    with capture_logs() as logs:
        roots.apply([change(mesh=entries((ONE[:99], ["west"]), (b"", ["east"]), (TWO, ["north"])))])
    assert set(roots.current()) == {"north"}
    assert [each["field"] for each in logs] == ["caCertificates[0].pem", "caCertificates[1].pem"]


def test_other_objects_are_passed_over() -> None:
    """Other ConfigMaps, other namespaces, other kinds: the same object comes back."""
    roots = OtherRoots(Settings())
    before = roots.current()

    roots.apply(
        [
            change("other", mesh=entries((ONE, ["west"]))),
            change(namespace="shop", mesh=entries((ONE, ["west"]))),
            ObjectChange("Namespace", ObjectKey("", "istio"), Namespace()),
        ]
    )

    assert roots.current() is before
