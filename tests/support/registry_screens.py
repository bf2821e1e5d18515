"""The screens about registries for `screenshots.py`: searches, a repository, pulls, and the list of registries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QAbstractButton, QLineEdit
from support.fake_registries import digest_of

from kitepy.gui.models.discover import LocalImage, Tag
from kitepy.gui.models.registry import Keeper, Login
from kitepy.gui.models.state import DISCOVER, REGISTRIES, Navigated, Page, Route
from kitepy.gui.models.transfer import TransferMessage

if TYPE_CHECKING:
    from support.fake_gateway import FakeGateway

    from kitepy.gui.app import Desk, Session

_LOCAL = "localhost:5000"


def stock(gateway: FakeGateway) -> None:
    """What registries have."""
    nginx = "The proxy and web server that half of the web stands behind, built by its makers for every architecture."
    gateway.offer("nginx", "latest", "1.27", "1.27-alpine", "stable", description=nginx, stars=20345, official=True)
    gateway.offer("nginx/nginx-ingress", "5.1", description="Ingress controllers of the NGINX project.", stars=113)
    gateway.offer("bitnami/nginx", "latest", description="", stars=204)
    gateway.offer("jc21/nginx-proxy-manager", "2.11", description="A proxy with a web page to set it up.", stars=411)
    gateway.offer(f"{_LOCAL}/team/nginx-edge", "2026.11", "2026.10", "main")
    gateway.tags_of["nginx"] = [
        Tag("latest", digest_of("latest"), 72_400_000, "2026-11-12T10:00:00Z", ("linux/amd64", "linux/arm64/v8", "linux/arm/v7")),
        Tag("1.27", digest_of("latest"), 72_400_000, "2026-11-12T10:00:00Z", ("linux/amd64", "linux/arm64/v8", "linux/arm/v7")),
        Tag("1.27-alpine", digest_of("alpine"), 20_100_000, "2026-11-12T10:04:00Z", ("linux/amd64", "linux/arm64/v8")),
        Tag("stable", digest_of("stable"), 71_900_000, "2026-08-30T10:00:00Z", ("linux/amd64", "linux/arm64/v8")),
        *(
            Tag(f"1.26.{number}", digest_of(f"{number}"), 71_000_000, "2026-02-01T10:00:00Z", ("linux/amd64",))
            for number in range(30)
        ),
    ]
    preview = gateway.preview_of("nginx:latest", here=2)
    old = replace(preview.config, user="", exposed=("80/tcp",), environment=("PATH=/usr/bin", "VERSION=1.25"))
    new = replace(preview.config, user="nginx", exposed=("8080/tcp",), environment=("PATH=/usr/bin", "VERSION=1.27", "MODE="))
    local = LocalImage("sha256:old", "2025-06-01T10:00:00Z", 180_000_000, old)
    gateway.previews["nginx:latest"] = replace(preview, config=new, local=local)


async def walk(desk: Desk, session: Session, gateway: FakeGateway, shot: Callable[[str], Awaitable[None]]) -> None:
    del session
    press = lambda name: desk.window.findChild(QAbstractButton, name).click()  # noqa: E731 - one line, used often
    search = desk.window.findChild(QLineEdit, "discover-search")
    stock(gateway)
    gateway.logins_by_host = {
        "docker.io": Login("docker.io", "ada", Keeper.DOCKER),
        _LOCAL: Login(_LOCAL, "ada", Keeper.KEYRING),
    }
    gateway.check_failures["registry.example"] = "x509: certificate signed by unknown authority"
    desk.settings.registries = (_LOCAL, "registry.example")
    desk.store.dispatch(Navigated(REGISTRIES))
    await shot("registries-loading")
    desk.intents.refresh.emit()
    await asyncio.sleep(0.3)
    desk.store.dispatch(Navigated(DISCOVER))
    desk.store.dispatch(Navigated(REGISTRIES))
    await asyncio.sleep(0.3)
    table = desk.window.registries.list
    table.setCurrentIndex(table.rows.index(2, 0))
    await shot("registries")
    press("registry-log-in")
    desk.window.findChild(QLineEdit, "login-user").setText("ada")
    desk.window.findChild(QLineEdit, "login-password").setText("wrong")
    gateway.login_failures["registry.example"] = "Login failed: unauthorized: incorrect username or password."
    press("login-yes")
    await asyncio.sleep(0.3)
    await shot("registry-login-refused")
    press("login-no")
    gateway.keyring_trouble = "there is no Secret Service on this session bus."
    desk.intents.refresh.emit()
    await asyncio.sleep(0.3)
    press("registry-add")
    desk.window.findChild(QLineEdit, "new-registry-address").setText("bad host")
    await shot("registry-add")
    press("new-registry-no")
    desk.store.dispatch(Navigated(DISCOVER))
    gateway.hold_search = asyncio.Event()
    search.setText("nginx")
    await asyncio.sleep(0.4)
    await shot("search-busy")
    gateway.hold_search.set()
    gateway.search_failures["registry.example"] = "x509: certificate signed by unknown authority"
    await asyncio.sleep(0.3)
    await shot("search")
    gateway.search_failures = dict.fromkeys(("docker.io", _LOCAL, "registry.example"), "connect: network is unreachable")
    search.setText("postgres:16")
    await asyncio.sleep(0.5)
    await shot("search-offline")
    gateway.search_failures.clear()
    desk.store.dispatch(Navigated(Route(Page.DISCOVER, "nginx")))
    await asyncio.sleep(0.4)
    await shot("repository")
    gateway.hold_pull = asyncio.Event()
    press("preview-run")
    await asyncio.sleep(0.5)
    await shot("pull")
    press("pull-page-pause")
    gateway.pull_failures = [
        "pull access denied for team/secret, repository does not exist or may require 'docker login': denied"
    ]
    gateway.hold_pull.set()
    desk.intents.pull.emit("team/secret:1", "", False)
    await asyncio.sleep(0.4)
    await shot("pull-failed")
    gateway.hold_first_byte = asyncio.Event()
    gateway.pull_steps = [TransferMessage("Rate limited by localhost:5000, trying again in 12 s")]
    desk.intents.pull.emit(f"{_LOCAL}/team/nginx-edge:main", "", False)
    await asyncio.sleep(0.3)
    search.setText("")
    desk.store.dispatch(Navigated(DISCOVER))
    await asyncio.sleep(0.3)
    await shot("discover-pulls")
    gateway.hold_first_byte.set()
    gateway.pull_steps = []
    await asyncio.sleep(0.3)
    gateway.tags_failure = "no basic auth credentials"
    gateway.preview_failures["quay.example/private:1"] = "no basic auth credentials"
    desk.store.dispatch(Navigated(Route(Page.DISCOVER, "quay.example/private:1")))
    await asyncio.sleep(0.3)
    await shot("repository-refused")
    gateway.tags_failure = ""
    gateway.logins_by_host.clear()
    for pull_id in list(desk.store.state.pulls):
        desk.intents.cancel_pull.emit(pull_id)
