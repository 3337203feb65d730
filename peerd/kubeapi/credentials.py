"""Where the API server is and what proves us to it: as kubectl and Pods find them, by kubernetes_asyncio.

Imported where it is used only: the library costs half a second and 40 MiB.
"""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from kubernetes_asyncio import config as loaders
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.client.rest import RESTClientObject

from peerd.kubeapi.base import ApiUnreachableError

_AGAIN_SECONDS = 1.0


class CredentialsError(Exception):
    """There is no configuration that can be used; says where it was looked for and why not."""


class Credentials:
    """The configuration of one API server, and an HTTP session that is made of it.

    In a Pod, the service account's files, the token read again every minute. With *kubeconfig*, that file
    and *context* (empty: its current one), with all that kubectl allows: certificates, tokens, exec plugins,
    proxies. Both are read again when the server takes them no longer.
    """

    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._configuration = Configuration()
        self._loading = asyncio.Lock()
        self._loaded_at = 0.0
        self._rest: RESTClientObject | None = None
        self._made_of: tuple[object, ...] = ()

    async def load(self) -> None:
        """Read everything; raises CredentialsError."""
        configuration = Configuration()
        try:
            if self._kubeconfig:
                await asyncio.to_thread(_check, self._kubeconfig)
                await loaders.load_kube_config(
                    self._kubeconfig,
                    self._context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
            else:
                loaders.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        except Exception as error:  # the library lets everything through: YAML, KeyError, its own
            raise CredentialsError(f"{self._where}: {error}") from error
        made_of = await asyncio.to_thread(_ingredients, configuration)
        self._configuration = configuration
        self._loaded_at = asyncio.get_running_loop().time()
        if self._rest is None or made_of != self._made_of:
            old = self._rest
            try:
                self._rest = RESTClientObject(configuration, maxsize=0)
            except OSError as error:  # ssl.SSLError among them
                raise CredentialsError(f"{self._where}: certificates cannot be used: {error}") from error
            self._made_of = made_of
            if old is not None:
                await old.close()

    async def renew(self) -> None:
        """The server refused what we have: read again, once for all who ask at the same time."""
        asked = asyncio.get_running_loop().time()
        async with self._loading:
            if asked - self._loaded_at >= _AGAIN_SECONDS:
                try:
                    await self.load()
                except CredentialsError as error:
                    raise ApiUnreachableError(str(error)) from error

    @property
    def host(self) -> str:
        """Scheme, name and port of the server."""
        return str(self._configuration.host)

    async def request(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        """Ask with our credentials; the caller releases the answer."""
        rest = self._rest
        if rest is None:
            raise ApiUnreachableError(f"{self._where}: not loaded")
        headers = dict(options.pop("headers", {}))
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token.strip()
        if rest.proxy:
            options["proxy"] = rest.proxy
        if rest.server_hostname:
            options["server_hostname"] = rest.server_hostname
        return await rest.pool_manager.request(method, self.host + path, headers=headers, **options)

    async def close(self) -> None:
        """Close all connections."""
        rest, self._rest = self._rest, None
        if rest is not None:
            await rest.close()

    @property
    def _where(self) -> str:
        return f"kubeconfig {self._kubeconfig}" if self._kubeconfig else "service account of this Pod"


def _check(kubeconfig: str) -> None:
    """The library only logs that the file is not there."""
    if not isinstance(yaml.safe_load(Path(kubeconfig).read_bytes()), dict):
        raise CredentialsError("is not a kubeconfig")


def _ingredients(configuration: Configuration) -> tuple[object, ...]:
    """What a session is made of: its connections must be made anew where one of these changes."""
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    return (
        configuration.host,
        configuration.verify_ssl,
        configuration.tls_server_name,
        configuration.proxy,
        *(Path(file).read_bytes() if file else b"" for file in files),
    )
