"""What a source tells reaches all who follow objects, and a cluster that was built anew is noticed."""

from peerd.app.intake import Intake, LineageWatch
from peerd.app.problems import Problems
from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.core import Namespace
from peerd.model.kube.meta import ObjectKey, ObjectMeta

SYSTEM = ObjectKey("", "istio-system")


def namespace(uid: str, key: ObjectKey = SYSTEM) -> ObjectChange:
    return ObjectChange("Namespace", key, Namespace(ObjectMeta(name=key.name, uid=uid)))


def test_everybody_hears_in_their_order() -> None:
    """Objects, own objects, the end of the beginning, problems."""
    problems = Problems()
    intake = Intake(problems)
    heard: list[object] = []
    intake.followers += [
        lambda changes: heard.append(("first", changes)),
        lambda _changes: heard.append("then"),
    ]
    intake.own_followers.append(heard.append)
    own = OwnChange("ServiceEntry", ObjectKey("shop", "autogen"), {})
    intake.apply([namespace("u")])
    intake.own([own])
    assert not intake.complete.is_set()
    intake.synced()
    intake.report("API server", (Diagnostic("a", "b", "c", "d"),))

    assert heard == [("first", [namespace("u")]), "then", [own]]
    assert intake.complete.is_set()
    assert len(problems.present()) == 1
    intake.report("API server", ())
    assert problems.present() == ()


def test_a_system_namespace_that_was_made_again_is_told() -> None:
    """Until the old one is back; its deletion alone, or another Namespace, is nothing."""
    problems = Problems()
    watch = LineageWatch(problems, "istio-system", "first")
    watch(
        [
            namespace("first"),
            namespace("other", ObjectKey("", "shop")),
            ObjectChange("Namespace", SYSTEM, None),
        ]
    )
    assert problems.present() == ()
    watch([namespace("second")])
    (problem,) = problems.present()
    assert problem.object == "Namespace/istio-system"
    assert "restart every replica" in problem.fix
    watch([namespace("first")])
    assert problems.present() == ()
