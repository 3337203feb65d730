"""A TCP proxy that breaks connections in the ways networks do, also while they are open."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass

from peerd.transport.listening import stop_listening


@dataclass
class Faults:
    """What is wrong at the moment.

    `latency` delays each chunk; `bandwidth` is bytes a second; `black_hole` swallows what is sent and answers
    nothing, on connections that stay open; `truncate` closes the connection after so many bytes from the
    server; `refuse` ends new connections at once; `half_open` keeps our side open after the server's closed.
    """

    latency: float = 0.0
    bandwidth: int = 0
    black_hole: bool = False
    truncate: int | None = None
    refuse: bool = False
    half_open: bool = False


class FaultProxy:
    """Listens on a port of its own and passes everything to *target*, which may be exchanged."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.faults = Faults()
        self.address = ""
        self.accepted = 0
        self._knock = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def reset(self) -> None:
        """RST on every open connection."""
        for writer in self._open():
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def close_connections(self) -> None:
        """FIN on every open connection."""
        for writer in self._open():
            writer.close()

    async def until_accepted(self, count: int) -> None:
        """Wait until so many connections were made since the start."""
        async with self._knock:
            await self._knock.wait_for(lambda: self.accepted >= count)

    async def stop(self) -> None:
        assert self._server is not None
        await stop_listening(self._server)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _open(self) -> list[asyncio.StreamWriter]:
        return [writer for writer in self._writers if not writer.transport.is_closing()]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        async with self._knock:
            self.accepted += 1
            self._knock.notify_all()
        if self.faults.refuse:
            writer.transport.abort()
            return
        host, _, port = self.target.rpartition(":")
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(up_writer)
        for source, sink, from_server in ((reader, up_writer, False), (up_reader, writer, True)):
            task = asyncio.ensure_future(self._pump(source, sink, from_server=from_server))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := await source.read(16_384):
                faults = self.faults
                if faults.latency:
                    await asyncio.sleep(faults.latency)
                if faults.bandwidth:
                    await asyncio.sleep(len(chunk) / faults.bandwidth)
                if faults.black_hole:
                    continue
                if from_server and faults.truncate is not None:
                    chunk = chunk[: max(0, faults.truncate - passed)]
                    if not chunk:
                        break
                passed += len(chunk)
                sink.write(chunk)
                await sink.drain()
        if not (self.faults.half_open and from_server):
            sink.close()
