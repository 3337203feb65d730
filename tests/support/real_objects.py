"""A real API server with the face of `fake_objects`: what is asked is recorded, and can be made to fail.

A watch is played: after each write the object is read, and whoever listens is told. So a test decides when
its process hears of something, as it does with objects in memory.
"""

from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.kubeapi.resources import SERVICE_ENTRY, WORKLOAD_ENTRY
from tests.support.fake_objects import PATH

RESOURCES = {resource.plural: resource for resource in (SERVICE_ENTRY, WORKLOAD_ENTRY)}


class RealObjects:
    """`peerd.kubeapi.base.ApiTransport`, less streams, for generated kinds. Call `open` first."""

    def __init__(self, server):
        self._server = server
        self._transport = None
        self.requests = []  # (method, plural, namespace, name, subresource)
        self.fail = []  # responses or exceptions for the next requests
        self.before = None  # awaited with each request
        self.changed = None  # called with plural, namespace, name, tree or None

    async def open(self, *namespaces):
        """Connect, and make what objects are to lie in."""
        credentials = Credentials(str(self._server.kubeconfig()), "")
        await credentials.load()
        self._transport = HttpTransport(credentials)
        for name in namespaces:
            self.namespace(name)

    # -- for tests

    def namespace(self, name):
        """Make one more."""
        self._server.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    @property
    def objects(self):
        """By (plural, namespace, name)."""
        return {
            (plural, tree["metadata"]["namespace"], tree["metadata"]["name"]): tree
            for plural, resource in RESOURCES.items()
            for tree in self._server.admin.items(resource.api_version, resource.kind)
        }

    def get(self, plural, namespace, name):
        return self._server.admin.get(_manifest(plural, {"metadata": {"namespace": namespace, "name": name}}))

    def put(self, plural, tree):
        """As somebody else writes it."""
        manifest = _manifest(plural, tree)
        if self._server.admin.get(manifest) is None:
            self._server.admin.create(manifest)
        else:
            self._server.admin.request("PUT", self._server.admin.path(manifest), manifest)
        self._tell(plural, tree["metadata"]["namespace"], tree["metadata"]["name"])

    def drop(self, plural, namespace, name):
        metadata = {"namespace": namespace, "name": name}
        self._server.admin.delete(_manifest(plural, {"metadata": metadata}))
        self._tell(plural, namespace, name)

    @property
    def writes(self):
        return [each for each in self.requests if each[0] != "GET"]

    # -- the seam

    async def request(self, method, path, **named):
        match = PATH.match(path)
        assert match, path
        key = (match["plural"], match["namespace"] or "", match["name"] or "")
        self.requests.append((method, *key, match["subresource"] or ""))
        if self.before is not None:
            await self.before()
        if self.fail:
            failure = self.fail.pop(0)
            if isinstance(failure, Exception):
                raise failure
            if failure is not None:
                return failure
        answer = await self._transport.request(method, path, **named)
        if method != "GET":
            self._tell(*key)
        return answer

    async def close(self):
        await self._transport.close()

    def _tell(self, plural, namespace, name):
        if self.changed is not None:
            self.changed(plural, namespace, name, self.get(plural, namespace, name))


def _manifest(plural, tree):
    resource = RESOURCES[plural]
    return {"apiVersion": resource.api_version, "kind": resource.kind, **tree}
