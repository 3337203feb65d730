"""Objects behind the API seam, in memory: enough of server-side apply to judge a writer by.

Fields applied by one manager and applied no more go away; conditions are a map by type; everything else is
taken over. Every request is recorded, and a test may let the next ones fail.
"""

import copy
import json
import re

from peerd.kubeapi.base import Response

PATH = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?$"
)
NAMESPACES = re.compile(r"^/api/v1/namespaces/(?P<name>[^/]+)$")


class FakeObjects:
    """`peerd.kubeapi.base.ApiTransport`, less streams."""

    def __init__(self):
        self.objects = {}  # (plural, namespace, name) -> tree
        self.applied = {}  # (plural, namespace, name, subresource, manager) -> what was applied last
        self.requests = []  # (method, plural, namespace, name, subresource)
        self.bodies = []
        self.fail = []  # responses or exceptions for the next requests
        self.before = None  # awaited with each request
        self.changed = None  # called with plural, namespace, name, tree or None
        self._version = 100

    # -- for tests

    def put(self, plural, tree):
        """As somebody else writes it."""
        meta = tree["metadata"]
        meta.setdefault("uid", f"uid-{self._next()}")
        meta["resourceVersion"] = str(self._next())
        self._store((plural, meta.get("namespace", ""), meta["name"]), tree)

    def namespace(self, name):
        """It is there."""

    def drop(self, plural, namespace, name):
        self._store((plural, namespace, name), None)

    def get(self, plural, namespace, name):
        return self.objects.get((plural, namespace, name))

    @property
    def writes(self):
        return [each for each in self.requests if each[0] != "GET"]

    # -- the seam

    async def request(self, method, path, *, query=None, body=b"", content_type="application/json", **_):
        match = PATH.match(path)
        assert match, path
        key = (match["plural"], match["namespace"] or "", match["name"] or "")
        subresource = match["subresource"] or ""
        self.requests.append((method, *key, subresource))
        self.bodies.append(body)
        if self.before is not None:
            await self.before()
        if self.fail:
            failure = self.fail.pop(0)
            if isinstance(failure, Exception):
                raise failure
            if failure is not None:
                return failure
        if method == "GET" and not key[2]:
            return self._list(key[0], key[1], query or {})
        if method == "GET":
            return self._answer(self.objects.get(key))
        if method == "POST":
            tree = json.loads(body)
            meta = tree["metadata"]
            name = meta.get("name") or f"{meta['generateName']}{self._next()}"
            if (key[0], key[1], name) in self.objects:
                return status(409, "AlreadyExists")
            self.put(key[0], {**tree, "metadata": {**meta, "name": name}})
            return self._answer(self.objects[key[0], key[1], name], 201)
        if method == "PUT":
            return self._replace(key, json.loads(body))
        if method == "DELETE":
            return self._delete(key, json.loads(body) if body else {})
        if content_type.startswith("application/merge-patch"):
            return self._merge(key, json.loads(body))
        return self._apply(key, subresource, (query or {})["fieldManager"], json.loads(body))

    async def stream(self, path, **_query):
        raise NotImplementedError(path)
        yield b""

    async def close(self):
        pass

    # -- what a server does

    def _apply(self, key, subresource, manager, tree):
        held = self.objects.get(key)
        if held is None and subresource:
            return status(404, "NotFound")
        fields = {k: v for k, v in tree.items() if k not in {"apiVersion", "kind"}}
        if subresource:
            fields = {k: v for k, v in fields.items() if k == subresource}
        else:
            fields.pop("status", None)
        applied_key = (*key, subresource, manager)
        before = copy.deepcopy(held) if held is not None else {"metadata": {"uid": f"uid-{self._next()}"}}
        after = _without(before, self.applied.get(applied_key, {}), fields)
        after = _merged(after, fields)
        self.applied[applied_key] = fields
        if held is None or after != held:
            after.setdefault("apiVersion", tree["apiVersion"])
            after.setdefault("kind", tree["kind"])
            after["metadata"]["resourceVersion"] = str(self._next())
            self._store(key, after)
        return self._answer(self.objects[key], 201 if held is None else 200)

    def _merge(self, key, patch):
        held = self.objects.get(key)
        if held is None:
            return status(404, "NotFound")
        after = _json_merged(copy.deepcopy(held), patch)
        after["metadata"]["resourceVersion"] = str(self._next())
        self._store(key, after)
        return self._answer(after)

    def _replace(self, key, tree):
        held = self.objects.get(key)
        if held is None:
            return status(404, "NotFound")
        if tree["metadata"].get("resourceVersion") != held["metadata"]["resourceVersion"]:
            return status(409, "Conflict")
        tree["metadata"] = {
            **tree["metadata"], "uid": held["metadata"]["uid"], "resourceVersion": str(self._next())
        }  # fmt: skip
        self._store(key, tree)
        return self._answer(tree)

    def _delete(self, key, options):
        held = self.objects.get(key)
        if held is None:
            return status(404, "NotFound")
        uid = (options.get("preconditions") or {}).get("uid")
        if uid and uid != held["metadata"]["uid"]:
            return status(409, "Conflict")
        self._store(key, None)
        return self._answer(held)

    def _list(self, plural, namespace, query):
        wanted = dict(each.split("=") for each in query.get("labelSelector", "").split(",") if each)
        name = query.get("fieldSelector", "").removeprefix("metadata.name=")
        items = [
            tree
            for key, tree in sorted(self.objects.items())
            if key[0] == plural
            and name in {"", key[2]}
            and (not namespace or key[1] == namespace)
            and wanted.items() <= tree["metadata"].get("labels", {}).items()
        ]
        return Response(200, json.dumps({"items": items, "metadata": {}}).encode())

    def _store(self, key, tree):
        if tree is None:
            self.objects.pop(key, None)
            for each in [each for each in self.applied if each[:3] == key]:
                del self.applied[each]
        else:
            self.objects[key] = tree
        if self.changed is not None:
            self.changed(*key, copy.deepcopy(tree))

    def _answer(self, tree, code=200):
        return status(404, "NotFound") if tree is None else Response(code, json.dumps(tree).encode())

    def _next(self):
        self._version += 1
        return self._version


def status(code, reason, retry_after=0.0):
    """A refusal."""
    body = {"kind": "Status", "reason": reason, "message": f"the server says {reason}"}
    return Response(code, json.dumps(body).encode(), retry_after)


def _merged(held, fields):
    for key, value in fields.items():
        if key == "conditions":
            by_type = {each["type"]: each for each in held.get(key, [])}
            by_type.update({each["type"]: each for each in value})
            held[key] = list(by_type.values())
        elif isinstance(value, dict):
            held[key] = _merged(dict(held.get(key) or {}), value)
        else:
            held[key] = value
    return held


def _without(held, before, now):
    """*held* less what *before* applied and *now* does not."""
    for key, value in before.items():
        if key == "conditions":
            kept = {each["type"] for each in now.get(key, [])}
            gone = {each["type"] for each in value} - kept
            held[key] = [each for each in held.get(key, []) if each["type"] not in gone]
        elif isinstance(value, dict) and isinstance(held.get(key), dict):
            held[key] = _without(held[key], value, now.get(key) or {})
        elif key not in now:
            held.pop(key, None)
    return held


def _json_merged(held, patch):
    for key, value in patch.items():
        if value is None:
            held.pop(key, None)
        elif isinstance(value, dict):
            held[key] = _json_merged(held.get(key) or {}, value)
        else:
            held[key] = value
    return held
