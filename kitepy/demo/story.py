"""``kitepy demo``: plays what a person does in the app, on a virtual display, and tells each step with its time.

The folder is dropped by a real drag and drop between two X clients, the app and its engine are the ones a user gets,
and the page is fetched from the published port. What the demo made is removed again; an engine that ran before stays.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from kitepy.client import BundledEngine, ClientError, EngineClient, EngineMode, EngineStartError
from kitepy.client.probe import Presence
from kitepy.client.report import lines
from kitepy.demo import drag_source
from kitepy.demo.display import Display, DisplayError, end_process, virtual_display

T = TypeVar("T")

WINDOW_TIMEOUT_S = 30.0
ENGINE_TIMEOUT_S = 60.0
BUILD_TIMEOUT_S = 120.0
PAGE_TIMEOUT_S = 20.0
SHEET_DELAY_S = 0.8
SHEET_TRIES = 8
APP_TITLE = "^Kitepy$|— Kitepy$"
EXAMPLE = Path(__file__).parents[2] / "examples" / "hello-web"


class DemoError(Exception):
    """A step did not work out; the sentence tells which and why."""


def play(screenshot: Path, folder: Path | None = None, keep: bool = False) -> int:
    """Play the story; gives the exit code, 0 when every step worked."""
    dropped = (folder or EXAMPLE).resolve()
    if not (dropped / "Dockerfile").is_file():
        print(f"kitepy demo: there is no Dockerfile in {dropped}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_Story(dropped, screenshot.resolve(), keep).play())
    except (DemoError, DisplayError, ClientError) as error:
        print(f"kitepy demo: FAILED: {error}", file=sys.stderr)
        return 1
    except EngineStartError as error:
        print(f"kitepy demo: FAILED: {error.reason}\n{error.hint}\n{error.log_tail}", file=sys.stderr)
        return 1
    return 0


class _Story:
    def __init__(self, folder: Path, screenshot: Path, keep: bool) -> None:
        self._folder = folder
        self._screenshot = screenshot
        self._keep = keep
        self._engine = BundledEngine()
        self._began = time.monotonic()

    async def play(self) -> None:
        """All steps, and the clean-up whatever happens."""
        had_engine = self._engine.status().presence is Presence.HEALTHY
        if not had_engine:
            await self._check_machine()
        async with AsyncExitStack() as undo:
            files = undo.enter_context(ExitStack())
            display = files.enter_context(virtual_display())
            self._tell(f"virtual display {display.name}")
            output = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
            client = EngineClient(self._engine.paths.socket)
            undo.push_async_callback(client.close)
            if not had_engine:
                undo.push_async_callback(self._stop_engine)
            try:
                await self._act(undo, display, client, output)
            except (DemoError, DisplayError, ClientError) as error:
                self._take_picture(display)
                output.seek(0)
                if said := output.read()[-3000:].decode(errors="replace").strip():
                    raise DemoError(
                        f"{error}\n--- the app's last lines\n{said}\n--- what it looked like: {self._screenshot}"
                    ) from error
                raise
        self._tell(f"done, the picture is {self._screenshot}")

    async def _check_machine(self) -> None:
        """Fail at once, with the commands that help, where no engine can run: the app would wait for a person to run them."""
        if self._engine.paths.mode is EngineMode.ROOT and os.getuid() != 0:
            return  # what an ordinary user lacks doesn't hinder an engine with administrator rights
        found = await self._engine.diagnose()
        if not found.can_run:
            told = "\n".join(lines(found.findings, blocking_only=True))
            raise DemoError(f"no engine can run on this machine yet:\n{told}")

    async def _act(self, undo: AsyncExitStack, display: Display, client: EngineClient, output: BinaryIO) -> None:
        app, window = self._open_app(undo, display, output)
        await self._wait_for_engine(client, app)
        before = await self._inventory(client)
        undo.push_async_callback(self._clean_up, client, before)
        self._drop_folder(display, window)
        await self._confirm(display, window)
        container = await self._wait_for_container(client, before[0], app)
        await self._fetch_page(container)
        await asyncio.sleep(1.0)  # For the picture: let the app draw the request's log line.
        self._take_picture(display)
        end_process(app)
        await self._check_still_running(client, container["Id"])

    def _tell(self, sentence: str) -> None:
        print(f"{time.monotonic() - self._began:7.2f} s  {sentence}", flush=True)

    def _open_app(self, undo: AsyncExitStack, display: Display, output: BinaryIO) -> tuple[subprocess.Popen[bytes], str]:
        began = time.monotonic()
        app = subprocess.Popen(
            [sys.executable, "-m", "kitepy", "--verbose"],
            env=display.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        undo.callback(end_process, app)
        window = display.wait_for_window(APP_TITLE, WINDOW_TIMEOUT_S, app)
        self._tell(f"the window is open, {time.monotonic() - began:.2f} s after the start")
        return app, window

    async def _wait_for_engine(self, client: EngineClient, app: subprocess.Popen[bytes]) -> None:
        async def answers() -> str | None:
            found = self._engine.status()
            return found.version if found.presence is Presence.HEALTHY else None

        version = await self._until(answers, ENGINE_TIMEOUT_S, "the engine did not answer", app)
        await client.ping()
        self._tell(f"the engine {version} answers on {self._engine.paths.socket}")

    async def _inventory(self, client: EngineClient) -> tuple[set[str], set[str]]:
        """The ids of all containers and the names of all images."""
        containers = {str(container["Id"]) for container in await client.containers()}
        images = {str(name) for image in await client.images() for name in image.get("RepoTags") or ()}
        return containers, images

    def _drop_folder(self, display: Display, window: str) -> None:
        command = [sys.executable, "-m", "kitepy.demo.drag_source", str(self._folder)]
        source = subprocess.Popen(
            command, env=display.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            source_window = display.wait_for_window(f"^{drag_source.TITLE}$", WINDOW_TIMEOUT_S, source)
            time.sleep(0.3)  # The window manager may still be placing it.
            display.drag(display.geometry(source_window).centre, display.geometry(window).centre)
            time.sleep(0.5)
        finally:
            end_process(source)
        said = (source.stdout.read() if source.stdout else b"").decode().strip()
        if said != "CopyAction":
            raise DemoError(f"the window did not take the folder (the source says: {said or 'nothing'})")
        self._tell(f"dragged {self._folder} onto the window, and it was taken")

    async def _confirm(self, display: Display, window: str) -> None:
        """Press Enter until the window's title tells that a build began: the sheet itself is no window of its own."""
        for _ in range(SHEET_TRIES):
            await asyncio.sleep(SHEET_DELAY_S)  # A person reads the review sheet.
            if display.title(window) == "Kitepy":
                display.press(window, "Return")
            deadline = time.monotonic() + SHEET_DELAY_S
            while time.monotonic() < deadline:
                if display.title(window) != "Kitepy":
                    self._tell(f"pressed Enter in the review sheet: {display.title(window)}")
                    return
                await asyncio.sleep(0.05)
        raise DemoError("Enter in the review sheet did not begin a build")

    async def _wait_for_container(self, client: EngineClient, before: set[str], app: subprocess.Popen[bytes]) -> dict[str, Any]:
        async def new_and_running() -> dict[str, Any] | None:
            for container in await client.containers():
                if container["Id"] not in before and container["State"] == "running" and _host_port(container):
                    return container
            return None

        container = await self._until(new_and_running, BUILD_TIMEOUT_S, "no container with a published port is running", app)
        name = container["Names"][0].lstrip("/")
        self._tell(f"{container['Image']} was built and runs as {name}, published on port {_host_port(container)}")
        return container

    async def _fetch_page(self, container: dict[str, Any]) -> None:
        url = f"http://127.0.0.1:{_host_port(container)}/"

        async def answers() -> str | None:
            try:
                return await asyncio.to_thread(_fetch, url)
            except (urllib.error.URLError, OSError):
                return None

        page = await self._until(answers, PAGE_TIMEOUT_S, f"{url} does not answer")
        title = page.partition("<title>")[2].partition("</title>")[0] or page[:60]
        self._tell(f"{url} answers: {title}")

    async def _check_still_running(self, client: EngineClient, container_id: str) -> None:
        state = (await client.container(container_id))["State"]
        if not state["Running"]:
            raise DemoError("closing the app ended the container")
        self._tell("closed the app; the container is still running")

    async def _clean_up(self, client: EngineClient, before: tuple[set[str], set[str]]) -> None:
        if self._keep:
            return
        containers, images = await self._inventory(client)
        for container_id in containers - before[0]:
            await client.remove(container_id, force=True, volumes=True)
        for name in images - before[1]:
            await client.remove_image(name)
        self._tell("removed what the demo made")

    async def _stop_engine(self) -> None:
        if not self._keep:
            await self._engine.stop()

    def _take_picture(self, display: Display) -> None:
        command = [sys.executable, "-m", "kitepy.demo.screenshot", str(self._screenshot)]
        done = subprocess.run(command, env=display.environment, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise DemoError(f"the picture could not be taken: {done.stderr.strip()}")

    async def _until(
        self,
        look: Callable[[], Awaitable[T | None]],
        timeout_s: float,
        complaint: str,
        app: subprocess.Popen[bytes] | None = None,
    ) -> T:
        """Look again and again until there is something to be seen."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (found := await look()) is not None:
                return found
            if app is not None and app.poll() is not None:
                raise DemoError(f"the app ended with {app.returncode}")
            await asyncio.sleep(0.1)
        raise DemoError(f"{complaint} within {timeout_s:.0f} s")


def _host_port(container: dict[str, Any]) -> int | None:
    return next((int(port["PublicPort"]) for port in container.get("Ports") or () if port.get("PublicPort")), None)


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # always http://127.0.0.1
        return str(answer.read().decode(errors="replace"))
