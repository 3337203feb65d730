"""A watched directory: what is in it reaches the sink, broken edits harm nothing (decision D7)."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from peerd.model.diagnostic import Severity
from peerd.sources.base import SourceError
from peerd.sources.directory import DirectorySource
from tests.support.stepping import SteppedTime

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{is: {label}}}}}\n"
REST = 0.35
"""More than the rest of 200 ms and the interval between two looks."""


class Sink:
    def __init__(self):
        self.objects = {}
        self.batches = []
        self.problems = {}
        self.events = []
        self.is_synced = asyncio.Event()

    def apply(self, changes):
        self.batches.append(list(changes))
        self.events.append("apply")
        for change in changes:
            name = f"{change.kind}/{change.key}"
            if change.object is None:
                del self.objects[name]
            else:
                self.objects[name] = change.object

    def synced(self):
        self.events.append("synced")
        self.is_synced.set()

    def report(self, where, diagnostics):
        self.problems[where] = diagnostics

    @property
    def all_problems(self):
        return [str(problem) for where in sorted(self.problems) for problem in self.problems[where]]

    def label(self, name):
        return self.objects[f"Namespace/{name}"].metadata.labels["is"]


class Watched:
    def __init__(self, root):
        self.root = root
        self.time = SteppedTime()
        self.sink = Sink()

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def namespace(self, path, name, label="a"):
        self.write(path, NAMESPACE.format(name=name, label=label))


@pytest.fixture
def watched(tmp_path):
    root = tmp_path / "manifests"
    root.mkdir()
    return Watched(root)


@asynccontextmanager
async def running(watched):
    source = DirectorySource(watched.root, clock=watched.time, sleep=watched.time.sleep)
    task = asyncio.create_task(source.run(watched.sink))
    await watched.time.settle()
    try:
        yield watched.sink
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def age(watched, seconds=3600.0):
    """Make every file look as if last changed long before the source started."""
    for path in watched.root.rglob("*"):
        if path.is_file():
            os.utime(path, (watched.time.time() - seconds,) * 2)


async def test_what_is_there_is_applied_at_once_and_then_synced(watched):
    """Files that rested need no wait: subdirectories, all three suffixes, JSON, Lists, several documents."""
    watched.namespace("a.yaml", "one")
    watched.namespace("deep/er/b.yml", "two")
    watched.write("c.json", '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "three"}}')
    watched.write(
        "d.yaml",
        "---\n# nothing\n---\n"
        + NAMESPACE.format(name="four", label="a")
        + "---\napiVersion: v1\nkind: List\nitems:\n"
        + "- {apiVersion: v1, kind: Namespace, metadata: {name: five}}\n",
    )
    watched.write("ignored.txt", "nothing")
    watched.namespace(".hidden.yaml", "hidden")
    watched.namespace("..data/e.yaml", "hidden too")
    age(watched)
    async with running(watched) as sink:
        assert sorted(sink.objects) == [f"Namespace/{n}" for n in ("five", "four", "one", "three", "two")]
        assert sink.events == ["apply", "synced"]
        assert sink.all_problems == []


async def test_an_empty_directory_is_synced(watched):
    """Nothing is there is also an answer."""
    async with running(watched) as sink:
        assert sink.events == ["synced"]


async def test_synced_waits_for_files_that_were_just_written(watched):
    """A start in the middle of a copy must not serve half of it."""
    watched.namespace("a.yaml", "one")
    async with running(watched) as sink:
        # The clock of the test is behind the file's time: it counts as just changed.
        assert sink.events == []
        await watched.time.advance(REST)
        assert sink.events == ["apply", "synced"]


async def test_a_file_that_cannot_be_parsed_does_not_hold_up_the_start(watched):
    """Its diagnostic is there, the others are served."""
    watched.write("a.yaml", "{")
    watched.namespace("b.yaml", "one")
    age(watched)
    async with running(watched) as sink:
        assert sink.events == ["apply", "synced"]
        assert len(sink.all_problems) == 1


async def test_an_edit_shows_within_a_second(watched):
    """After 200 ms of rest and one look."""
    watched.namespace("a.yaml", "one", "before")
    age(watched)
    async with running(watched) as sink:
        watched.namespace("a.yaml", "one", "after")
        await watched.time.advance(0.15)
        assert sink.label("one") == "before"
        await watched.time.advance(0.25)
        assert sink.label("one") == "after"


async def test_a_file_that_never_rests_is_read_a_second_after_its_first_change(watched):
    """And once more when it rests, with its last content."""
    watched.namespace("a.yaml", "one", "before")
    age(watched)
    async with running(watched) as sink:
        for number in range(8):
            watched.namespace("a.yaml", "one", f"n{number}")
            await watched.time.advance(0.1)
            assert sink.label("one") == "before"
        for number in range(8, 13):
            watched.namespace("a.yaml", "one", f"n{number}")
            await watched.time.advance(0.1)
        assert sink.label("one") not in {"before", "n12"}
        await watched.time.advance(REST)
        assert sink.label("one") == "n12"


async def test_only_objects_that_changed_are_told(watched):
    """Rewriting a file with the same objects says nothing."""
    watched.write(
        "a.yaml", NAMESPACE.format(name="one", label="x") + "---\n" + NAMESPACE.format(name="two", label="x")
    )
    age(watched)
    async with running(watched) as sink:
        watched.write(
            "a.yaml",
            NAMESPACE.format(name="one", label="x") + "---\n" + NAMESPACE.format(name="two", label="y"),
        )
        await watched.time.advance(REST)
        assert [[str(change.key) for change in batch] for batch in sink.batches[1:]] == [["two"]]


async def test_deleting_a_file_removes_its_objects_after_a_rest(watched):
    """An editor that writes by delete and create removes nothing in between."""
    watched.namespace("a.yaml", "one", "before")
    age(watched)
    async with running(watched) as sink:
        (watched.root / "a.yaml").unlink()
        await watched.time.advance(0.1)
        watched.namespace("a.yaml", "one", "after")
        await watched.time.advance(REST)
        assert sink.label("one") == "after"
        (watched.root / "a.yaml").unlink()
        await watched.time.advance(REST)
        assert sink.objects == {}


async def test_a_broken_edit_keeps_the_last_good_objects(watched):
    """The diagnostic names file, objects, line and fix, and goes when the file is mended."""
    watched.namespace("a.yaml", "one", "good")
    age(watched)
    async with running(watched) as sink:
        watched.write("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: one\n")
        await watched.time.advance(REST)
        assert sink.label("one") == "good"
        (problem,) = sink.all_problems
        assert problem.startswith(
            f"{watched.root}/a.yaml: Namespace/one: (whole file): is not valid YAML: line 4"
        )
        assert problem.endswith("its last good objects stay; mend the file")
        watched.namespace("a.yaml", "one", "mended")
        await watched.time.advance(REST)
        assert sink.label("one") == "mended"
        assert sink.all_problems == []


async def test_one_bad_object_keeps_its_last_good_state_and_the_rest_of_the_file_goes_on(watched):
    """As an API server refuses one object and takes the others."""

    def both(one, two):
        return NAMESPACE.format(name="one", label=one) + "---\n" + NAMESPACE.format(name="two", label=two)

    watched.write("a.yaml", both("good", "before"))
    age(watched)
    async with running(watched) as sink:
        watched.write("a.yaml", both("true", "after"))
        await watched.time.advance(REST)
        assert (sink.label("one"), sink.label("two")) == ("good", "after")
        (problem,) = sink.all_problems
        assert problem == (
            f"{watched.root}/a.yaml: Namespace/one: metadata.labels[is]: is true or false, not a string; "
            'write it in quotes: "…"'
        )


@pytest.mark.parametrize("keep", [0, 1, 20, 60, 100])
async def test_a_truncated_file_keeps_its_last_good_objects(watched, keep):
    """Also where what is left is valid YAML."""
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels:\n    app: web\n"
        "spec: {}\nstatus:\n  podIP: 10.0.0.1\n"
    )
    watched.write("a.yaml", pod)
    age(watched)
    async with running(watched) as sink:
        before = dict(sink.objects)
        watched.write("a.yaml", pod[:keep])
        await watched.time.advance(REST)
        assert sink.objects == before
        assert "its last good objects stay" in sink.all_problems[0]


async def test_taking_whole_lines_off_the_end_is_an_edit(watched):
    """A document removed, or a last line without its newline, is what the user meant."""
    first = NAMESPACE.format(name="one", label="a")
    watched.write("a.yaml", first + "---\n" + NAMESPACE.format(name="two", label="a"))
    age(watched)
    async with running(watched) as sink:
        watched.write("a.yaml", first.rstrip("\n"))
        await watched.time.advance(REST)
        assert sorted(sink.objects) == ["Namespace/one"]
        assert sink.all_problems == []


async def test_the_same_object_in_two_files_is_named_and_the_first_file_wins(watched):
    """When the first file goes, the second one's object takes its place without a gap."""
    watched.namespace("a.yaml", "one", "a")
    watched.namespace("b.yaml", "one", "b")
    age(watched)
    async with running(watched) as sink:
        assert sink.label("one") == "a"
        (problem,) = sink.all_problems
        assert problem == (
            f"{watched.root}/b.yaml: Namespace/one: metadata.name: is also in {watched.root}/a.yaml, "
            "which counts because it is first by name; remove one of the two"
        )
        (watched.root / "a.yaml").unlink()
        await watched.time.advance(REST)
        assert sink.label("one") == "b"
        assert all(change.object is not None for batch in sink.batches for change in batch)
        assert sink.all_problems == []


async def test_an_unknown_kind_is_said_once_and_harms_nothing(watched):
    """Deployments stand beside Pods in most directories."""
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d%d, namespace: n}\n"
    watched.write("a.yaml", deployment % 1 + "---\n" + deployment % 2)
    watched.write("b.yaml", deployment % 3 + "---\n" + NAMESPACE.format(name="one", label="a"))
    age(watched)
    async with running(watched) as sink:
        assert list(sink.objects) == ["Namespace/one"]
        (problem,) = [p for reported in sink.problems.values() for p in reported]
        assert problem.severity is Severity.WARNING
        assert (problem.object, problem.where) == ("Deployment/n/d1", f"{watched.root}/a.yaml")


async def test_an_edit_makes_no_object_younger(watched):
    """A made-up creation time is that of the first sight; the oldest wins conflicts between clusters."""
    watched.namespace("a.yaml", "one", "x")
    age(watched)
    async with running(watched) as sink:
        first = sink.objects["Namespace/one"].metadata
        assert first.creation_timestamp == "2023-11-14T21:13:20Z"
        watched.namespace("a.yaml", "one", "y")
        await watched.time.advance(REST)
        second = sink.objects["Namespace/one"].metadata
        assert (second.creation_timestamp, second.uid) == (first.creation_timestamp, first.uid)


async def test_a_directory_that_disappears_deletes_nothing(watched):
    """Unmounted is not emptied; the problem is shown until it is back."""
    watched.namespace("a.yaml", "one", "before")
    age(watched)
    async with running(watched) as sink:
        watched.root.rename(watched.root.with_name("away"))
        await watched.time.advance(2.0)
        assert sink.label("one") == "before"
        assert (
            "cannot be listed: No such file or directory; the last good objects stay" in sink.all_problems[0]
        )
        watched.root.with_name("away").rename(watched.root)
        await watched.time.advance(REST)
        assert sink.all_problems == []


async def test_links_to_directories_are_followed_but_not_in_circles(watched):
    """Mounted ConfigMaps are links."""
    watched.namespace("real/a.yaml", "one")
    (watched.root / "real" / "round").symlink_to(watched.root, target_is_directory=True)
    (watched.root / "dangling.yaml").symlink_to("nowhere")
    age(watched)
    async with running(watched) as sink:
        assert list(sink.objects) == ["Namespace/one"]
        assert "synced" in sink.events


async def test_a_large_file_is_parsed_beside_the_loop(watched):
    """Streams and heartbeats go on meanwhile; the result is the same."""
    text = "---\n".join(NAMESPACE.format(name=f"n{number}", label="a") for number in range(2000))
    watched.write("big.yaml", text)
    age(watched)
    async with running(watched) as sink:
        await sink.is_synced.wait()
        assert len(sink.objects) == 2000


@pytest.mark.parametrize("name", ["missing", "file"])
async def test_a_source_that_is_no_directory_is_refused(watched, tmp_path, name):
    """One sentence naming flag, value and fix."""
    (tmp_path / "file").write_text("")
    source = DirectorySource(tmp_path / name)
    with pytest.raises(SourceError, match=rf"--source dir:.*/{name}: cannot be read: .*; name a directory"):
        await source.run(watched.sink)
