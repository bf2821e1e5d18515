"""``make bench``: times the engine's hot paths, side by side for any number of engines, and prints a small table.

    make bench                                             an engine started for this
    make bench ARGS="--socket /run/docker.sock --rounds 50"   another one beside it

Figures depend on the machine: compare columns of one run, never runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import docker

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.engine import EngineUnderTest  # found only once the path is set
from support.images import load_busybox


def life_of_true(api: docker.APIClient, image: str) -> float:
    """Create, start, wait for and remove a container that runs ``true`` on the default bridge."""
    began = time.perf_counter()
    container = api.create_container(image, ["true"])["Id"]
    api.start(container)
    api.wait(container)
    api.remove_container(container)
    return time.perf_counter() - began


def exec_of_true(api: docker.APIClient, container: str) -> float:
    """Run ``true`` in a running container and read its end."""
    began = time.perf_counter()
    process = api.exec_create(container, ["true"])["Id"]
    api.exec_start(process)
    return time.perf_counter() - began


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", action="append", default=[], metavar="PATH", help="another engine to measure beside")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with ExitStack() as stack:
        engine = stack.enter_context(EngineUnderTest())
        urls = {"kitepy": engine.url, **{path: f"unix://{path}" for path in options.socket}}
        clients = {name: docker.DockerClient(base_url=url, version="auto") for name, url in urls.items()}
        print(f"{'ms, median of ' + str(options.rounds):<28}" + "".join(f"{name:>24}" for name in clients))
        life: dict[str, list[float]] = {name: [] for name in clients}
        execs: dict[str, list[float]] = {name: [] for name in clients}
        images = {name: load_busybox(client) for name, client in clients.items()}
        sleepers = {name: client.containers.run(images[name], ["sleep", "600"], detach=True) for name, client in clients.items()}
        for sleeper in sleepers.values():
            stack.callback(sleeper.remove, force=True)
        # Taking turns spreads the machine's moods evenly.
        for _ in range(options.rounds):
            for name, client in clients.items():
                life[name].append(life_of_true(client.api, images[name]))
                execs[name].append(exec_of_true(client.api, sleepers[name].id))
        for title, samples in (("create start wait remove", life), ("exec", execs)):
            print(f"{title:<28}" + "".join(f"{statistics.median(samples[name]) * 1000:>24.1f}" for name in clients))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
