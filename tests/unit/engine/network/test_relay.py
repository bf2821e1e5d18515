"""The user-space relay, between sockets on loopback."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kitepy.engine.network.ports import bind_port
from kitepy.engine.network.relay import DatagramRelay, StreamRelay, make_relay


async def echo_server() -> asyncio.Server:
    """Reads until the client closes its half, then answers with all of it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read())
        await writer.drain()
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


def listener() -> socket.socket:
    found = bind_port("tcp", "127.0.0.1", 0)
    assert found is not None
    return found


def test_each_direction_is_closed_on_its_own_and_large_data_passes_whole() -> None:
    async def scenario() -> None:
        server = await echo_server()
        with listener() as bound:
            relay = StreamRelay(bound, server.sockets[0].getsockname())
            relay.start()
            reader, writer = await asyncio.open_connection(*bound.getsockname())
            data = bytes(range(256)) * 8192
            writer.write(data)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 5) == b"got " + data
            writer.close()
            relay.close()
        server.close()

    asyncio.run(scenario())


def test_connections_beyond_the_limit_wait_for_one_that_ends() -> None:
    async def scenario() -> None:
        server = await echo_server()
        with listener() as bound:
            relay = StreamRelay(bound, server.sockets[0].getsockname(), limit=1)
            relay.start()
            first_reader, first = await asyncio.open_connection(*bound.getsockname())
            first.write(b"one")
            second_reader, second = await asyncio.open_connection(*bound.getsockname())
            second.write(b"two")
            second.write_eof()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(second_reader.readexactly(1), 0.1)
            first.write_eof()
            assert await asyncio.wait_for(first_reader.read(), 5) == b"got one"
            assert await asyncio.wait_for(second_reader.read(), 5) == b"got two"
            for writer in (first, second):
                writer.close()
            relay.close()
        server.close()

    asyncio.run(scenario())


def test_closing_the_relay_resets_its_connections() -> None:
    async def scenario() -> None:
        server = await echo_server()
        with listener() as bound:
            relay = StreamRelay(bound, server.sockets[0].getsockname())
            relay.start()
            reader, writer = await asyncio.open_connection(*bound.getsockname())
            writer.write(b"never answered")
            await asyncio.sleep(0)
            while not relay.connections:
                await asyncio.sleep(0.001)
            relay.close()
            relay.close()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        server.close()

    asyncio.run(scenario())


def test_datagrams_find_their_way_back_and_silent_clients_are_forgotten() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        bound = bind_port("udp", "127.0.0.1", 0)
        assert bound is not None
        with (
            bound,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            for end in (server, client):
                end.setblocking(False)
                end.bind(("127.0.0.1", 0))
            relay = DatagramRelay(bound, server.getsockname(), idle_s=0.05)
            relay.start()
            await loop.sock_sendto(client, b"question", bound.getsockname())
            data, sender = await asyncio.wait_for(loop.sock_recvfrom(server, 2048), 5)
            await loop.sock_sendto(server, data + b"!", sender)
            assert await asyncio.wait_for(loop.sock_recvfrom(client, 2048), 5) == (b"question!", bound.getsockname())
            async with asyncio.timeout(5):
                while relay.clients:
                    await asyncio.sleep(0.01)
            relay.close()

    asyncio.run(scenario())


def test_the_protocol_decides_on_the_relay() -> None:
    async def scenario() -> None:
        with listener() as bound:
            assert isinstance(make_relay(bound, ("127.0.0.1", 1)), StreamRelay)
        datagrams = bind_port("udp", "127.0.0.1", 0)
        assert datagrams is not None
        with datagrams:
            assert isinstance(make_relay(datagrams, ("127.0.0.1", 1)), DatagramRelay)

    asyncio.run(scenario())
