"""``make bench``: what users wait for, measured through the Engine API, side by side for any number of engines.

    make bench                                                          an engine started for this
    make bench ARGS="--socket /run/docker.sock --only start,logs"       another one beside it, some figures only

Prints medians, and ratios to the first other engine. Figures depend on the machine: compare columns of one run, never runs.
Run as root: memory is read from the engines' processes (PSS; containers, which are in other PID namespaces, don't count).
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import socket
import statistics
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import docker

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.engine import EngineUnderTest  # found only once the path is set
from support.images import BUSYBOX, load_busybox

CONTAINERS, CONCURRENCY = 100, 8
LOG_LINES, LOG_BYTES = 200_000, 200_000 * 101
COPY_BYTES = 100 << 20
WRITES_LINES = f"yes {'x' * 100} | head -n {LOG_LINES}"

Figures = dict[str, float]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=300)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """An engine under measurement: requests on one connection, without a client library's own cost."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = _Connection(path)

    def ask(self, method: str, target: str, body: Any = None) -> bytes:
        """One request; raises RuntimeError for an error."""
        return _ask(self._connection, method, target, body)

    def beside(self) -> _Connection:
        """A further connection, for what runs at the same time."""
        return _Connection(self.path)

    def create(self, command: list[str], network: str = "none") -> str:
        document = {"Image": BUSYBOX, "Cmd": command, "HostConfig": {"NetworkMode": network}}
        return str(json.loads(self.ask("POST", "/containers/create", document))["Id"])

    def start(self, command: list[str]) -> str:
        container = self.create(command)
        self.ask("POST", f"/containers/{container}/start")
        return container

    def remove(self, container: str) -> None:
        self.ask("DELETE", f"/containers/{container}?force=1")

    def memory_mb(self) -> float:
        """PSS of whoever serves the socket and of its descendants."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            owner, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return sum(_pss_kb(pid) for pid in _family(owner)) / 1000


def _ask(connection: _Connection, method: str, target: str, body: Any = None) -> bytes:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
    connection.request(method, f"/v1.41{target}", data, {"Content-Type": kind} if data is not None else {})
    response = connection.getresponse()
    answer = response.read()
    if response.status >= 400:
        raise RuntimeError(f"{method} {target}: {response.status} {answer[:300]!r}")
    return answer


def _family(pid: int) -> list[int]:
    found, namespace = [pid], os.readlink(f"/proc/{pid}/ns/pid")
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            found += [int(child) for child in children if os.readlink(f"/proc/{child}/ns/pid") == namespace]
        except OSError:
            continue  # it has just ended
    return found


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def life(engine: Engine) -> Figures:
    """Create, start, await and remove a container."""

    def whole(network: str) -> None:
        container = engine.create(["true"], network)
        engine.ask("POST", f"/containers/{container}/start")
        engine.ask("POST", f"/containers/{container}/wait")
        engine.ask("DELETE", f"/containers/{container}")

    return {f"life of true, {name} (ms)": milliseconds(lambda name=name: whole(name)) for name in ("bridge", "none")}  # type: ignore[misc]


def execs(engine: Engine) -> Figures:
    """Run ``true`` in a running container and read its end."""
    container = engine.start(["sleep", "600"])

    def whole() -> None:
        process = json.loads(engine.ask("POST", f"/containers/{container}/exec", {"Cmd": ["true"], "AttachStdout": True}))["Id"]
        engine.ask("POST", f"/exec/{process}/start", {})

    try:
        return {"exec of true (ms)": statistics.median(milliseconds(whole) for _ in range(5))}
    finally:
        engine.remove(container)


def start_event(engine: Engine) -> Figures:
    """From the call to the event, in an engine that was idle for a moment."""
    seen: list[float] = []
    listening = engine.beside()
    filters = "%7B%22event%22%3A%5B%22start%22%5D%7D"
    listening.request("GET", f"/v1.41/events?filters={filters}")
    ready = threading.Event()

    def listen() -> None:
        ready.set()
        listening.getresponse().readline()
        seen.append(time.perf_counter())

    listener = threading.Thread(target=listen)
    listener.start()
    ready.wait()
    time.sleep(0.3)
    container = engine.create(["true"])
    began = time.perf_counter()
    engine.ask("POST", f"/containers/{container}/start")
    listener.join(20)
    listening.close()
    engine.remove(container)
    return {"start call to start event (ms)": (seen[0] - began) * 1000}


def many(engine: Engine) -> Figures:
    """A hundred containers: started and removed eight at a time, listed, inspected, weighed."""
    before = engine.memory_mb()
    connections = [engine.beside() for _ in range(CONCURRENCY)]
    containers: list[str] = []

    def in_parallel(work: Callable[[_Connection, int], None]) -> float:
        def share(number: int) -> None:
            for index in range(number, CONTAINERS, CONCURRENCY):
                work(connections[number], index)

        began = time.perf_counter()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(share, range(CONCURRENCY)))
        return time.perf_counter() - began

    def start(connection: _Connection, _: int) -> None:
        document = {"Image": BUSYBOX, "Cmd": ["sleep", "600"]}
        container = json.loads(_ask(connection, "POST", "/containers/create", document))["Id"]
        _ask(connection, "POST", f"/containers/{container}/start")
        containers.append(container)

    figures = {"start 100, 8 at a time (s)": in_parallel(start)}
    figures["memory for each container (MB)"] = (engine.memory_mb() - before) / CONTAINERS
    lists = [milliseconds(lambda: engine.ask("GET", "/containers/json?all=1")) for _ in range(7)]
    inspects = [milliseconds(lambda: engine.ask("GET", f"/containers/{containers[0]}/json")) for _ in range(21)]
    figures |= {"list 100 (ms)": statistics.median(lists), "inspect (ms)": statistics.median(inspects)}
    figures["remove 100 by force, 8 at a time (s)"] = in_parallel(
        lambda connection, index: void(_ask(connection, "DELETE", f"/containers/{containers[index]}?force=1"))
    )
    return figures


def void(_: object) -> None:
    """For results that nobody needs."""


def logs(engine: Engine) -> Figures:
    """Lines read after the end, and followed while they are written; every byte has to come."""
    container = engine.start(["sh", "-c", WRITES_LINES])
    engine.ask("POST", f"/containers/{container}/wait")
    target = f"/containers/{container}/logs?stdout=1"
    began = time.perf_counter()
    read = len(engine.ask("GET", target))
    taken = time.perf_counter() - began
    engine.remove(container)
    container = engine.start(["sh", "-c", WRITES_LINES])
    began = time.perf_counter()
    followed = len(engine.ask("GET", f"/containers/{container}/logs?stdout=1&follow=1"))
    figures = {"200,000 lines read (s)": taken, "200,000 lines followed (s)": time.perf_counter() - began}
    engine.remove(container)
    expected = LOG_BYTES + 8 * LOG_LINES
    if (read, followed) != (expected, expected):
        raise RuntimeError(f"log lines were lost: {expected} bytes are due, {read} and {followed} came")
    return figures


def archive(engine: Engine) -> Figures:
    """A file of 100 MiB into a container and out of it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("copied")
        entry.size = COPY_BYTES
        tar.addfile(entry, io.BytesIO(os.urandom(1 << 20) * (COPY_BYTES >> 20)))
    container = engine.create(["true"])
    put = milliseconds(lambda: engine.ask("PUT", f"/containers/{container}/archive?path=/", buffer.getvalue()))
    got = milliseconds(lambda: engine.ask("GET", f"/containers/{container}/archive?path=/copied"))
    engine.remove(container)
    return {"archive in (MB/s)": COPY_BYTES / put / 1000, "archive out (MB/s)": COPY_BYTES / got / 1000}


MEASURES: dict[str, tuple[Callable[[Engine], Figures], int]] = {
    "life": (life, 10),
    "exec": (execs, 3),
    "event": (start_event, 5),
    "many": (many, 1),
    "logs": (logs, 1),
    "archive": (archive, 1),
}
"""By name: what is measured, and how often within one run."""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", action="append", default=[], metavar="PATH", help="another engine to measure beside")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(MEASURES)}")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(MEASURES)
    with ExitStack() as stack:
        own = stack.enter_context(EngineUnderTest())
        engines = {"kitepy": Engine(str(own.socket)), **{path: Engine(path) for path in options.socket}}
        fresh = engines["kitepy"].memory_mb()
        found: dict[str, dict[str, list[float]]] = {"memory of the fresh engine (MB)": {"kitepy": [fresh]}}
        for engine in engines.values():
            with closing(docker.DockerClient(base_url=f"unix://{engine.path}", version="auto")) as client:
                load_busybox(client)
        for name in chosen:
            measure, times = MEASURES[name]
            for number in range(options.runs * times):
                # There and back: what changes on the machine meanwhile hits all alike.
                for title, engine in list(engines.items())[:: 1 if number % 2 else -1]:
                    for figure, value in measure(engine).items():
                        found.setdefault(figure, {}).setdefault(title, []).append(value)
    print(f"{'median':<40}" + "".join(f"{title:>22}" for title in engines))
    for figure, values in found.items():
        medians = {title: statistics.median(series) for title, series in values.items()}
        ratio = f"   kitepy/{options.socket[0]} {medians['kitepy'] / medians[options.socket[0]]:.2f}" if len(medians) > 1 else ""
        print(f"{figure:<40}" + "".join(f"{medians[title]:>22.2f}" for title in engines if title in medians) + ratio)
    return 0


if __name__ == "__main__":
    sys.exit(main())
