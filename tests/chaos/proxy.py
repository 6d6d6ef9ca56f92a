"""TCP links that a test can cut, delay, throttle, silence or make deaf: one listening port for each.

All of them run on one thread with an asyncio loop. A byte stream cannot lose its middle, so a silenced direction holds
what it has: that is how a half-open connection looks to the far end, whose kernel goes on acknowledging. `cut` resets
what is open and hangs up on whoever tries again.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

_READ_BYTES = 64 * 1024
_GLANCE_S = 0.02


class Way:
    """One direction of a link; its attributes may be set from any thread at any time.

    Attributes:
        delay_s: how much later bytes come out.
        bytes_per_s: how fast they go; 0 for as fast as they can.
        passes: whether they come out at all.
        passed_bytes: how many bytes have come out so far.
    """

    def __init__(self) -> None:
        self.passed_bytes = 0
        self.heal()

    def heal(self) -> None:
        """Let everything pass again as if nothing had been."""
        self.delay_s, self.bytes_per_s, self.passes = 0.0, 0, True


class Link:
    """One TCP link from a port of its own to a target.

    Attributes:
        port: where to connect to instead of the target.
        there, back: the ways towards the target, and from it.
        up: whether there are connections at all.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.there, self.back = Way(), Way()
        self.up = True
        self._writers: set[asyncio.StreamWriter] = set()

    def heal(self) -> None:
        """Let everything pass again as if nothing had been."""
        self.there.heal()
        self.back.heal()
        self.up = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        ways = [
            asyncio.create_task(self._carry(reader, far_writer, self.there)),
            asyncio.create_task(self._carry(far_reader, writer, self.back)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)  # one end hung up, or the link was cut
        except asyncio.CancelledError:
            pass  # the proxies close
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1_024)

        async def deliver() -> None:
            while True:
                at_s, data = await held.get()
                await asyncio.sleep(max(0.0, at_s - loop.time()))
                while not way.passes:
                    await asyncio.sleep(_GLANCE_S)
                if not data:
                    raise EOFError
                writer.write(data)
                await writer.drain()
                way.passed_bytes += len(data)
                if way.bytes_per_s:
                    await asyncio.sleep(len(data) / way.bytes_per_s)

        async def take() -> None:
            while True:
                read_bytes = min(_READ_BYTES, max(1, way.bytes_per_s // 10)) if way.bytes_per_s else _READ_BYTES
                data = await reader.read(read_bytes)
                await held.put((loop.time() + way.delay_s, data))
                if not data:
                    return

        async with asyncio.TaskGroup() as both:
            both.create_task(deliver())
            both.create_task(take())

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()


class Proxies:
    """All links of a test, and their thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxies", daemon=True)
        self._thread.start()
        self._links: list[Link] = []

    def link(self, target_port: int) -> Link:
        """A new link; it listens when this returns."""
        made = Link(target_port)

        async def listen() -> int:
            server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
            port: int = server.sockets[0].getsockname()[1]
            return port

        made.port = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(240)
        self._links.append(made)
        return made

    def cut(self, *links: Link) -> None:
        """Reset all connections of these links and take no new ones."""
        for link in links:
            link.up = False
            self._loop.call_soon_threadsafe(link._abort)

    def heal(self) -> None:
        """Let everything pass on every link."""
        for link in self._links:
            link.heal()

    def close(self) -> None:
        """End the thread and everything on it."""

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(240)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(240)
        self._loop.close()

    def __enter__(self) -> Proxies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
