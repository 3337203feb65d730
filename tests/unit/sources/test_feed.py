"""Changes become batches: one per turn of the loop, each key once, problems after the objects."""

import asyncio

from peerd.model.changes import OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.core import Namespace
from peerd.model.kube.meta import ObjectKey
from peerd.sources.feed import Feed
from tests.support.recorded_sink import RecordedSink
from tests.support.virtual import virtual

A, B = ObjectKey("", "a"), ObjectKey("", "b")
PROBLEM = Diagnostic("Namespace/a", "metadata", "is bad", "mend it")


async def test_what_is_put_in_one_turn_is_one_batch() -> None:
    """Of two changes of an object the later one."""
    sink = RecordedSink()
    feed = Feed(sink)
    task = asyncio.ensure_future(feed.run())
    feed.put("Namespace", A, Namespace())
    feed.put("Namespace", B, Namespace())
    feed.put("Namespace", A, None)
    await sink.until(lambda: bool(sink.batches))
    feed.put("Namespace", B, None)
    await sink.until(lambda: len(sink.batches) == 2)
    task.cancel()

    assert [[each.key for each in batch] for batch in sink.batches] == [[A, B], [B]]
    assert sink.objects == {}


@virtual
async def test_until_all_was_told_once_batches_are_larger() -> None:
    """What comes within milliseconds is one; afterwards nothing waits longer than a turn of the loop."""
    sink = RecordedSink()
    feed = Feed(sink)
    task = asyncio.ensure_future(feed.run())
    for number in range(100):
        feed.put("Namespace", ObjectKey("", f"n{number}"), Namespace())
        await asyncio.sleep(0.001)
    gathered = len(sink.batches)
    assert 1 <= gathered <= 2
    feed.synced()
    assert sink.at_sync is not None
    assert len(sink.at_sync) == 100

    await asyncio.sleep(1)  # it may have been gathering
    began = asyncio.get_running_loop().time()
    for number in range(5):
        feed.put("Namespace", ObjectKey("", f"n{number}"), None)
        await sink.until(lambda: len(sink.objects) == 99 - number)  # noqa: B023 (called at once)
    assert asyncio.get_running_loop().time() - began < 0.001
    task.cancel()


async def test_an_object_is_mended_before_its_problem_is_gone() -> None:
    """Whoever sees no problem sees the good object."""
    order: list[str] = []

    class Ordered(RecordedSink):
        def apply(self, changes):  # type: ignore[no-untyped-def]
            order.append("apply")
            super().apply(changes)

        def own(self, changes):  # type: ignore[no-untyped-def]
            order.append("own")
            super().own(changes)

        def report(self, where, diagnostics):  # type: ignore[no-untyped-def]
            order.append("report")
            super().report(where, diagnostics)

    feed = Feed(Ordered())
    feed.report("Namespace/a", (PROBLEM,))
    feed.report("Namespace/a", ())
    feed.put_own(OwnChange("ServiceEntry", A, {}))
    feed.put("Namespace", A, Namespace())
    feed.flush()
    feed.flush()

    assert order == ["apply", "own", "report"]


async def test_a_sink_that_fails_fails_the_source() -> None:
    """And not some callback whose exception nobody sees."""

    class Failing(RecordedSink):
        def apply(self, changes):  # type: ignore[no-untyped-def]
            raise RuntimeError(f"a bug with {len(changes)}")

    feed = Feed(Failing())
    task = asyncio.ensure_future(feed.run())
    feed.put("Namespace", A, Namespace())
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(result, RuntimeError)
