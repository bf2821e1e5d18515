"""How long the runtime takes: start to exit of ``true``, exec of ``true``, log throughput, a monitor's memory.

Run as root: ``.venv/bin/python tests/bench/runtime_speed.py [rounds]``. It prints figures and judges nothing: compare runs on
one machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.runtime_lab import Lab, default_seccomp, make_document, make_process, read_all

from kitepy.engine.runtime.client import ExecRequest
from kitepy.engine.runtime.streams import AttachWish


def report(name: str, times_s: list[float]) -> None:
    """One line: median, best and worst in milliseconds."""
    figures = (statistics.median(times_s), min(times_s), max(times_s))
    print(f"{name:34}" + "".join(f"{1000 * value:9.1f}" for value in figures))


async def measure(lab: Lab, rounds: int) -> None:
    """All the figures, one after the other."""
    print(f"{'milliseconds':34}{'median':>9}{'best':>9}{'worst':>9}")
    document = make_document(["true"])
    document["linux"]["resources"] = {"memory": {"limit": 256 << 20}, "pids": {"limit": 100}}
    requests = [lab.request(document) for _ in range(rounds)]
    starts, ends = [], []
    for request in requests:
        begun = time.perf_counter()
        container = await lab.start(request)
        starts.append(time.perf_counter() - begun)
        await container.exited
        ends.append(time.perf_counter() - begun)
    report("start of true: until it executes", starts)
    report("start of true: until exit is known", ends)
    sleeper = await lab.start(lab.request(make_document(["sleep", "1000"])))
    ends = []
    for number in range(rounds):
        begun = time.perf_counter()
        running = await sleeper.exec(ExecRequest(f"x{number}", make_process(["true"]), default_seccomp()))
        await running.exited
        ends.append(time.perf_counter() - begun)
        await running.close()
    report("exec of true: until exit is known", ends)
    begun = time.perf_counter()
    await asyncio.gather(*[_run_once(lab) for _ in range(20)])
    print(f"20 starts of true at once{1000 * (time.perf_counter() - begun):18.1f}")
    script = (
        "yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456 | head -200000"
    )
    for attach in ((), (AttachWish(),)):
        begun = time.perf_counter()
        container = await lab.start(lab.request(make_document(["sh", "-c", script])), attach)
        for stream in container.attached:
            await read_all(stream)
        await container.exited
        print(f"200,000 lines to the log{', attached' if attach else '':10}{1000 * (time.perf_counter() - begun):9.1f}")
    several = [await lab.start(lab.request(make_document(["sleep", "1000"]))) for _ in range(9)]
    monitor = json.loads((several[4].state_dir / "status.json").read_text())["monitor_pid"]
    rollup = dict(line.split(":") for line in Path(f"/proc/{monitor}/smaps_rollup").read_text().splitlines()[1:])
    print(f"memory of one of ten monitors: PSS {rollup['Pss'].strip()}, private {rollup['Private_Dirty'].strip()}")


async def _run_once(lab: Lab) -> None:
    await (await lab.start(lab.request(make_document(["true"])))).exited


def main() -> None:
    """Measure in a fresh directory."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as directory:
        lab = Lab(Path(directory))
        lab.run(lambda: measure(lab, rounds))


if __name__ == "__main__":
    main()
