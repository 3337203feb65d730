"""`peerd serve` as a process: one event loop, signals, and an exit code."""

import asyncio
import contextlib
import signal
from pathlib import Path

import structlog
import uvloop

from peerd.app.collector import settle
from peerd.app.parts import Parts
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
    peerd = Peerd(config, Parts(DirectorySource(Path(config.source.removeprefix("dir:")))))
    try:
        await peerd.start()
        stopping = asyncio.ensure_future(stop.wait())
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
