"""A TCP proxy on loopback that delays, freezes, cuts or refuses what goes through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

_CHUNK = 64 << 10
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends RST, as a firewall or a crash would."""

_Result = TypeVar("_Result")


class Proxy:
    """Listens on a port of its own and passes on to `upstream`, which may change. Safe for many threads.

    Whatever it is set to concerns the connections that are open and those that come: `delay_s` holds
    back every byte in each direction, `freeze` passes nothing on and says nothing (half-open), `reset`
    ends what is open, `refuse` ends what comes as well. `heal` undoes all of it.
    """

    def __init__(self, upstream: str = "") -> None:
        self._upstream = upstream
        self._delay_s = 0.0
        self._refusing = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(self._listen())
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"

    def point_to(self, upstream: str) -> None:
        """Pass new connections on to another address."""
        self._upstream = upstream

    def delay(self, seconds: float) -> None:
        """Hold back each byte for so long, in each direction."""
        self._delay_s = seconds

    def freeze(self) -> None:
        """Pass nothing on, and keep every connection open."""
        self._loop.call_soon_threadsafe(self._thaw.clear)

    def reset(self) -> None:
        """End every open connection at once, both ends."""
        self._run(self._reset())

    def refuse(self) -> None:
        """End every open connection, and each new one as it comes."""
        self._refusing = True
        self.reset()

    def heal(self) -> None:
        """Pass everything on again, at once."""
        self._delay_s, self._refusing = 0.0, False
        self._loop.call_soon_threadsafe(self._thaw.set)

    def close(self) -> None:
        """End everything. Closing twice does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> asyncio.Server:
        self._thaw = asyncio.Event()
        self._thaw.set()
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._open.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self._refusing:
                _cut(writer)
                return
            host, _, port = self._upstream.rpartition(":")
            from_there, there = await asyncio.open_connection(host, int(port))
            self._open.add(there)
            await asyncio.gather(self._pass(reader, there), self._pass(from_there, writer))
        except (OSError, ValueError):
            _cut(writer)  # nobody is there, or no longer
        except asyncio.CancelledError:
            pass  # only `close` cancels, and the streams of Python 3.11 would print it as a failure
        finally:
            for each in (writer, there):
                if each is not None:
                    self._open.discard(each)
                    each.close()
                    with suppress(OSError):
                        await each.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, each chunk no earlier than the delay that held when it came."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        sending = asyncio.create_task(self._send(waiting, writer))
        try:
            while True:
                data = await reader.read(_CHUNK)
                await waiting.put((self._loop.time() + self._delay_s, data))
                if not data:
                    break
            await sending
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending

    async def _send(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._thaw.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async def _reset(self) -> None:
        for writer in tuple(self._open):
            _cut(writer)

    async def _stop(self) -> None:
        self._server.close()
        await self._reset()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()


def _cut(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
