"""`peerd serve` as a process: one event loop, signals, and an exit code."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from random import SystemRandom
from typing import Any

import structlog
import uvloop

from peerd.app.collector import settle
from peerd.app.parts import Parts, SystemClock
from peerd.app.peerd import Peerd
from peerd.model.config import ServeConfig
from peerd.sources.directory import DirectorySource

log = structlog.get_logger("peerd")


def run(config: ServeConfig) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0 after a drain.

    Raises:
        ConfigError, StateError, SourceError: it cannot serve as it is told to.
    """
    return uvloop.run(_serve(config))


async def _serve(config: ServeConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    stopping = asyncio.ensure_future(stop.wait())
    parts = await _unless(stopping, _parts(config))
    if parts is None:
        return 0
    peerd = Peerd(config, parts)
    try:
        await peerd.start()
        failing = asyncio.ensure_future(peerd.finished())
        thawing = asyncio.ensure_future(_freeze(peerd))
        await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, thawing):
            task.cancel()
        if failing.done():
            failing.result()
        failing.cancel()
        log.info("draining", seconds=config.drain_seconds)
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await peerd.stop(config.drain_seconds)
    log.info("stopped")
    return 0


async def _parts(config: ServeConfig) -> Parts:
    """The outside world; where it is an API server, once that has answered."""
    if not config.source.startswith("kube"):
        return Parts(DirectorySource(Path(config.source.removeprefix("dir:"))))
    from peerd.app.kube import connect  # only here: it is a world of its own

    random, clock = SystemRandom(), SystemClock()
    kube = await connect(config, clock, random)
    return Parts(kube.source(config, random), clock, random, kube=kube)


async def _unless(stopping: asyncio.Future[Any], doing: Coroutine[Any, Any, Parts]) -> Parts | None:
    """What *doing* gives, or None where *stopping* was first."""
    task = asyncio.ensure_future(doing)
    await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


async def _freeze(peerd: Peerd) -> None:
    """What the first sync made lives for ever: the collector need not look at it again."""
    await peerd.ready()
    _return_large_blocks()
    settle()


_M_MMAP_THRESHOLD = -3  # glibc's malloc.h
_LARGE = 128 * 1024  # glibc's own default


def _return_large_blocks() -> None:
    """Keep glibc from serving large blocks from the heap once it has seen one freed.

    It raises its threshold by itself, up to 32 MiB, unless it is set. Then every connection's buffers, of
    256 KiB and mostly never touched, lie among small ones and stay resident: 100 KiB more for each of
    thousands of peers.
    """
    import ctypes  # late: not needed to be ready

    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
    except (OSError, AttributeError):
        log.debug("malloc_not_tuned")  # another C library
