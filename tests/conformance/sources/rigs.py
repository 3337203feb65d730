"""Clusters that a source reads, each in its own way: files, a fake API server, a real one."""

import asyncio
import copy
from pathlib import Path
from random import Random
from typing import Any, Protocol

import yaml

from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.sources.base import Source
from peerd.sources.directory import DirectorySource
from peerd.sources.kubernetes import KubernetesSource
from tests.support.apiserver import ApiServer
from tests.support.fake_apiserver import FakeApiServer

Tree = dict[str, Any]


class Rig(Protocol):
    """One cluster; `put` and `delete` change it, `source` is a new reader of it."""

    validates: bool
    """Whether it refuses objects of a wrong shape itself, so that no source ever sees one."""

    async def put(self, *manifests: Tree) -> None: ...

    async def delete(self, manifest: Tree) -> None: ...

    async def source(self) -> Source: ...

    async def close(self) -> None: ...


class DirectoryRig:
    """One file for each object."""

    validates = False

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, *manifests: Tree) -> None:
        for manifest in manifests:
            self._path(manifest).write_text(yaml.safe_dump(manifest))

    async def delete(self, manifest: Tree) -> None:
        self._path(manifest).unlink()

    async def source(self) -> Source:
        return DirectorySource(self._root)

    async def close(self) -> None:
        """Nothing is open."""

    def _path(self, manifest: Tree) -> Path:
        metadata = manifest["metadata"]
        return self._root / f"{manifest['kind']}-{metadata.get('namespace', '')}-{metadata['name']}.yaml"


class FakeRig:
    """The fake API server, streaming lists or not."""

    validates = False

    def __init__(self, server: FakeApiServer) -> None:
        self._server = server

    async def put(self, *manifests: Tree) -> None:
        for manifest in manifests:
            self._server.put(manifest)

    async def delete(self, manifest: Tree) -> None:
        metadata = manifest["metadata"]
        assert self._server.delete(manifest["kind"], metadata.get("namespace", ""), metadata["name"])

    async def source(self) -> Source:
        return KubernetesSource(self._server.transport(), system_namespace="istio-system", random=Random(1))

    async def close(self) -> None:
        """Nothing is open."""


class RealRig:
    """A kube-apiserver with etcd."""

    validates = True

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._transports: list[HttpTransport] = []

    async def put(self, *manifests: Tree) -> None:
        for manifest in manifests:
            await asyncio.to_thread(self._put, _complete(manifest))

    def _put(self, manifest: Tree) -> None:
        admin = self._server.admin
        held = admin.get(manifest)
        if held is None:
            admin.create(manifest)
            return
        admin.patch(manifest, {key: value for key, value in manifest.items() if key != "status"})
        if "status" in manifest:
            admin.set_status(manifest, manifest["status"])

    async def delete(self, manifest: Tree) -> None:
        await asyncio.to_thread(self._server.admin.delete, manifest)

    async def source(self) -> Source:
        credentials = Credentials(str(self._server.kubeconfig()))
        await credentials.load()
        transport = HttpTransport(credentials)
        self._transports.append(transport)
        return KubernetesSource(transport, system_namespace="istio-system", random=Random(1))

    async def close(self) -> None:
        for transport in self._transports:
            await transport.close()


def _complete(manifest: Tree) -> Tree:
    """What an API server demands and peerd does not read."""
    manifest = copy.deepcopy(manifest)
    if manifest["kind"] == "Pod":
        for container in manifest["spec"]["containers"]:
            container["image"] = "none"
    if manifest["kind"] == "Service":
        del manifest["spec"]["clusterIP"]  # it allocates its own
    return manifest
