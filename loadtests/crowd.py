"""Clients that send a byte now and then, in a process of their own: those who measure need theirs.

It says so when all are connected, and goes on until it is ended.
"""

from __future__ import annotations

import asyncio
import sys

BYTE_EVERY_S = 1.0
_PATIENCE_S = 1.0  # spread of the first bytes, and time for the last to connect


async def dawdle_over_head(host: str, port: int, request: bytes, delay_s: float) -> None:
    """Send the headers byte by byte, and come again when shown the door."""
    while True:
        _, writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.sleep(delay_s)
            for at in range(len(request)):
                writer.write(request[at : at + 1])
                await writer.drain()
                await asyncio.sleep(BYTE_EVERY_S)
        except OSError:
            await asyncio.sleep(BYTE_EVERY_S)
        finally:
            writer.close()


async def dawdle_over_body(host: str, port: int, head: bytes, delay_s: float) -> None:
    """Send the headers at once and the body byte by byte."""
    _, writer = await asyncio.open_connection(host, port)
    writer.write(head)
    await asyncio.sleep(delay_s)
    while True:
        writer.write(b" ")
        await asyncio.sleep(BYTE_EVERY_S)


async def main(clients: int, host: str, port: int, path: str, authorization: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n"
        "Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n"
    ).encode()
    tasks = []
    for number in range(clients):
        dawdle = dawdle_over_head if number % 2 else dawdle_over_body
        delay_s = _PATIENCE_S * number / clients
        tasks.append(asyncio.create_task(dawdle(host, port, head, delay_s)))
        if number % 100 == 0:
            await asyncio.sleep(0.02)  # no more at once than the server's backlog takes
    await asyncio.sleep(_PATIENCE_S)
    print("connected", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:6]))
