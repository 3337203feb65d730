"""What goes wrong between a client and an API server."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from random import Random

from peerd.kubeapi.base import ApiUnreachableError, Response


class Faults:
    """None; override what should happen."""

    async def before(self, method: str, path: str) -> Response | None:
        """Called before each request and stream: may wait, raise, or answer in the server's place."""

    def after(self, _method: str, _path: str, answer: Response) -> Response:
        """What becomes of the server's answer to a request: it may be lost (raise) though all was done."""
        return answer

    async def mangle(self, _path: str, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The lines of a watch as the client gets them."""
        async for line in lines:
            yield line


class Scripted(Faults):
    """What a test says, each once, in order, for paths that contain its text."""

    def __init__(self) -> None:
        self._answers: list[tuple[str, Response | Exception | float]] = []
        self._mangling: list[tuple[str, Callable[[bytes], list[bytes | Exception | float]]]] = []

    def answer(self, path: str, with_: Response | Exception | float, times: int = 1) -> None:
        """The next *times* requests of a path get an answer, an exception, or wait so many seconds."""
        self._answers += [(path, with_)] * times

    def line(self, path: str, becomes: Callable[[bytes], list[bytes | Exception | float]]) -> None:
        """The next line of a watch becomes these lines, waits or an end by exception."""
        self._mangling.append((path, becomes))

    async def before(self, _method: str, path: str) -> Response | None:
        for index, (text, answer) in enumerate(self._answers):
            if text in path:
                del self._answers[index]
                if isinstance(answer, Exception):
                    raise answer
                if isinstance(answer, Response):
                    return answer
                await asyncio.sleep(answer)
                return None
        return None

    async def mangle(self, path: str, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for line in lines:
            for step in self._becomes(path, line):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, bytes):
                    yield step
                else:
                    await asyncio.sleep(step)

    def _becomes(self, path: str, line: bytes) -> list[bytes | Exception | float]:
        for index, (text, becomes) in enumerate(self._mangling):
            if text in path:
                del self._mangling[index]
                return becomes(line)
        return [line]


class Chaos(Faults):
    """Everything, by chance, until it is `calm`. *rate* is the chance per request, a fifth of it per line."""

    requests: tuple[str, ...] = (
        "slow", "unreachable", "late", "429", "500", "503", "504", "410", "401", "403", "html", "cut"
    )  # fmt: skip
    lines: tuple[str, ...] = (
        "cut", "garbage", "silence", "twice", "again", "swapped", "broken", "ended", "410", "500", "unknown"
    )  # fmt: skip

    def __init__(self, random: Random, rate: float = 0.3) -> None:
        self._random = random
        self.rate = rate
        self.calm = False
        self.done: set[str] = set()
        """Which faults there have been."""

    async def before(self, _method: str, _path: str) -> Response | None:
        if self.calm or self._random.random() >= self.rate:
            return None
        fault = self._random.choice(self.requests)
        self.done.add(fault)
        match fault:
            case "slow":
                await asyncio.sleep(self._random.uniform(0, 20))
                return None
            case "unreachable":
                raise ApiUnreachableError("connection refused")
            case "late":
                await asyncio.sleep(self._random.uniform(0, 30))
                raise ApiUnreachableError("time-out")
            case "429":
                return Response(429, b"too many", retry_after=self._random.choice((0.0, 1.0, 5.0)))
            case "html":
                return Response(502, b"<html>bad gateway</html>")
            case "cut":
                return Response(200, b'{"metadata":{"resourceVersion":"7"},"items":[{"metad')
            case "410":
                return Response(410, status(410, "Expired", "too old resource version"))
            case _:
                return Response(int(fault), status(int(fault), "Failure", "by chance"))

    async def mangle(self, _path: str, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        held: bytes | None = None  # a line that is sent after the next one
        sent: list[bytes] = []
        async for line in lines:
            ends = b"initial-events-end" in line
            if held is not None and ends:
                yield held  # a list's end does not overtake its items: nothing could be proved by it then
                held = None
            if ends or self.calm or self._random.random() >= self.rate / 5:
                yield line
                sent = [*sent[-3:], line]
                if held is not None:
                    yield held
                    held = None
                continue
            if held is not None:
                yield held
                held = None
            fault = self._random.choice(self.lines)
            self.done.add(f"line {fault}")
            match fault:
                case "cut":
                    yield line[: len(line) // 2]
                    return
                case "garbage":
                    yield b"\xff\x00 no event"
                case "silence":
                    await asyncio.sleep(100_000)
                case "twice":
                    yield line
                    yield line
                case "again":
                    yield line
                    for each in sent:
                        yield each
                case "swapped":
                    held = line
                case "broken":
                    raise ApiUnreachableError("connection reset")
                case "ended":
                    return
                case "unknown":
                    yield b'{"type":"GREETING","object":{"metadata":{"name":"x"}}}'
                case _:
                    reason = "Expired" if fault == "410" else "InternalError"
                    yield error_event(int(fault), reason, "by chance")
                    return


def status(code: int, reason: str, message: str) -> bytes:
    """A `metav1.Status`."""
    return json.dumps(_status(code, reason, message)).encode()


def refused(verb: str, resource: str, group: str, namespace: str) -> bytes:
    """The Status of a 403 in the words of RBAC; *resource* is `plural/subresource`."""
    plural = resource.partition("/")[0]
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    return status(
        403,
        "Forbidden",
        f"{f'{plural}.{group}'.rstrip('.')} is forbidden:"
        f' User "system:serviceaccount:istio-system:peerd" cannot {verb} resource "{resource}"'
        f' in API group "{group}" {where}',
    )


def error_event(code: int, reason: str, message: str) -> bytes:
    """A watch's ERROR."""
    return json.dumps({"type": "ERROR", "object": _status(code, reason, message)}).encode()


def _status(code: int, reason: str, message: str) -> dict[str, object]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
