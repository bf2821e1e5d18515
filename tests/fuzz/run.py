"""Feed hostile archives to what reads them, until the time is over: ``make fuzz ARGS="--seconds 600"``.

With atheris (``pip install atheris``) coverage leads the way; without it, hypothesis chooses. What unpacks does so in a process
that has given up everything but a small file system in memory, as the engine's workers do. A finding ends it, and is printed
in base64.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib.util
import os
import random
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.archives import CHECKS, SEEDS, an_archive
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from kitepy.engine.kernel import mounts
from kitepy.engine.storage import compression, confinement, extract, tar


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=[*CHECKS, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--examples", type=int, default=1_000_000, help="of each target at most")
    parser.add_argument("--seed", type=int, default=None, help="to have the same examples again (hypothesis)")
    parser.add_argument("--no-coverage", action="store_true", help="hypothesis even where atheris is there")
    options = parser.parse_args()
    targets = list(CHECKS) if options.target == "all" else [options.target]
    if "extraction" in targets and os.geteuid() != 0:
        print("extraction: left out, since only root can confine it")
        targets.remove("extraction")
    with tempfile.TemporaryDirectory() as options.place:
        return run_all(targets, options)


def run_all(targets: list[str], options: argparse.Namespace) -> int:
    """Each in a process of its own."""
    failed = 0
    for target in targets:
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(KeyboardInterrupt):
                code = run(target, options, options.seconds / len(targets))
            sys.stdout.flush()
            os._exit(code)
        failed |= os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 1 if failed else 0


def run(target: str, options: argparse.Namespace, seconds: float) -> int:
    """One target, in a process of its own."""
    counted = Counted(CHECKS[target], time.monotonic() + seconds, options.examples)
    # Where there is no way out, there is none to atheris' corpus and libraries either.
    guided = not options.no_coverage and target != "extraction" and importlib.util.find_spec("atheris") is not None
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(SEEDS):
            Path(corpus, str(number)).write_bytes(data)
        if guided:
            import atheris

            for module in (tar, extract, compression):
                instrument(module, atheris.instrument_func)
            atheris.Setup(
                [sys.argv[0], f"-max_total_time={int(seconds)}", f"-runs={options.examples}", "-max_len=8192", corpus], counted
            )
        explore(Counted(lambda _: None, time.monotonic() + 2, 40), options.seed)  # for what is imported late
        if target == "extraction":
            confine(options.place)
        print(f"{target}: {'atheris' if guided else 'hypothesis'}, at most {seconds:g} s", flush=True)
        if guided:
            atheris.Fuzz()  # ends the process
        else:
            explore(counted, options.seed)
    print(f"{target}: {counted.count} examples, nothing found", flush=True)
    return 0


def instrument(module: types.ModuleType, one: Callable[[Callable[..., Any]], object]) -> None:
    """Have the branches of a module's own functions and methods counted."""
    for found in vars(module).values():
        for function in vars(found).values() if isinstance(found, type) else (found,):
            if isinstance(function, types.FunctionType) and function.__module__ == module.__name__:
                one(function)


class Counted:
    """A check that tells what it fails at, and lets everything pass once its time is over."""

    def __init__(self, check: Callable[[bytes], None], until: float, most: int) -> None:
        self._check = check
        self._until = until
        self._most = most
        self.count = 0

    def __call__(self, data: bytes) -> None:
        if self.over:
            return
        self.count += 1
        try:
            self._check(data)
        except BaseException:
            print(f"found: {base64.b64encode(data).decode()}", flush=True)
            raise

    @property
    def left(self) -> int:
        return self._most - self.count

    @property
    def over(self) -> bool:
        return self.left <= 0 or time.monotonic() > self._until


def explore(counted: Counted, start: int | None) -> None:
    """By hypothesis: rounds of examples until the time is over."""
    first = start if start is not None else int.from_bytes(os.urandom(4))
    number = 0
    while not counted.over:

        @seed(first + number)
        @settings(
            max_examples=min(200, counted.left),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.randoms(use_true_random=True))
        def check(rng: random.Random) -> None:
            counted(an_archive(rng))

        check()
        number += 1


def confine(place: str) -> None:
    """Become what a worker is: the root a small file system in memory, and no way out of it."""
    confinement.worker_filter()  # compiled while modules can be loaded
    confinement.enter_private_mounts()
    tree_fd = mounts.new_filesystem("tmpfs", "fuzz", [("size", "32m"), ("mode", "755")], 0)
    target_fd = os.open(place, os.O_PATH | os.O_DIRECTORY)
    mounts.attach_tree(tree_fd, target_fd, place)
    os.close(tree_fd)
    os.close(target_fd)
    os.umask(0)
    confinement.chroot_into(place)


if __name__ == "__main__":
    sys.exit(main())
