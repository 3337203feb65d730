"""Record the transcripts of the peering protocol: `python -m tests.conformance.peering.record`.

Run once per protocol version, and commit what it writes; the replay test keeps all of them for ever. The
dialling side is the client written from the specification.
"""

import asyncio
import base64
import json
from pathlib import Path

from tests.conformance.peering import spec_client as spec
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, service, workload

HERE = Path(__file__).parent / "transcripts"
# The directory, and whether dialler and server are on one network and so exchange workloads.
KINDS = {"1": False, "1-flat": True}


async def record(*, flat: bool) -> dict[str, list[tuple[str, bytes]]]:
    """What is said in a first sync with updates, a resume of the same, a resume after changes."""
    root = Authority("root")
    west = PeeringCluster("west", Authority("west", root))
    await west.start(service("reviews", 3), service("ratings"), service("details", 2))
    west.export(*((each.uid, each) for each in (workload("west", 1), workload("west", 2))))
    client = spec.SpecClient("east", "one", network="west-net" if flat else "")
    material = Authority("east", root).leaf()
    host, _, port = west.address.rpartition(":")
    found: dict[str, list[tuple[str, bytes]]] = {}

    async def stream(name: str) -> spec.Connection:
        connection = await spec.Connection.open(
            host, int(port), material.certificate_chain, material.private_key, material.roots
        )
        client.transcript = found[name] = []
        client.start(connection)
        await client.sync()
        return connection

    connection = await stream("first")
    west.service.commit([("shop/reviews", service("reviews", 9)), ("shop/ratings", None)])
    await client.step()
    west.service.commit([("shop/details", service("details", 5))])
    await client.step(refuse={"shop/details": "not today"})
    if flat:
        west.export((workload("west", 2).uid, None), (workload("west", 3).uid, workload("west", 3)))
        await client.step()
    await connection.close()
    west.service.commit([("shop/details", service("details", 2))])
    await (await stream("resume")).close()
    west.service.commit([("shop/details", None), ("shop/new", service("new"))])
    west.export((workload("west", 3).uid, None), (workload("west", 4).uid, workload("west", 4)))
    await (await stream("difference")).close()
    await west.stop()
    return found


def main() -> None:
    """Write one file per stream, of the kinds that are not recorded yet."""
    for kind, flat in KINDS.items():
        folder = HERE / kind
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        for name, messages in asyncio.run(record(flat=flat)).items():
            lines = [{"from": end, "bytes": base64.b64encode(message).decode()} for end, message in messages]
            (folder / f"{name}.json").write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
