"""An API server in this process, in whatever time the event loop has, with every fault that a real one shows.

`FakeApiServer` is the server with its storage, `FakeApiServer.transport()` one client's `ApiTransport`, and
`Faults` what goes wrong between the two. Nothing is read from peerd's own client code: neither vouches for
the other.
"""

from tests.support.fake_apiserver.faults import Chaos, Faults, Scripted
from tests.support.fake_apiserver.server import FakeApiServer, FakeTransport
from tests.support.fake_apiserver.storage import Storage

__all__ = ["Chaos", "FakeApiServer", "FakeTransport", "Faults", "Scripted", "Storage"]
