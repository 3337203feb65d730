"""How a server stops listening without losing sight of whom it has just accepted."""

import asyncio

_TURNS = 3  # a connection is accepted; it is made; its protocol hears of it; its handler begins


async def stop_listening(server: asyncio.Server) -> None:
    """Accept nobody any more; who was accepted a moment ago is known to the server's protocols on return.

    asyncio accepts a connection in one turn of the loop and makes it in a task of the next one. If the server
    was closed between both, that task fails and its socket stays open until it is collected.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
