"""What published ports cost beside another engine: connections a second, and Gbit/s, from this machine. Run as root.

    python tests/bench/published_ports.py --socket A.sock --socket B.sock [--rounds N]

Both have the image busybox. The engines take turns every half second, and what is printed is the median of B to A in pairs,
so that what else the machine does hits both alike. Addresses: 127.0.0.1, ::1, and the bridge's own.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import time
from collections.abc import Callable, Iterator

import docker
from docker.models.containers import Container

_SLICE_S = 0.5
_CHUNK = bytes(1 << 18)
_SERVE = "nc -ll -p 82 -e dd of=/dev/null bs=1M & exec nc -ll -p 81 -e true"


def connections(address: str, port: int) -> float:
    """How many a second are opened, answered and ended, one after the other."""
    count, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < _SLICE_S:
        with socket.create_connection((address, port), timeout=5) as connection:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
        count += 1
    return count / elapsed


def gigabits(address: str, port: int) -> float:
    """What a sink takes."""
    with socket.create_connection((address, port), timeout=5) as connection:
        sent, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < _SLICE_S:
            sent += connection.send(_CHUNK)
    return sent * 8 / elapsed / 1e9


@contextlib.contextmanager
def server(path: str) -> Iterator[Container]:
    """A container with ports 81 (ends every connection) and 82 (takes everything)."""
    client = docker.DockerClient(f"unix://{path}", version="1.44")
    container = client.containers.run("busybox", ["sh", "-c", _SERVE], detach=True, ports={"81/tcp": None, "82/tcp": None})
    try:
        container.reload()
        yield container
    finally:
        container.remove(force=True)
        client.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", action="append", required=True)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(path)) for path in options.socket]
        time.sleep(1)
        measures: tuple[tuple[str, Callable[[str, int], float]], ...] = (("81/tcp", connections), ("82/tcp", gigabits))
        for port, measure in measures:
            for address in ("127.0.0.1", "::1", "gateway"):
                found: list[list[float]] = [[] for _ in servers]
                for number in range(options.rounds):
                    order = range(len(servers)) if number % 2 else reversed(range(len(servers)))
                    for at in order:
                        settings = servers[at].attrs["NetworkSettings"]
                        target = settings["Networks"]["bridge"]["Gateway"] if address == "gateway" else address
                        found[at].append(measure(target, int(settings["Ports"][port][0]["HostPort"])))
                ratios = [statistics.median(b / a for a, b in zip(found[0], row, strict=True)) for row in found]
                medians = " ".join(f"{statistics.median(row):.1f}" for row in found)
                print(
                    f"{measure.__name__:12} {address:10} medians {medians}  ratios {' '.join(f'{ratio:.2f}' for ratio in ratios)}"
                )


if __name__ == "__main__":
    main()
