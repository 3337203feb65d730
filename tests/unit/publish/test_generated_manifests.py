"""Manifests say what is meant and nothing else, so that an API server has nothing to add to them."""

import msgspec
import pytest

from peerd.model.federation import Takeover
from peerd.model.generated import GeneratedPort, GeneratedServiceEntry, GeneratedWorkloadEntry
from peerd.model.kube.istio import ServiceEntry, WorkloadEntry
from peerd.publish.generated_manifests import manifest, order_of, ref_of, takeover_of

ENTRY = GeneratedServiceEntry("shop", "autogen.shop.reviews", "shop/reviews", ("reviews.shop.mesh.internal",))
REMOTE = GeneratedWorkloadEntry(
    namespace="shop",
    name="autogen.west.shop.reviews.0123abcd",
    cluster="west",
    gateway="istio-system/west",
    network="west-net",
    labels=(("app", "reviews"),),
)


def test_what_is_not_said_is_absent():
    """An empty field would be drift for ever, or refused."""
    tree = manifest(ENTRY)
    assert tree["metadata"]["annotations"] == {"peering.peerd.io/service": "shop/reviews"}
    assert tree["spec"].keys() == {"hosts", "location", "resolution", "workloadSelector"}
    spec = manifest(REMOTE)["spec"]
    assert spec == {"network": "west-net", "weight": 1}


def test_everything_carries_the_common_label():
    """By it an uninstall finds all of it (D36)."""
    for found in (ENTRY, REMOTE):
        assert manifest(found)["metadata"]["labels"]["peerd.io/generated"] == "true"


def test_entries_read_back_as_they_were_meant():
    """Field by field, through the records that derivation reads users' objects with."""
    ports = (GeneratedPort(80, "web", "HTTP", 8080), GeneratedPort(81, "more"))
    full = msgspec.structs.replace(
        ENTRY, ports=ports, selector=(("app", "reviews"),), subject_alt_names=("a",)
    )
    spec = msgspec.convert(manifest(full), ServiceEntry).spec
    assert [(port.number, port.name, port.protocol, port.target_port) for port in spec.ports] == [
        (80, "web", "HTTP", 8080), (81, "more", "", 0)
    ]  # fmt: skip
    assert (spec.hosts, spec.subject_alt_names) == (ENTRY.hosts, ("a",))
    assert spec.workload_selector is not None
    assert spec.workload_selector.labels == {"app": "reviews"}
    flat = msgspec.structs.replace(
        REMOTE, address="10.0.0.1", weight=3, locality="r/z", service_account="reviews", ports=(("web", 90),)
    )
    found = msgspec.convert(manifest(flat), WorkloadEntry)
    assert found.metadata.annotations.redirection == "enabled", "HBONE, or ztunnel would send plain text"
    assert (found.spec.address, found.spec.weight, found.spec.locality) == ("10.0.0.1", 3, "r/z")
    assert (found.spec.service_account, found.spec.ports) == ("reviews", {"web": 90})


@pytest.mark.parametrize("takeover", [None, Takeover(), Takeover(by_rule=True)])
def test_takeover_is_read_as_it_was_written(takeover):
    """The record that outlives the Service (D23)."""
    assert takeover_of(manifest(ENTRY, takeover)) == ("shop/reviews", takeover)


def test_keys_name_objects():
    """ServiceEntries come first and go last."""
    entry, remote = ref_of("ServiceEntry/shop/a.b"), ref_of("WorkloadEntry/shop/c")
    assert (str(entry), str(remote)) == ("ServiceEntry/shop/a.b", "WorkloadEntry/shop/c")
    assert order_of(entry) < order_of(remote)
