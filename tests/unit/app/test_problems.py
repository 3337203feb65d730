"""Problems of what users wrote: told once, shown while they last."""

from structlog.testing import capture_logs

from peerd.app.problems import Problems
from peerd.model.diagnostic import Diagnostic, Severity


def problem(name, message="is no address", **fields):
    return Diagnostic(f"Pod/shop/{name}", "status.podIP", message, "give an IP address", **fields)


def test_a_problem_is_logged_once_with_object_field_and_fix():
    """However often its place reports it again."""
    problems = Problems()
    with capture_logs() as logs:
        for _ in range(3):
            problems.replace("file/a.yaml", [problem("a", where="a.yaml")])
    assert logs == [
        {
            "event": "object_problem",
            "log_level": "error",
            "where": "a.yaml",
            "object": "Pod/shop/a",
            "field": "status.podIP",
            "problem": "is no address",
            "fix": "give an IP address",
        }
    ]


def test_a_warning_is_logged_as_one():
    problems = Problems()
    with capture_logs() as logs:
        problems.replace("x", [problem("a", severity=Severity.WARNING)])
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_what_a_place_reports_replaces_what_it_reported():
    """The new one is logged, the one that stays is not logged again, the one that is mended is gone."""
    problems = Problems()
    problems.replace("x", [problem("a"), problem("b")])
    with capture_logs() as logs:
        problems.replace("x", [problem("b"), problem("c")])
    assert [entry["object"] for entry in logs] == ["Pod/shop/c"]
    assert problems.present() == (problem("b"), problem("c"))


def test_a_place_that_reports_nothing_is_cleared_and_others_are_not():
    problems = Problems()
    problems.replace("x", [problem("a")])
    problems.replace("y", [problem("b")])
    problems.replace("x", ())
    assert problems.present() == (problem("b"),)


def test_a_problem_that_comes_back_is_logged_again():
    """For whoever looks at the log must see that it is there now."""
    problems = Problems()
    problems.replace("x", [problem("a")])
    problems.replace("x", ())
    with capture_logs() as logs:
        problems.replace("x", [problem("a")])
    assert len(logs) == 1


def test_what_is_present_is_sorted_and_named_once():
    """Two places may see one problem."""
    problems = Problems()
    problems.replace("y", [problem("b"), problem("a")])
    problems.replace("x", [problem("b")])
    assert problems.present() == (problem("a"), problem("b"))


def test_what_derivation_says_of_a_half_known_world_is_not_logged():
    """Only what is still so when all is known; other places speak at once, and so does it from then on."""
    problems = Problems()
    with capture_logs() as logs:
        problems.replace("API server", [problem("refused")])
        problems.replace("derive/x", [problem("a")])
        problems.replace("derive/y", [problem("b")])
        problems.replace("derive/x", ())
    assert [entry["object"] for entry in logs] == ["Pod/shop/refused"]
    assert problems.present() == (problem("b"), problem("refused"))
    with capture_logs() as logs:
        problems.complete()
        problems.replace("derive/y", [problem("b")])
        problems.replace("derive/z", [problem("c")])
    assert [entry["object"] for entry in logs] == ["Pod/shop/b", "Pod/shop/c"]
