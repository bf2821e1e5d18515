"""What pulls, pushes, loads, saves and deletions of a large image take beside other engines, and how much memory each has then.

    python tests/bench/image_speed.py                                     an engine started for this
    python tests/bench/image_speed.py --socket /run/docker.sock --rounds 5

The image has 8 gzip layers, 30,000 files and 435 MB (``--share`` takes less); the registry is Debian's, on the loopback. Run
as root: memory is read from the engines' processes (PSS; the peak of samples). Compare columns of one run, never runs.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import statistics
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.api_speed import Engine  # found only once the path is set
from support import oci
from support.docker_registry import DockerRegistry
from support.engine import EngineUnderTest
from support.image_archives import MadeImage, docker_archive_of

LAYERS, FILES, BYTES = 8, 30_000, 435 << 20
REPOSITORY = "bench/image"


class SampledMemory:
    """The most that an engine's processes had at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> SampledMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, self._engine.memory_mb())
            if self._over.wait(0.05):
                return


def layer(number: int, share: float) -> bytes:
    """Many small files and some large ones; a quarter of them does not compress. The same in every run."""
    rng = random.Random(number)  # noqa: S311 - nothing secret
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))).encode() for _ in range(2000)]
    text, noise = b" ".join(rng.choices(words, k=300_000)), rng.randbytes(1 << 20)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        count, mean = int(FILES * share) // LAYERS, BYTES // FILES
        for index in range(count):
            # One of 75 is as large as all the others in its group.
            size = mean * 75 // 2 if index % 75 == 0 else mean // 2
            source = noise if rng.random() < 0.25 else text
            start = rng.randrange(len(source) - size)
            entry = tarfile.TarInfo(f"data/{number}/{index % 40}/{index}")
            entry.size, entry.mtime = size, 1_700_000_000
            archive.addfile(entry, io.BytesIO(source[start : start + size]))
    return buffer.getvalue()


def store(registry: DockerRegistry, layers: list[bytes]) -> None:
    """Put the image into the registry; compressed once."""
    made = oci.Made(layers, compression="", docker=True)
    blobs = [oci.Blob(gzip.compress(layer, 6, mtime=0), oci.DOCKER_LAYER + ".gzip") for layer in layers]
    for blob in (made.document, *blobs):
        registry.put_blob(REPOSITORY, blob.content, blob.digest)
    document = {
        "schemaVersion": 2,
        "mediaType": oci.DOCKER_MANIFEST,
        "config": made.document.descriptor,
        "layers": [blob.descriptor for blob in blobs],
    }
    registry.put_manifest(REPOSITORY, "1", json.dumps(document).encode(), oci.DOCKER_MANIFEST)


@contextmanager
def engines(sockets: list[str], *, own: bool) -> Iterator[list[Engine]]:
    """An engine of this checkout, and those that listen there."""
    with ExitStack() as stack:
        paths = [str(stack.enter_context(EngineUnderTest()).socket)] if own else []
        yield [Engine(path) for path in (*paths, *sockets)]


def measure(engine: Engine, registry: DockerRegistry, archive: bytes, registry_of_pushes: DockerRegistry) -> dict[str, float]:
    """One round; each figure is for the same image."""
    name, pushed = f"{registry.host}/{REPOSITORY}:1", f"{registry_of_pushes.host}/{REPOSITORY}-{time.monotonic_ns()}"
    found: dict[str, float] = {}

    def timed(what: str, method: str, target: str, body: Any = None) -> bytes:
        with SampledMemory(engine) as memory:
            began = time.perf_counter()
            answer = engine.ask(method, target, body)
            found[f"{what} (s)"] = time.perf_counter() - began
        found[f"{what} peak (MB)"] = memory.peak_mb
        if b'"error"' in answer[-2000:]:
            raise RuntimeError(f"{what}: {answer[-500:]!r}")
        return answer

    timed("pull", "POST", f"/images/create?fromImage={registry.host}/{REPOSITORY}&tag=1")
    timed("delete", "DELETE", f"/images/{name}")
    timed("load", "POST", "/images/load?quiet=1", archive)
    timed("save", "GET", "/images/bench-image:1/get")
    engine.ask("POST", f"/images/bench-image:1/tag?repo={pushed}&tag=1")
    timed("push", "POST", f"/images/{pushed}/push?tag=1")
    engine.ask("DELETE", f"/images/{pushed}:1")
    engine.ask("DELETE", "/images/bench-image:1")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", action="append", default=[], help="another engine's; may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--running", action="store_true", help="start none; the first socket is of the engine in question")
    parser.add_argument("--share", type=float, default=1.0, help="how much of the image, e.g. 0.1")
    parser.add_argument("--json", help="write all samples to this file")
    options = parser.parse_args()
    layers = [layer(number, options.share) for number in range(LAYERS)]
    archive = docker_archive_of(MadeImage(layers, tags=["bench-image:1"]))
    with DockerRegistry() as registry, DockerRegistry() as pushes, engines(options.socket, own=not options.running) as measured:
        store(registry, layers)
        samples: list[dict[str, list[float]]] = [{} for _ in measured]
        for number in range(options.rounds):
            # Each engine is first as often as it is last.
            for index in range(len(measured)) if number % 2 == 0 else reversed(range(len(measured))):
                for what, value in measure(measured[index], registry, archive, pushes).items():
                    samples[index].setdefault(what, []).append(value)
    report(samples, options.socket if options.running else ["this checkout", *options.socket])
    if options.json:
        Path(options.json).write_text(json.dumps(samples))


def report(samples: list[dict[str, list[float]]], titles: list[str]) -> None:
    """Medians, and ratios to the first other engine."""
    print("".join(f"{title:>28}" for title in ["", *titles]))
    for what in samples[0]:
        medians = [statistics.median(of[what]) for of in samples]
        ratio = f"{medians[0] / medians[1]:28.2f} ×" if len(medians) > 1 and medians[1] else ""
        print(f"{what:>28}" + "".join(f"{median:28.2f}" for median in medians) + ratio)


if __name__ == "__main__":
    main()
