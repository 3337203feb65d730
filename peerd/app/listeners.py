"""The ports of one peerd: bound with a clear error, closed together."""

import asyncio
from collections.abc import Callable, Mapping

from peerd.app.parts import Network
from peerd.ca.bundle import CaBundle
from peerd.ca.issue import server_certificate, server_names
from peerd.model.clock import Clock
from peerd.model.config import ConfigError, ServeConfig
from peerd.serve.own_tls import OwnTls
from peerd.transport.address import split_address
from peerd.transport.base import Handler, Server
from peerd.transport.tls import TlsError, TlsSource


class Listeners:
    """Servers by the setting that names their address. Every method that binds raises ConfigError."""

    def __init__(self, config: ServeConfig, network: Network) -> None:
        self._config = config
        self._network = network
        self._servers: list[Server] = []

    async def discovery(
        self,
        handlers: Mapping[str, Handler],
        plain: Mapping[str, Handler],
        bundle: Callable[[], CaBundle],
        clock: Clock,
    ) -> dict[str, str]:
        """Serve ztunnels by *handlers* and, where the setting names an address, loopback by *plain*."""
        config = self._config
        names = server_names(config.system_namespace, config.revision, _own_hosts(config.xds_addr))
        tls = OwnTls(bundle, lambda ca, now: server_certificate(ca, names, now), clock)
        bound = {
            "--xds-addr": await self._listen(
                "--xds-addr", config.xds_addr, self._network.listen(config.xds_addr, handlers, tls)
            )
        }
        address = config.insecure_plaintext_addr
        if address:
            flag = "--insecure-plaintext-addr"
            bound[flag] = await self._listen(flag, address, self._network.listen(address, plain, None))
        return bound

    async def peers(self, handlers: Mapping[str, Handler], tls: TlsSource) -> str:
        """Serve other clusters' control planes."""
        address = self._config.peer_addr
        return await self._listen("--peer-addr", address, self._network.listen_peers(address, handlers, tls))

    async def gateways(self, handlers: Mapping[str, Handler], tls: TlsSource) -> str:
        """Serve our own east-west gateways."""
        address = self._config.gateway_addr
        server = self._network.listen_peers(address, handlers, tls)
        return await self._listen("--gateway-addr", address, server)

    async def close(self, grace: float) -> None:
        """Close all, each within *grace* seconds."""
        await asyncio.gather(*(server.close(grace) for server in self._servers))

    async def _listen(self, flag: str, address: str, server: Server) -> str:
        try:
            bound = await server.start()
        except (OSError, TlsError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(flag, address, f"cannot be listened on: {reason}", "choose another") from error
        self._servers.append(server)
        return bound


def _own_hosts(address: str) -> tuple[str, ...]:
    """The host of a listening address, where it names one."""
    host, _ = split_address(address)
    return () if host in {"", "0.0.0.0", "::"} else (host,)  # noqa: S104 (compared, not bound)
