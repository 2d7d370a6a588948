"""A program that passes TCP on, since `replay` listens on loopback only.

`relay.py 0.0.0.0 31001 127.0.0.1 31002`
"""

from __future__ import annotations

import asyncio
import sys


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    while data := await source.read(1 << 16):
        sink.write(data)
        await sink.drain()
    sink.close()


async def relay(host: str, port: str, to_host: str, to_port: str) -> None:
    """Join each connection with one of its own there, for ever."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_connection(to_host, int(to_port))
            await asyncio.gather(pump(reader, there), pump(there_reader, writer))
        except OSError:  # nobody is there yet, or no more: the sender's peer comes again
            writer.close()

    async with await asyncio.start_server(join, host, int(port)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:]))
