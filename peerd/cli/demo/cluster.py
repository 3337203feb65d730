"""One cluster of the demo: a directory of manifests and a `peerd serve` process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peerd.ca import authority, tokens
from peerd.cli.demo.errors import DemoError

STOP_SECONDS = 12.0
_ZTUNNEL_UIDS = {
    "east": "e0000000-0000-4000-8000-000000000001",
    "west": "a0000000-0000-4000-8000-000000000001",
}
"""As manifests/*/ztunnel.yaml says."""


class Cluster:
    """Where one cluster lives, and its process.

    Args:
        name: the cluster id.
        root: a directory of its own, with `manifests` in it.
        ca_dir: what `peerd certs cluster` made.
        ports: `xds`, `peer`, `http`, `plaintext`, `gateway`, and the gateway's `health` and `stats`.
        command: what is started in place of `peerd serve`.
    """

    def __init__(
        self, name: str, root: Path, ca_dir: Path, ports: dict[str, int], command: Sequence[str]
    ) -> None:
        self.name = name
        self.root = root
        self.ca_dir = ca_dir
        self.ports = ports
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._issuer = tokens.make_issuer()
        authority.write_new(root / "tokens", tokens.issuer_files(self._issuer))

    @property
    def manifests(self) -> Path:
        """The directory that its peerd watches."""
        return self.root / "manifests"

    @property
    def log(self) -> Path:
        """What its peerd wrote."""
        return self.root / "peerd.log"

    @property
    def pid(self) -> int:
        """The process id, 0 while it is stopped."""
        return self._process.pid if self._process is not None else 0

    def token(self) -> str:
        """A token of the ztunnel on the first node, bound to its Pod."""
        return tokens.service_account_token(
            self._issuer,
            "istio-system",
            "ztunnel",
            time.time(),
            pod_name="ztunnel-1",
            pod_uid=_ZTUNNEL_UIDS.get(self.name, ""),
        )

    def operator_token(self) -> str:
        """A token that may look at debug views: of the system namespace's default account, as istioctl's."""
        return self.account_token("default")

    def account_token(self, account: str) -> str:
        """A token of an account of the system namespace."""
        return tokens.service_account_token(self._issuer, "istio-system", account, time.time())

    def arguments(self) -> list[str]:
        """The flags of its `peerd serve`."""
        return [
            f"--source=dir:{self.manifests}",
            f"--cluster-id={self.name}",
            "--trust-domain=cluster.local",
            "--system-namespace=istio-system",
            f"--xds-addr=127.0.0.1:{self.ports['xds']}",
            f"--peer-addr=127.0.0.1:{self.ports['peer']}",
            f"--http-addr=127.0.0.1:{self.ports['http']}",
            f"--gateway-addr=127.0.0.1:{self.ports['gateway']}",
            f"--insecure-plaintext-addr=127.0.0.1:{self.ports['plaintext']}",
            f"--ca-dir={self.ca_dir}",
            f"--state-dir={self.root / 'state'}",
            f"--jwks-file={self.root / 'tokens' / 'jwks.json'}",
            f"--token-issuer={tokens.ISSUER}",
            "--log-format=json",
        ]

    async def start(self) -> None:
        """Start the process; it is not ready yet."""
        with self.log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *self.arguments(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is the demo's to handle, and --keep outlives it
                )
            except OSError as error:
                raise DemoError(f"{self.name}: cannot start {self._command[0]}: {error.strerror}") from error

    async def stop(self) -> int:
        """SIGTERM, then wait; returns the exit code. A process that does not drain in time is killed."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise DemoError(f"{self.name}: did not stop within {STOP_SECONDS:.0f} s of SIGTERM") from None

    async def until_ready(self, seconds: float) -> None:
        """Wait until `/ready` says 200."""
        reason = "nothing listens"
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self.check_running()
                    with contextlib.suppress(OSError):
                        status, body = await self._get("/ready", "")
                        if status == 200:
                            return
                        reason = body.decode("utf-8", "replace").strip()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DemoError(
                f"{self.name}: not ready within {seconds:.0f} s: {reason}{self.last_words()}"
            ) from None

    def check_running(self) -> None:
        """Raise DemoError where the process has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise DemoError(
                f"{self.name}: peerd serve ended with code {self._process.returncode}{self.last_words()}"
            )

    def last_words(self) -> str:
        """The last lines of the log, for an error message."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").splitlines()[-3:]
            if lines:
                return "; its log ends with:\n  " + "\n  ".join(line[:300] for line in lines)
        return ""

    async def check_certificate(self, roots: bytes) -> None:
        """Make a TLS connection to the xDS port with *roots*, so that a wrong CA is told as such."""
        context = ssl.create_default_context(cadata=roots.decode("ascii"))
        context.check_hostname = False
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.ports["xds"], ssl=context)
        except ssl.SSLCertVerificationError as error:
            raise DemoError(
                f"{self.name}: wrong CA: its certificate is not from the demo's root "
                f"({error.verify_message}); look at its --ca-dir"
            ) from error
        except OSError as error:
            raise DemoError(f"{self.name}: no TLS on its xDS port: {error}") from error
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def debug(self, view: str) -> Any:
        """A debug view, asked for with an operator's token."""
        try:
            status, body = await self._get(f"/debug/{view}", self.operator_token())
        except OSError as error:
            raise DemoError(f"{self.name}: /debug/{view} cannot be read: {error}") from error
        if status != 200:
            text = body.decode("utf-8", "replace").strip()
            raise DemoError(f"{self.name}: /debug/{view} answered {status}: {text}")
        return json.loads(body)

    async def answers(self, port: int, path: str) -> bool:
        """Whether something of this cluster on *port* answers 200."""
        try:
            return (await self._get(path, "", port))[0] == 200
        except OSError:
            return False

    async def _get(self, path: str, token: str, port: int = 0) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.ports["http"])
        try:
            authorization = f"Authorization: Bearer {token}\r\n" if token else ""
            host = f"Host: {self.name}\r\nConnection: close\r\n"
            writer.write(f"GET {path} HTTP/1.1\r\n{host}{authorization}\r\n".encode())
            async with asyncio.timeout(10):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        except TimeoutError as error:
            raise OSError(f"no answer to {path} within 10 s") from error
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        try:
            return int(head.split(b" ", 2)[1]), body
        except (IndexError, ValueError) as error:
            raise OSError("the answer is not HTTP") from error
