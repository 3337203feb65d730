"""Helper processes of a benchmark: they take one JSON command a line on stdin and answer with one a line."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
import uvloop

Command = dict[str, Any]


class Helper:
    """A process that runs `python -m MODULE ARGUMENTS`; `ask` waits for its answer.

    *nice* keeps load, which would be on other machines, from taking the processor from what is measured.
    """

    def __init__(self, module: str, *arguments: str, nice: int = 0) -> None:
        self._process = subprocess.Popen(
            ["nice", "-n", str(nice), sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def ask(self, op: str, **options: Any) -> Command:
        """Send a command and return its answer; RuntimeError where the helper died."""
        self.tell(op, **options)
        return self.answer()

    def tell(self, op: str, **options: Any) -> None:
        """Send a command; `answer` takes the answer later."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **options}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Command:
        """The answer to the oldest command."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a helper ended with {self._process.wait()}")
        found: Command = json.loads(line)
        return found

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def serve(handle: Callable[[Command], Awaitable[Command]]) -> None:
    """Run a helper until its stdin ends."""
    # stdout is for answers, and the log of what clients do here on purpose is nobody's.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 26)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            answer = await handle(json.loads(line))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        os._exit(0)  # streams in full flight are not this benchmark's business

    uvloop.run(run())


def usage() -> Command:
    """CPU seconds of this process, its resident bytes now and at most since `forget_peak`."""
    times = os.times()
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Vm"))
    return {
        "cpu": times.user + times.system,
        "rss": int(fields["VmRSS"].split()[0]) * 1024,
        "peak": int(fields["VmHWM"].split()[0]) * 1024,
    }


def forget_peak() -> None:
    """Begin a new measurement of the peak."""
    Path("/proc/self/clear_refs").write_text("5")
