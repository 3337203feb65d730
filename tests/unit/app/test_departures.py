"""A Gateway of which much came is told gone once all that is taken back, and what it became after that."""

import asyncio
import contextlib

import pytest

from peerd.app.departures import Departures
from peerd.model.changes import ObjectChange
from peerd.model.kube.core import Namespace
from peerd.model.kube.gateway import Gateway, GatewaySpec
from peerd.model.kube.meta import ObjectKey, ObjectMeta

WEST = ObjectKey("istio-system", "west")


def gateway(version: str = "", *, of_class: str = "istio-remote") -> ObjectChange:
    meta = ObjectMeta(name="west", namespace="istio-system", uid=version)
    return ObjectChange("Gateway", WEST, Gateway(meta, GatewaySpec(gateway_class_name=of_class)))


GONE = ObjectChange("Gateway", WEST, None)
OTHER = ObjectChange("Namespace", ObjectKey("", "shop"), Namespace(ObjectMeta(name="shop")))


class Stage:
    """`said` is what derivation heard, a list for each batch, with `leave` where the peer has left."""

    def __init__(self, *, much: bool = True) -> None:
        self.said: list[object] = []
        self.may_leave, self.may_derive = asyncio.Event(), asyncio.Event()
        self.waits = asyncio.Event()
        self.departures = Departures(
            lambda changes: self.said.append(list(changes)),
            derived=self._derived,
            holds_much=lambda _key: much,
            leave=self._leave,
        )

    async def _leave(self, key: ObjectKey) -> None:
        assert key == WEST
        self.waits.set()
        await self.may_leave.wait()
        self.said.append("left")

    async def _derived(self) -> None:
        self.waits.set()
        await self.may_derive.wait()

    async def until_it_waits(self) -> None:
        async with asyncio.timeout(10):
            await self.waits.wait()
        self.waits.clear()

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.ensure_future(self.departures.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_gateway_goes_after_what_came_through_it_and_nobody_waits_for_that():
    stage = Stage()
    async with stage.running():
        stage.departures([GONE, OTHER])
        assert stage.said == [[OTHER]]
        await stage.until_it_waits()
        stage.departures([OTHER])
        assert stage.said == [[OTHER], [OTHER]]
        stage.may_leave.set()
        stage.may_derive.set()
        await stage.until_it_waits()
    assert stage.said == [[OTHER], [OTHER], "left", [GONE]]


async def test_a_gateway_that_comes_back_meanwhile_is_told_after_its_end_was_derived():
    """As one batch the two would be an edit, and the peer would go on as if nothing had been."""
    stage = Stage()
    async with stage.running():
        stage.departures([GONE])
        await stage.until_it_waits()
        stage.departures([gateway("first")])
        stage.may_leave.set()
        await stage.until_it_waits()
        assert stage.said == ["left", [GONE]]
        stage.departures([GONE])
        stage.departures([gateway("second")])
        assert stage.said == ["left", [GONE]]
        stage.may_derive.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert stage.said == ["left", [GONE], [gateway("second")]]


async def test_one_that_goes_again_leaves_again():
    stage = Stage()
    stage.may_leave.set()
    stage.may_derive.set()
    async with stage.running():
        for _ in range(2):
            stage.departures([GONE])
            async with asyncio.timeout(10):
                while stage.departures._going:  # noqa: ASYNC110 (it tells nobody)
                    await asyncio.sleep(0)
            stage.departures([gateway()])
    assert stage.said == ["left", [GONE], [gateway()]] * 2


async def test_a_gateway_of_another_class_leads_to_no_peer_any_more():
    stage = Stage()
    async with stage.running():
        edited = gateway(of_class="istio-waypoint")
        stage.departures([edited])
        await stage.until_it_waits()
        stage.may_leave.set()
        await stage.until_it_waits()
    assert stage.said == ["left", [edited]]


@pytest.mark.parametrize("change", [gateway(), OTHER, ObjectChange("Service", WEST, None)])
async def test_what_ends_no_peer_goes_through(change: ObjectChange):
    stage = Stage()
    stage.departures([change])
    assert stage.said == [[change]]


async def test_a_peer_of_which_little_is_held_goes_at_once():
    stage = Stage(much=False)
    stage.departures([GONE])
    assert stage.said == [[GONE]]
