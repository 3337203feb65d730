"""Which Pods run where, from the object stream."""

from hypothesis import given
from hypothesis import strategies as st

from peerd.model.changes import ImportChange, ObjectChange
from peerd.model.kube.core import Namespace, Pod, PodSpec, PodStatus
from peerd.model.kube.meta import ObjectKey, ObjectMeta
from peerd.serve.pods import PodFacts, PodIndex


def change(name: str, node: str, account: str, phase: str = "Running", uid: str = "u") -> ObjectChange:
    key = ObjectKey("shop", name)
    pod = Pod(
        metadata=ObjectMeta(name=name, namespace="shop", uid=uid),
        spec=PodSpec(node_name=node, service_account_name=account),
        status=PodStatus(phase=phase),
    )
    return ObjectChange("Pod", key, pod)


def gone(name: str) -> ObjectChange:
    return ObjectChange("Pod", ObjectKey("shop", name), None)


def test_a_pod_is_known_by_name_node_and_account() -> None:
    """The account is `default` where the Pod names none, as the API server fills in."""
    index = PodIndex()

    index.apply([change("a", "n1", "reviews"), change("b", "n1", "")])

    assert index.pod("shop", "a") == PodFacts("u", "n1", "reviews", failed=False)
    assert index.pod("shop", "c") is None
    assert index.runs("n1", "shop", "reviews")
    assert index.runs("n1", "shop", "default")
    assert not index.runs("n2", "shop", "reviews")
    assert not index.runs("n1", "other", "reviews")


def test_a_failed_pod_does_not_run_and_the_last_one_counts() -> None:
    """Two Pods of one account: it runs there until the second is gone."""
    index = PodIndex()
    index.apply(
        [change("a", "n1", "reviews"), change("b", "n1", "reviews"), change("c", "n2", "reviews", "Failed")]
    )

    assert not index.runs("n2", "shop", "reviews")
    index.apply([gone("a")])
    assert index.runs("n1", "shop", "reviews")
    index.apply([change("b", "n1", "reviews", "Failed")])
    assert not index.runs("n1", "shop", "reviews")
    assert index.pod("shop", "b") == PodFacts("u", "n1", "reviews", failed=True)


def test_everything_but_pods_is_passed_over() -> None:
    """The same batch that derivation gets."""
    index = PodIndex()

    index.apply(
        [
            ObjectChange("Namespace", ObjectKey("", "shop"), Namespace()),
            ImportChange(ObjectKey("a", "b"), "shop/x", None),
            gone("never-seen"),
        ]
    )

    assert index.pod("", "shop") is None


_changes = st.lists(
    st.one_of(
        st.builds(
            change,
            st.sampled_from("abc"),
            st.sampled_from(["", "n1", "n2"]),
            st.sampled_from(["r", "s"]),
            st.sampled_from(["Running", "Failed", "Pending"]),
        ),
        st.builds(gone, st.sampled_from("abc")),
    ),
    max_size=30,
)


@given(_changes)
def test_the_index_equals_a_scan(changes: list[ObjectChange]) -> None:
    """Whatever the order of puts, moves, failures and deletions."""
    index = PodIndex()
    pods: dict[ObjectKey, Pod] = {}
    for each in changes:
        index.apply([each])
        if isinstance(each.object, Pod):
            pods[each.key] = each.object
        else:
            pods.pop(each.key, None)

    for node in ("", "n1", "n2"):
        for account in ("r", "s"):
            scan = any(
                pod.spec.node_name == node
                and pod.spec.service_account_name == account
                and pod.status.phase != "Failed"
                for pod in pods.values()
            )
            assert index.runs(node, "shop", account) is scan
