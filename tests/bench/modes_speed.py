"""Root's engine and an ordinary user's side by side: start, exec and what a published port carries. Run as root.

    PYTHONPATH=tests python tests/bench/modes_speed.py [--runs N]

Prints medians in milliseconds and Gbit/s, taken in turns, so that what else the machine does hits both alike.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import docker

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.engine import EngineUnderTest
from support.images import load_busybox

_CHUNK = bytes(1 << 20)
_TRANSFER_S = 2.0
SINK = ["sh", "-c", "while :; do nc -l -p 80 </dev/null >/dev/null; done"]


def milliseconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def gigabits(port: int) -> float:
    """What a sink behind a published port takes from one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        sent, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < _TRANSFER_S:
            sent += connection.send(_CHUNK)
    return sent * 8 / elapsed / 1e9


def measure(client: docker.DockerClient, port: int, idle: docker.models.containers.Container) -> dict[str, float]:
    """One round of all figures."""
    return {
        "run --rm, bridge (ms)": milliseconds(lambda: client.containers.run("busybox", ["true"], remove=True)),
        "run --rm, none (ms)": milliseconds(lambda: client.containers.run("busybox", ["true"], remove=True, network_mode="none")),
        "exec (ms)": milliseconds(lambda: idle.exec_run(["true"])),
        "published port (Gbit/s)": gigabits(port),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with EngineUnderTest(rootless=False) as root, EngineUnderTest(rootless=True) as user:
        places = {}
        for name, engine in (("root", root), ("user", user)):
            client = engine.docker()
            load_busybox(client)
            idle = client.containers.run("busybox", ["sleep", "600"], detach=True)
            sink = client.containers.run("busybox", SINK, detach=True, ports={"80/tcp": ("127.0.0.1", None)})
            sink.reload()
            places[name] = (client, int(sink.ports["80/tcp"][0]["HostPort"]), idle)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in places}
        for _ in range(runs):
            for name, place in places.items():
                found[name].append(measure(*place))
        for figure in found["root"][0]:
            one, other = (statistics.median(round_[figure] for round_ in found[name]) for name in ("root", "user"))
            print(f"{figure:26} root {one:7.1f}   user {other:7.1f}   ratio {other / one:.2f}")
        for client, _, _ in places.values():
            client.close()


if __name__ == "__main__":
    main()
