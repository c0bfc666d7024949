"""Somebody on the way between a client and a server: passes bytes on, or ends TLS with a certificate of its own.

The impostor's certificate is issued by the same authority, for the same names; towards the server it is a client like
any other. It runs in a thread with an event loop of its own, on loopback.
"""

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.room import Room


class InBetween:
    """Listens on `address`. `honest` connections are passed on as bytes, the following ones get the impostor.

    Attributes:
        address: HOST:PORT for clients.
        honest: how many further connections are passed on; None = all.
        seen: how many connections came.
    """

    def __init__(self, room: Room, impostor: Path, client: Path, *, honest: int | None = 0) -> None:
        """Stands before a room's server, with the impostor's tls.pem and tls.key in a folder, and a client's folder."""
        self.honest, self.seen, self.address = honest, 0, ""
        self._port = int(room.server.rpartition(":")[2])
        self._as_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._as_server.load_cert_chain(impostor / "tls.pem", impostor / "tls.key")
        self._as_client = ssl.create_default_context(cafile=client / "ca.pem")
        self._as_client.load_cert_chain(client / "cert.pem", client / "key.pem")
        for context in (self._as_server, self._as_client):
            context.set_alpn_protocols(["h2"])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._relays: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        """Starts listening."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self, *, honest: int | None) -> None:
        """Ends the connections there are; of the next ones so many are passed on."""
        self.honest = honest
        self._loop.call_soon_threadsafe(self._cut)

    async def _listen(self) -> None:
        front = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        inside = await asyncio.start_server(self._impersonate, "127.0.0.1", 0, ssl=self._as_server)
        self._servers = [front, inside]
        self.address = f"127.0.0.1:{front.sockets[0].getsockname()[1]}"
        self._impostor_port = int(inside.sockets[0].getsockname()[1])

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        passed = self.honest is None or self.honest > 0
        self.honest = self.honest and self.honest - 1
        there = await asyncio.open_connection("127.0.0.1", self._port if passed else self._impostor_port)
        await self._relay((reader, writer), there)

    async def _impersonate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._as_client, server_hostname="127.0.0.1")
        await self._relay((reader, writer), there)

    async def _relay(
        self,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._writers += [here[1], there[1]]
        pumps = {asyncio.ensure_future(_pump(here[0], there[1])), asyncio.ensure_future(_pump(there[0], here[1]))}
        self._relays |= pumps
        await asyncio.wait(pumps)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._cut()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
        writer.close()
