"""The ``kitepy`` command: opens the app, or does a little for scripts; Qt is loaded for the app alone."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kitepy import __version__

if TYPE_CHECKING:
    from kitepy.client.paths import EnginePaths

_SUBCOMMANDS = ("demo", "doctor", "engine")
_TLS = "tls"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; gives the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # By hand, since argparse can't tell a folder from a subcommand: ./demo is a folder, demo the subcommand.
    if arguments and arguments[0] == _TLS:
        return _tls(arguments[1:])
    if arguments and arguments[0] in _SUBCOMMANDS:
        options = _subcommand_parser().parse_args(arguments)
        match options.subcommand:
            case "demo":
                return _demo(options)
            case "doctor":
                return _doctor(options)
            case _:
                return _engine(options)
    options = _app_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return _open_app(options.paths, options.engine)


def _app_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kitepy",
        description="Containers on the desktop, with an engine of their own.",
        epilog="Subcommands: kitepy engine start|stop|status|reset|enable|disable, kitepy doctor, kitepy tls, kitepy demo. "
        "See kitepy SUBCOMMAND --help.",
    )
    parser.add_argument("--version", action="version", version=f"kitepy {__version__}")
    parser.add_argument("--verbose", action="store_true", help="tell on standard error what the app does")
    _add_mode(parser)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", type=Path, help="a folder with a Dockerfile, or a Dockerfile, to build"
    )
    return parser


def _subcommand_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kitepy")
    subcommands = parser.add_subparsers(dest="subcommand", required=True)
    engine = subcommands.add_parser("engine", help="start, stop, look at or empty this user's engine")
    engine.add_argument("action", choices=("start", "stop", "status", "reset", "enable", "disable"))
    _add_mode(engine)
    engine.add_argument("--yes", action="store_true", help="reset without asking: remove all images, containers and volumes")
    doctor = subcommands.add_parser("doctor", help="tell what keeps containers from running here, and what to do about it")
    doctor.add_argument("--json", action="store_true", help="for programs: the findings as JSON")
    demo = subcommands.add_parser("demo", help="play the whole story on a virtual display, from a dropped folder to a page")
    demo.add_argument(
        "--screenshot", type=Path, default=Path("demo.png"), metavar="FILE", help="where the picture goes (demo.png)"
    )
    demo.add_argument("--folder", type=Path, metavar="PATH", help="the folder to drop (examples/hello-web)")
    demo.add_argument("--keep", action="store_true", help="leave the container and its image")
    return parser


def _add_mode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=("rootless", "root"),
        help="whose rights the engine has this time: yours, or the administrator's through sudo or pkexec",
    )


def _tls(arguments: Sequence[str]) -> int:
    # Loaded for this subcommand alone: cryptography is slow to load.
    from kitepy.client.tls_command import add_arguments, run

    parser = argparse.ArgumentParser(
        prog="kitepy tls", description="Certificates for an engine that other machines use through a TCP port."
    )
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def _open_app(paths: Sequence[Path], mode: str | None) -> int:
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")):
        print("kitepy: there is no display here. `kitepy demo` plays the story on a virtual one.", file=sys.stderr)
        return 1
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        print(f"kitepy: there is no {missing[0]}", file=sys.stderr)
        return 2
    from kitepy.gui.app import run

    return run([str(path.resolve()) for path in paths], engine_mode=mode or "")


def _demo(options: argparse.Namespace) -> int:
    from kitepy.demo.story import play

    return play(screenshot=options.screenshot, folder=options.folder, keep=options.keep)


def _reset(paths: EnginePaths, *, agreed: bool) -> int:
    if not agreed:
        print(f"This removes all images, containers and volumes in {paths.data_root}; there is no way back.")
        if not sys.stdin.isatty() or input("Type yes to do it: ").strip() != "yes":
            print("Nothing was removed. In scripts: kitepy engine reset --yes", file=sys.stderr)
            return 1
    places = ("--data-root", paths.data_root, "--exec-root", paths.exec_root, "--pidfile", paths.pidfile)
    return subprocess.run([sys.executable, "-m", "kitepy.engine.reset", *map(str, places), "--yes"], check=False).returncode


def _engine(options: argparse.Namespace) -> int:
    from kitepy.client.bundled import BundledEngine
    from kitepy.client.elevation import WHY
    from kitepy.client.errors import EngineStartError
    from kitepy.client.paths import EnginePaths
    from kitepy.client.preferences import EngineMode
    from kitepy.client.probe import Presence

    bundled = BundledEngine(EnginePaths.default(mode=EngineMode(options.engine) if options.engine else None))
    try:
        match options.action:
            case "start":
                info = bundled.ensure_running_blocking()
                how = "was running" if info.adopted else "started"
                if info.elevated_by:
                    print(f"{WHY} It was started with {info.elevated_by}.")
                print(f"The engine {info.version} {how} (process {info.pid}) on unix://{bundled.paths.socket}")
                return 0
            case "stop":
                stopped = bundled.stop_blocking()
                print("The engine ended; its containers keep running." if stopped else "There is no engine to stop.")
                return 0
            case "enable" | "disable":
                from kitepy.client import service

                change = service.enable if options.action == "enable" else service.disable
                print(change(os.environ))
                return 0
            case "reset":
                return _reset(bundled.paths, agreed=options.yes)
            case _:
                found = bundled.status()
                print(f"{found.presence.value}: unix://{bundled.paths.socket}", found.detail)
                if found.presence is not Presence.HEALTHY:
                    return 3  # As systemctl status: not running.
                print(f"version {found.version or 'of another engine'}, process {found.pid}")
                return 0
    except EngineStartError as error:
        if error.findings:
            from kitepy.client.report import lines

            print("kitepy: the engine can't run on this machine yet:\n", file=sys.stderr)
            print("\n".join(lines(error.findings, blocking_only=True)), file=sys.stderr)
            return 1
        print(f"kitepy: {error.reason}\n{error.hint}", file=sys.stderr)
        if error.log_tail:
            print(f"--- the engine's last lines\n{error.log_tail.rstrip()}", file=sys.stderr)
        return 1


def _doctor(options: argparse.Namespace) -> int:
    from kitepy.client.bundled import BundledEngine
    from kitepy.client.errors import EngineStartError
    from kitepy.client.report import document, report

    bundled = BundledEngine()
    try:
        diagnosis = bundled.diagnose_blocking()
    except EngineStartError as error:
        print(f"kitepy: {error.reason}\n{error.hint}\n{error.log_tail}".rstrip(), file=sys.stderr)
        return 1
    found = bundled.status()
    if options.json:
        print(json.dumps(document(diagnosis, found, bundled.paths), indent=2))
    else:
        print(report(diagnosis, found, bundled.paths))
    return 0 if diagnosis.can_run else 1
