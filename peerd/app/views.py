"""What one peerd shows of itself: `/ready`, `/metrics`, `/debug` and the debug types over xDS."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from peerd.app.access import DebugAccess
from peerd.ca.bundle import CaBundle
from peerd.ca.rotation import root_expiry
from peerd.model.config import ConfigError
from peerd.observe import debug
from peerd.observe.http import HttpServer
from peerd.observe.snapshot import CaView, Snapshot
from peerd.resources.store import ResourceStore
from peerd.transport.address import split_address

if TYPE_CHECKING:
    from peerd.observe.metrics import Metrics

_VIEWS: Mapping[str, Callable[[Snapshot], object]] = {
    "": debug.overview,
    "overview": debug.overview,
    "peers": debug.peers,
    "syncz": debug.syncz,
    "connections": debug.connections,
    "diagnostics": debug.diagnostics,
}


class Views:
    """Renders *snapshot*, taken anew for each view, and the *store*'s content.

    *not_ready* says why the process does not serve yet; empty where it does.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot], store: ResourceStore, not_ready: Callable[[], str]
    ) -> None:
        self._snapshot = snapshot
        self._not_ready = not_ready
        self._store = store
        self._http: HttpServer | None = None
        self._metrics: Metrics | None = None

    def page(self, name: str, _argument: str) -> bytes | None:
        """One debug type's JSON; None where there is no such view."""
        view = _VIEWS.get(name)
        return None if view is None else msgspec.json.encode(self._view(view))

    async def serve(self, address: str, access: DebugAccess) -> str:
        """Bind `--http-addr`; returns what was bound, raises ConfigError."""
        host, port = split_address(address)
        self._http = HttpServer(
            host,
            port,
            ready=self._not_ready,
            metrics=self._render_metrics,
            views={name: partial(self._view, view) for name, view in _VIEWS.items() if name}
            | {"config_dump": self._config_dump},
            authorise=access,
        )
        try:
            return await self._http.start()
        except OSError as error:
            raise ConfigError(
                "--http-addr", address, f"cannot be listened on: {error.strerror}", "choose another"
            ) from error

    async def close(self) -> None:
        """Stop serving."""
        if self._http is not None:
            await self._http.close()

    def _view(self, view: Callable[[Snapshot], object]) -> object:
        return view(self._snapshot())

    async def _config_dump(self) -> object:
        from peerd.observe.config_dump import config_dump  # rarely asked for

        return await config_dump(self._store)

    def _render_metrics(self) -> bytes:
        if self._metrics is None:
            from peerd.observe.metrics import Metrics  # the library costs a tenth of the time to ready

            self._metrics = Metrics(self._snapshot)
        return self._metrics.render()


def ca_view(counts: Counter[str], bundle: CaBundle) -> CaView:
    """The CA as metrics show it."""
    return CaView(
        requests=counts["requests"],
        authentication_failures=counts["authentication_failures"],
        signing_errors=sum(count for name, count in counts.items() if name.startswith("error_")),
        root_expiry=root_expiry(bundle),
        chain_expiry=bundle.not_after,
    )
