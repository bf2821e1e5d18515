"""Draws every screen of the app, light and dark, at scale 1 and 1.5: `python -m tests.support.screenshots [FOLDER]`.

Each combination is a process of its own, since Qt takes its scale once; all run on a private X display.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

if TYPE_CHECKING:
    from PySide6.QtWidgets import QAbstractButton
    from support.fake_gateway import FakeGateway

    from kitepy.gui.app import Session
    from kitepy.gui.models.system_check import SystemCheck

DOCKERFILE = """\
FROM kitepy/starter
LABEL org.opencontainers.image.title="Hello"
COPY www /www
WORKDIR /www
RUN make assets
EXPOSE 8080
CMD ["httpd", "-f", "-v", "-p", "8080", "-h", "/www"]
"""

LOG = (
    "\x1b[2mhttpd 1.35.0\x1b[0m listening on \x1b[36m0.0.0.0:8080\x1b[0m",
    "\x1b[32mINFO\x1b[0m  serving /www",
    '\x1b[32mINFO\x1b[0m  127.0.0.1 "GET / HTTP/1.1" \x1b[32m200\x1b[0m 1432 3 ms',
    '\x1b[32mINFO\x1b[0m  127.0.0.1 "GET /style.css HTTP/1.1" \x1b[32m200\x1b[0m 604 1 ms',
    '\x1b[33mWARN\x1b[0m  127.0.0.1 "GET /favicon.ico HTTP/1.1" \x1b[33m404\x1b[0m 0 1 ms',
    "\x1b[31mERROR\x1b[0m could not write to /www/cache: Read-only file system",
)


def _machine(**facts: object) -> SystemCheck:
    """A machine's findings in the engine's own words."""
    from kitepy.engine.rootless.checks import check
    from kitepy.engine.rootless.facts import CgroupFacts, Facts, IdFile, Tool
    from kitepy.gui.models.system_check import Finding, Fix, Severity, SystemCheck

    good = Facts(
        user="ada",
        uid=1000,
        gids=frozenset({1000}),
        python="/usr/bin/python3.12",
        newuidmap=Tool("/usr/bin/newuidmap"),
        newgidmap=Tool("/usr/bin/newgidmap"),
        subuid=IdFile("ada:100000:65536"),
        subgid=IdFile("ada:100000:65536"),
        pasta=Tool("/usr/bin/pasta", version="2024_02_20"),
        cgroups=CgroupFacts(2, frozenset({"cpu", "memory", "pids"})),
        data_root="/home/ada/.local/share/kitepy",
    )
    return SystemCheck(
        tuple(
            Finding(
                each.id,
                Severity(each.severity.value),
                each.summary,
                each.meaning,
                tuple(Fix(fix.command, fix.about) for fix in each.fixes),
            )
            for each in check(replace(good, **facts))  # type: ignore[arg-type]  # names are checked by replace
        )
    )


def _blocked_machine() -> SystemCheck:
    from kitepy.engine.rootless.facts import IdFile, NamespaceProbe

    probe = NamespaceProbe(others="Permission denied", ids=None, proc=None, overlay=None, bridge=None, rules=None)
    return _machine(apparmor_restricts=True, namespaces=probe, subuid=IdFile(""), subgid=IdFile(""))


def _degraded_machine() -> SystemCheck:
    from kitepy.engine.rootless.facts import Node

    return _machine(tun=Node.DENIED, ping_groups=(1, 0))


def main() -> int:
    if len(sys.argv) == 4 and sys.argv[1] == "--one":
        return _draw(Path(sys.argv[2]), sys.argv[3])
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "screenshots").absolute()
    target.mkdir(parents=True, exist_ok=True)
    from kitepy.demo.display import virtual_display

    with virtual_display(2200, 1500) as display:
        for scale in ("1", "1.5"):
            for look in ("light", "dark"):
                environment = {**display.environment, "QT_SCALE_FACTOR": scale}
                command = [sys.executable, __file__, "--one", str(target), f"{look}-{scale}"]
                subprocess.run(command, env=environment, check=True, timeout=300)
    print(f"{len(list(target.glob('*.png')))} pictures in {target}")
    return 0


def _draw(target: Path, variant: str) -> int:
    import qasync

    from kitepy.gui.app import Desk, Session, make_application
    from kitepy.gui.settings import Settings
    from kitepy.gui.theme import ThemeChoice

    app = make_application()
    with tempfile.TemporaryDirectory() as home:
        os.environ["KITEPY_HOME"] = home
        settings = Settings(home)
        settings.theme = ThemeChoice(variant.split("-")[0])
        desk = Desk(app, settings)
        desk.window.show()
        loop = qasync.QEventLoop(app)
        with loop:
            loop.run_until_complete(_Tour(desk, Session, target, variant, Path(home)).walk())
    return 0


class _Tour:
    def __init__(self, desk: object, session: Callable[..., object], target: Path, variant: str, home: Path) -> None:
        self.desk, self.make_session, self.target, self.variant, self.home = desk, session, target, variant, home
        self.count = 0

    async def walk(self) -> None:
        from PySide6.QtWidgets import QAbstractButton, QLineEdit
        from support import registry_screens
        from support.fake_gateway import FakeGateway

        from kitepy.gui.gateway.port import EngineUnavailable
        from kitepy.gui.models.container import Status
        from kitepy.gui.models.preview import Preview
        from kitepy.gui.models.state import DISCOVER, IMAGES, Navigated, Page, Route
        from kitepy.gui.models.system_check import Severity, SystemCheck

        desk = self.desk
        await self.shot("starting")
        gateway = FakeGateway(build_pause_s=0.15)
        session = self.make_session(desk, gateway)
        gateway.start_failure = EngineUnavailable(
            "The engine ended while starting: it needs nftables to publish ports, and nft wasn't found.",
            "sudo apt-get install nftables",
            "INFO kitepy.engine: data root /var/lib/kitepy, 0 containers\n"
            "INFO kitepy.engine: cgroup v1 at /sys/fs/cgroup\n"
            "ERROR kitepy.engine: nft: No such file or directory",
        )
        session.engine.start()
        await asyncio.sleep(0.3)
        await self.shot("failure")
        gateway.start_failure = EngineUnavailable("blocked", check=_blocked_machine())
        desk.intents.retry_engine.emit()
        await asyncio.sleep(0.3)
        await self.shot("doctor-blocked")
        desk.intents.choose_rights.emit(True)
        await self.shot("doctor-price")
        desk.window.findChild(QAbstractButton, "confirm-no").click()
        gateway.start_failure = None
        gateway.system = _degraded_machine()
        desk.intents.check_system.emit()
        await asyncio.sleep(0.4)
        desk.intents.open_doctor.emit()
        await asyncio.sleep(0.3)
        await self.shot("doctor-degraded")
        gateway.system = SystemCheck(_degraded_machine().of(Severity.FINE))
        desk.intents.check_system.emit()
        await asyncio.sleep(0.3)
        await self.shot("doctor-fine")
        desk.store.dispatch(Navigated(DISCOVER))
        await self.shot("discover-empty")
        desk.store.dispatch(Navigated(IMAGES))
        await self.shot("images-empty")
        desk.store.dispatch(Navigated(DISCOVER))

        gateway.add_image("kitepy/starter:latest", size_bytes=2_100_000, age_s=3 * 3600)
        shared = {"shared_bytes": 78_000_000}
        gateway.add_image("team/reports:1.4", "team/reports:latest", size_bytes=184_000_000, age_s=86400 * 3, **shared)
        digest = ("postgres@sha256:" + "7" * 64,)
        gateway.add_image("postgres:16", size_bytes=431_000_000, age_s=86400 * 20, digests=digest, **shared)
        gateway.add_image(size_bytes=88_000_000, age_s=86400 * 40)
        gateway.add_container("reports-worker", "team/reports:1.4", Status.EXITED, exit_code=1)
        gateway.add_container("database", "postgres:16", Status.RUNNING, ports=())
        gateway.add_container("old-site", "team/reports:1.4", Status.EXITED, exit_code=143)
        gateway.add_container("batch", "kitepy/starter", Status.PAUSED, ports=())
        desk.intents.refresh.emit()
        await asyncio.sleep(0.4)
        await self.shot("discover")
        desk.store.dispatch(Navigated(IMAGES))
        await self.shot("images")
        await self._images(gateway)
        await self._resources(gateway, session)
        await registry_screens.walk(desk, session, gateway, self.shot)
        desk.store.dispatch(Navigated(DISCOVER))
        desk.window.overlay.cover("hello-web")
        await self.shot("drop")
        desk.window.overlay.hide()

        project = self.home / "hello-web"
        (project / "www").mkdir(parents=True)
        (project / "Dockerfile").write_text(DOCKERFILE)
        (project / "www" / "index.html").write_text("<title>Hello</title>" * 300)
        (project / ".dockerignore").write_text("*.log\n")
        (project / "debug.log").write_text("x")
        desk.intents.build_paths.emit([str(project)])
        await self.button("review-run")
        await self.shot("review")
        gateway.page = Preview(
            url="",
            status=200,
            reason="OK",
            title="Hello from Kitepy",
            excerpt="Hello from Kitepy. This page comes out of a container that was built a moment ago.",
            content_type="text/html",
            server="busybox httpd",
            latency_ms=12.4,
        )
        gateway.hold_build = asyncio.Event()
        (await self.button("review-run")).click()
        await asyncio.sleep(1.6)
        await self.shot("build")
        gateway.hold_build.set()
        await asyncio.sleep(0.8)
        container_id = desk.store.state.route.key
        for number in range(30):
            gateway.write_log(container_id, LOG[number % len(LOG)], "stderr" if "ERROR" in LOG[number % len(LOG)] else "stdout")
        await asyncio.sleep(0.4)
        await self.shot("container-home")
        page = desk.window.container
        page.tabs.setCurrentIndex(1)
        page.logs.findChild(QAbstractButton, "log-timestamps").setChecked(True)
        page.logs.findChild(QLineEdit, "log-search").setText("favicon")
        await asyncio.sleep(0.3)
        await self.shot("container-logs")
        page.tabs.setCurrentIndex(2)
        await self.shot("container-inspect")
        page.tabs.setCurrentIndex(0)
        from kitepy.gui.models.actions import ContainerAction

        desk.intents.act.emit(ContainerAction.REMOVE, container_id)
        await self.shot("remove")
        desk.window.findChild(QAbstractButton, "confirm-no").click()
        failed = next(container for container in gateway.containers_by_id.values() if container.name == "reports-worker")
        desk.store.dispatch(Navigated(Route(Page.CONTAINER, failed.id)))
        await asyncio.sleep(0.2)
        desk.presenter.tell("Copied the address.")
        desk.presenter.warn("Bind for 0.0.0.0:8080 failed: port is already allocated.")
        await self.shot("container-stopped")
        gateway.hold_build = None
        gateway.build_failure = "The command '/bin/sh -c make assets' returned a non-zero code: 127"
        desk.intents.build_paths.emit([str(project)])
        await asyncio.sleep(0.5)
        (await self.button("review-run")).click()
        await asyncio.sleep(1.3)
        await self.shot("build-failed")
        await session.close()

    async def _images(self, gateway: FakeGateway) -> None:
        """One image looked into, and the questions about images."""
        from PySide6.QtWidgets import QAbstractButton, QLineEdit, QTabBar, QTreeView

        from kitepy.gui.models.state import IMAGES, Navigated, Page, Route
        from kitepy.gui.models.transfer import TransferMessage

        desk = self.desk
        press = lambda name: desk.window.findChild(QAbstractButton, name).click()  # noqa: E731 - one line, used often
        reports = next(image for image in gateway.images_by_id.values() if "team/reports:1.4" in image.tags)
        desk.store.dispatch(Navigated(Route(Page.IMAGES, reports.id)))
        await asyncio.sleep(0.3)
        desk.intents.look_at_layer.emit(2, True)
        await asyncio.sleep(0.2)
        tree = desk.window.findChild(QTreeView, "image-files")
        tree.expand(tree.model().index(0, 0))
        await asyncio.sleep(0.2)
        await self.shot("image-layers")
        desk.intents.look_at_layer.emit(3, False)
        await asyncio.sleep(0.2)
        await self.shot("image-layers-all")
        tabs = desk.window.findChild(QTabBar, "image-tabs")
        tabs.setCurrentIndex(1)
        await self.shot("image-waste")
        tabs.setCurrentIndex(2)
        await self.shot("image-about")
        tabs.setCurrentIndex(0)
        desk.intents.tag_image.emit(reports.id)
        desk.window.findChild(QLineEdit, "tag-name").setText("postgres:16")
        await self.shot("image-tag")
        press("tag-image-no")
        desk.intents.push_image.emit(reports.id)
        desk.window.findChild(QLineEdit, "push-name").setText("registry.example.com/team/reports:1.4")
        await self.shot("image-push")
        gateway.hold_push = asyncio.Event()
        gateway.push_messages = [
            TransferMessage("The push refers to repository [registry.example.com/team/reports]"),
            *(TransferMessage("Preparing", layer * 12) for layer in "abcd"),
            TransferMessage("Layer already exists", "a" * 12),
            TransferMessage("Pushing", "b" * 12, 31_000_000, 92_000_000),
            TransferMessage("Pushing", "c" * 12, 12_500_000, 14_000_000),
        ]
        press("push-image-yes")
        await asyncio.sleep(0.3)
        await self.shot("image-pushing")
        gateway.push_failure = "push access denied for team/reports: denied: requested access to the resource is denied"
        gateway.hold_push.set()
        await asyncio.sleep(0.2)
        desk.store.dispatch(Navigated(IMAGES))
        await self.shot("image-push-failed")
        desk.intents.untag_image.emit(reports.id, "team/reports:latest")
        await asyncio.sleep(0.3)
        await self.shot("image-untagged")
        desk.intents.prune_images.emit()
        await asyncio.sleep(0.3)
        await self.shot("images-prune")
        press("prune-images-no")
        desk.intents.remove_image.emit(reports.id)
        await self.shot("image-in-use")
        press("choice-no")
        for job_id in list(desk.store.state.jobs):
            desk.intents.dismiss_job.emit(job_id)

    async def _resources(self, gateway: FakeGateway, session: Session) -> None:
        """Volumes, networks and ports, with their questions."""
        from PySide6.QtWidgets import QAbstractButton, QLineEdit, QTreeView

        from kitepy.gui.models.actions import ContainerAction
        from kitepy.gui.models.container import Attachment, Mount, Port, Status
        from kitepy.gui.models.network import Subnet
        from kitepy.gui.models.ports import Listener
        from kitepy.gui.models.state import NETWORKS, PORTS, VOLUMES, Navigated, Page, Route

        desk = self.desk
        press = lambda name: desk.window.findChild(QAbstractButton, name).click()  # noqa: E731 - one line, used often
        desk.store.dispatch(Navigated(VOLUMES))
        await self.shot("volumes-empty")
        pair = (Subnet("172.20.0.0/16", "172.20.0.1"), Subnet("fd00:20::/64", "fd00:20::1"))
        shop = gateway.add_network("shop", "bridge", *pair, ipv6=True)
        gateway.add_network("backend", "bridge", Subnet("172.21.0.0/16", "172.21.0.1"), internal=True)
        shop_web = gateway.add_container(
            "shop-web",
            "team/shop:1.4",
            ports=(Port(80, "tcp", "0.0.0.0", 8080), Port(80, "tcp", "::", 8080), Port(53, "udp", "127.0.0.1", 5353)),
            mounts=(Mount("volume", "uploads", "/srv/uploads", False),),
            networks=(Attachment(shop.id, "shop", "172.20.0.2", "fd00:20::2", "02:42:ac:14:00:02"),),
        )
        gateway.add_volume("uploads", 431_000_000, labels={"com.docker.compose.project": "shop"})
        gateway.add_volume("old-cache", 1_840_000_000)
        gateway.add_volume("9f" * 32, 88_000)
        gateway.files = {"/2026/plan.txt": b"colour = red\n" * 40, "/README": b"Uploads\n", "/photo.jpg": b"\0" * 81_000}
        gateway.listeners = [
            Listener("tcp", "0.0.0.0", 22, user="root"),
            Listener("tcp", "127.0.0.1", 631, "cupsd", 812, "root"),
            Listener("tcp", "0.0.0.0", 8081, "node", 40112, "ada"),
        ]
        desk.intents.refresh.emit()
        await asyncio.sleep(0.4)
        await self.shot("volumes")
        desk.intents.prune_volumes.emit()
        await self.shot("volumes-prune")
        press("prune-volumes-no")
        desk.intents.remove_volume.emit("uploads")
        await self.shot("volume-in-use")
        press("choice-no")
        desk.store.dispatch(Navigated(Route(Page.VOLUMES, "uploads")))
        await asyncio.sleep(0.2)
        tree = desk.window.findChild(QTreeView, "volume-files")
        tree.expand(tree.model().index(0, 0))
        await asyncio.sleep(0.2)
        tree.setCurrentIndex(tree.model().index(0, 0, tree.model().index(0, 0)))
        gateway.hold_copy = asyncio.Event()
        session.volumes._presenter.ask_save_path = lambda _title, suggestion, go: go(self.home / suggestion)
        press("volume-detail-back-up")
        await self.shot("volume")
        gateway.hold_copy.set()
        desk.store.dispatch(Navigated(NETWORKS))
        await self.shot("networks")
        desk.intents.create_network.emit()
        desk.window.findChild(QLineEdit, "new-network-name").setText("x")
        desk.window.findChild(QLineEdit, "new-network-subnet").setText("172.20.4.0/24")
        await self.shot("network-create")
        press("new-network-no")
        desk.store.dispatch(Navigated(Route(Page.NETWORKS, shop.id)))
        await self.shot("network")
        desk.store.dispatch(Navigated(PORTS))
        desk.window.findChild(QLineEdit, "port-wanted").setText("8080")
        await asyncio.sleep(0.5)
        await self.shot("ports")
        late = gateway.add_container("late", "team/shop:1.4", Status.CREATED)
        gateway.start_failures[late.id] = "Bind for 0.0.0.0:8080 failed: port is already allocated."
        desk.intents.refresh.emit()
        await asyncio.sleep(0.3)
        desk.intents.act.emit(ContainerAction.START, late.id)
        await asyncio.sleep(0.3)
        await self.shot("port-conflict")
        press("choice-no")
        for container in (late, shop_web):
            del gateway.containers_by_id[container.id]
        gateway.volumes_by_name.clear()
        for job_id in list(desk.store.state.jobs):
            desk.intents.dismiss_job.emit(job_id)
        desk.intents.refresh.emit()

    async def button(self, name: str) -> QAbstractButton:
        """As soon as it is there: a busy machine takes its time."""
        from PySide6.QtWidgets import QAbstractButton

        for _ in range(500):
            found = self.desk.window.findChild(QAbstractButton, name)
            if found is not None:
                return found
            await asyncio.sleep(0.02)
        raise LookupError(name)

    async def shot(self, name: str) -> None:
        await asyncio.sleep(0.2)
        self.count += 1
        self.desk.window.grab().save(str(self.target / f"{self.variant}-{self.count:02d}-{name}.png"))


if __name__ == "__main__":
    sys.exit(main())
