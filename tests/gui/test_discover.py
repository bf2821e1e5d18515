"""Discover and the registries in a real window: searching, looking at tags, pulling with pauses and restarts, logging in."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit
from support.registry_screens import stock
from support.watchdog import never_stalls
from support.windows import answer, column, reached_by_tab

from kitepy.gui.models.container import Status
from kitepy.gui.models.discover import LocalImage
from kitepy.gui.models.pull import PullPhase
from kitepy.gui.models.registry import Keeper, Login
from kitepy.gui.models.state import DISCOVER, REGISTRIES, Navigated, Page, PullForgotten, Route
from kitepy.gui.models.transfer import LayerPhase, TransferMessage
from kitepy.gui.views.discover_results import HitCard
from kitepy.gui.widgets.table import Table
from kitepy.gui.widgets.transfer import LayerList
from kitepy.gui.widgets.trouble import TroubleCard


def cards(stage) -> list[str]:
    found = [card for card in stage.window.findChildren(HitCard) if card.isVisible()]
    return [card.findChild(QAbstractButton, "hit-tags").accessibleName().removeprefix("Tags of ") for card in found]


def pulls(stage) -> dict[str, PullPhase]:
    return {pull.reference: pull.phase for pull in stage.store.state.pulls.values()}


def asked(stage, what: str) -> list[tuple[str, ...]]:
    return [call for call in stage.gateway.calls if call[0] == what]


def test_a_search_asks_every_registry_once_typing_pauses_and_gives_way_to_a_newer_one(stage) -> None:
    async def story() -> None:
        stock(stage.gateway)
        stage.gateway.add_image("nginx:old")
        stage.gateway.hold_search = asyncio.Event()
        stage.desk.settings.registries = ("localhost:5000",)
        stage.session.registries.start()
        await stage.ready()
        await stage.until(lambda: len(stage.store.state.registries.known) == 2)
        field = stage.find(QLineEdit, "discover-search")
        QTest.keyClicks(field, "postg")
        await stage.until(lambda: len(asked(stage, "search")) == 2)
        # Nothing waits for registries: what is here is shown at once.
        field.setText("")
        QTest.keyClicks(field, "nginx")
        await stage.until(lambda: stage.store.state.discover.search.query == "nginx")
        assert (await stage.shown(QAbstractButton, "local-run")).accessibleName() == "Run nginx:old"
        await stage.until(lambda: len(asked(stage, "search_cancelled")) == 2)
        assert not asked(stage, "search")[2:]
        assert "Asking Docker Hub, localhost:5000" in stage.find(QLabel, "search-status").accessibleName()
        stage.gateway.hold_search.set()
        await stage.until(lambda: len(cards(stage)) == 5)
        assert {call[1:] for call in asked(stage, "search")} == {
            (host, words) for host in ("docker.io", "localhost:5000") for words in ("postg", "nginx")
        }
        assert cards(stage)[0] == "nginx"
        assert "5 found at Docker Hub, localhost:5000" in stage.find(QLabel, "search-status").accessibleName()
        # What was answered a moment ago isn't asked again.
        field.setText("")
        field.setText("nginx")
        await stage.until(lambda: len(cards(stage)) == 5)
        assert len(asked(stage, "search")) == 4
        # A registry that is added is asked what was looked for.
        stage.session.registries._add("localhost:5001")
        await stage.until(lambda: ("search", "localhost:5001", "nginx") in stage.gateway.calls)

    stage.play(story)


def test_without_a_network_one_line_says_so_and_local_images_run(stage) -> None:
    async def story() -> None:
        stage.gateway.add_image("postgres:16")
        stage.gateway.search_failures["docker.io"] = "dial tcp: lookup index.docker.io: Temporary failure in name resolution"
        await stage.ready()
        stage.find(QLineEdit, "discover-search").setText("postgres")
        line = await stage.shown(QLabel, "offline-line")
        assert "no network" in line.text()
        assert not [card for card in stage.window.findChildren(TroubleCard) if card.isVisible()]
        stage.gateway.search_failures.clear()
        stage.gateway.offer("postgres", "16", official=True)
        stage.find(QAbstractButton, "search-again").click()
        await stage.until(lambda: cards(stage) == ["postgres"] and not line.isVisible())
        (await stage.shown(QAbstractButton, "local-run")).click()
        await stage.until(lambda: stage.store.state.route.page is Page.CONTAINER)

    stage.play(story)


def test_a_card_leads_to_tags_and_to_what_a_pull_would_bring(stage) -> None:
    async def story() -> None:
        stock(stage.gateway)
        await stage.ready()
        stage.find(QLineEdit, "discover-search").setText("nginx")
        await stage.until(lambda: "nginx" in cards(stage))
        QTest.keyClick(stage.find(QLineEdit, "discover-search"), Qt.Key.Key_Return)
        await stage.until(lambda: stage.store.state.route == Route(Page.DISCOVER, "nginx"))
        stage.store.dispatch(Navigated(DISCOVER))
        card = next(card for card in stage.window.findChildren(HitCard) if card.isVisible())
        QTest.mouseClick(card, Qt.MouseButton.LeftButton)
        tags = await stage.shown(Table, "tags-list")
        await stage.until(lambda: tags.model().rowCount() == 25)
        await stage.until(lambda: tags.selected() is not None and tags.selected().name == "latest")
        fetch = stage.find(QLabel, "preview-fetch")
        await stage.until(lambda: fetch.text() == "49.6 MB to fetch of 54.3 MB; 2 of 4 layers are here.")
        changes = [label.accessibleName() for label in stage.window.findChildren(QLabel, "preview-change")]
        assert changes == ["User: root → nginx", "Ports: 80/tcp → 8080/tcp", "MODE: nothing → empty", "VERSION: 1.25 → 1.27"]
        # Docker Hub tells sizes with its list: no manifest is asked for to fill the table.
        assert [call[1] for call in asked(stage, "preview_pull")] == ["nginx:latest"]
        stage.find(QAbstractButton, "tags-more").click()
        await stage.until(lambda: tags.model().rowCount() == 34)
        stage.find(QLineEdit, "tag-filter").setText("alpine")
        await stage.until(lambda: column(tags, 0) == ["1.27-alpine"])
        assert asked(stage, "tags")[-1] == ("tags", "nginx", "", "alpine")
        tags.setCurrentIndex(tags.rows.index(0, 0))
        await stage.until(lambda: asked(stage, "preview_pull")[-1] == ("preview_pull", "nginx:1.27-alpine", ""))
        platforms = stage.find(QComboBox, "preview-platform")
        await stage.until(lambda: platforms.count() == 2)
        platforms.setCurrentIndex(1)
        platforms.activated.emit(1)
        await stage.until(lambda: asked(stage, "preview_pull")[-1] == ("preview_pull", "nginx:1.27-alpine", "linux/arm64/v8"))
        stage.find(QAbstractButton, "repository-back").click()
        await stage.until(lambda: stage.store.state.route == DISCOVER)

    stage.play(story)


def test_manifests_tell_sizes_and_what_is_here_already(stage) -> None:
    async def story() -> None:
        stage.gateway.offer("localhost:5000/team/web", "2", "1")
        stage.gateway.preview_failures["localhost:5000/team/web:1"] = "manifest unknown: OCI artifact"
        await stage.ready()
        stage.store.dispatch(Navigated(Route(Page.DISCOVER, "localhost:5000/team/web")))
        tags = await stage.shown(Table, "tags-list")
        await stage.until(lambda: column(tags, 1) == ["54.3 MB", "?"])
        assert column(tags, 3) == ["amd64, arm64", ""]
        # What is here already is run without a pull.
        preview = stage.gateway.preview_of("nginx:latest", here=4)
        stage.gateway.previews["nginx:latest"] = replace(preview, local=LocalImage(preview.image_id))
        stage.gateway.offer("nginx", "latest", official=True)
        stage.store.dispatch(Navigated(Route(Page.DISCOVER, "nginx")))
        run = await stage.shown(QAbstractButton, "preview-run")
        await stage.until(lambda: run.text() == "Run")
        assert not stage.find(QAbstractButton, "preview-pull").isEnabled()
        run.click()
        await stage.until(lambda: stage.store.state.route.page is Page.CONTAINER)
        assert not asked(stage, "pull")

    stage.play(story)


def test_one_click_pulls_and_runs_and_shows_each_layer(stage) -> None:
    async def story() -> None:
        stock(stage.gateway)
        stage.gateway.hold_pull = asyncio.Event()
        await stage.ready()
        stage.find(QLineEdit, "discover-search").setText("nginx")
        await stage.until(lambda: "nginx" in cards(stage))
        run = next(button for button in stage.window.findChildren(QAbstractButton, "hit-run") if button.isVisible())
        run.click()
        layers = await stage.shown(LayerList, "pull-layers")
        await stage.until(lambda: [layer.phase for layer in layers.layers.values][:2] == [LayerPhase.DONE, LayerPhase.MOVING])
        assert stage.find(QLabel, "pull-percent").text() == "75 %"
        assert "37.5 MB of 49.6 MB" in stage.find(QLabel, "pull-words").text()
        # A placeholder stands in the sidebar from the first moment.
        rows = stage.window.sidebar.list.rows_model.values
        assert [(row.title, row.detail) for row in rows] == [("nginx", "Pulling 75 %")]
        stage.gateway.hold_pull.set()
        await stage.until(lambda: stage.store.state.route.page is Page.CONTAINER)
        container = stage.store.state.containers[stage.store.state.route.key]
        assert (container.name, container.image, container.status) == ("nginx", "nginx:latest", Status.RUNNING)
        assert [row.title for row in stage.window.sidebar.list.rows_model.values] == ["nginx"]

    stage.play(story)


def test_a_pull_is_paused_goes_on_and_can_be_given_up(stage) -> None:
    async def story() -> None:
        stage.gateway.hold_pull = asyncio.Event()
        await stage.ready()
        stage.desk.intents.pull.emit("localhost:5000/web:1", "", False)
        await stage.until(lambda: stage.find(QLabel, "pull-percent").text() == "75 %")
        stage.find(QAbstractButton, "pull-page-pause").click()
        await stage.until(lambda: pulls(stage) == {"localhost:5000/web:1": PullPhase.PAUSED})
        assert asked(stage, "pull_cancelled") == [("pull_cancelled", "localhost:5000/web:1")]
        assert stage.find(QLabel, "pull-words").text() == "Paused: 37.5 MB of 49.6 MB is kept"
        stage.store.dispatch(Navigated(DISCOVER))
        resume = await stage.shown(QAbstractButton, "pull-resume")
        assert resume.accessibleName() == "Resume: localhost:5000/web:1"
        resume.click()
        await stage.until(lambda: pulls(stage) == {"localhost:5000/web:1": PullPhase.PULLING})
        # An engine that goes away and comes back goes on with it by itself.
        stage.gateway.pull_failures = [""]
        stage.gateway.hold_pull.set()
        await stage.until(lambda: pulls(stage) == {"localhost:5000/web:1": PullPhase.FAILED})
        stage.gateway.hold_pull = asyncio.Event()
        stage.gateway.disconnect()
        await stage.until(lambda: pulls(stage) == {"localhost:5000/web:1": PullPhase.PULLING})
        # The same once more leads to the one that is under way.
        stage.desk.intents.pull.emit("localhost:5000/web:1", "", False)
        assert len(asked(stage, "pull")) <= 3
        assert stage.store.state.route.page is Page.PULL
        stage.store.dispatch(Navigated(DISCOVER))
        (await stage.shown(QAbstractButton, "pull-cancel")).click()
        await stage.until(lambda: not stage.store.state.pulls)
        assert stage.desk.settings.unfinished_pulls == "[]"

    stage.play(story)


def test_a_registry_that_asks_to_wait_shows_how_long(stage) -> None:
    async def story() -> None:
        stage.gateway.hold_first_byte = asyncio.Event()
        stage.gateway.pull_steps = [TransferMessage("Rate limited by localhost:5000, trying again in 3000 s")]
        await stage.ready()
        stage.desk.intents.pull.emit("localhost:5000/slow:1", "", False)
        stage.gateway.pull_failures = ["toomanyrequests: slow down"]
        words = stage.find(QLabel, "pull-words")
        await stage.until(lambda: words.text().startswith("Goes on in 49 min"))
        assert stage.window.sidebar.list.rows_model.values[0].detail == "Waiting for the registry"
        stage.gateway.hold_first_byte.set()
        card = await stage.shown(TroubleCard, "pull-trouble")
        assert "allows no more for now" in card.accessibleName()
        assert "logged in may fetch more" in card.accessibleName()

    stage.play(story)


def test_pulls_that_the_app_s_end_has_interrupted_are_offered_again(stage) -> None:
    async def story() -> None:
        stage.gateway.hold_pull = asyncio.Event()
        await stage.ready()
        stage.desk.intents.pull.emit("localhost:5000/web:1", "", True)
        await stage.until(lambda: [pull.transfer.percent for pull in stage.store.state.pulls.values()] == [75])
        stage.session.quit()
        # Nothing is lost by it, so nobody is asked.
        assert stage.session.ended.done()
        await stage.session.close()
        assert '"localhost:5000/web:1"' in stage.desk.settings.unfinished_pulls
        # The app starts again, with a window of its own state.
        stage.store.dispatch(Navigated(DISCOVER))
        for pull_id in list(stage.store.state.pulls):
            stage.store.dispatch(PullForgotten(pull_id))
        stage.gateway.hold_pull.set()
        stage.desk.intents.resume_pull.disconnect()  # an app that has ended hears nothing any more
        again = type(stage.session)(stage.desk, stage.gateway)
        stage.session = again
        stage.window.show()
        again.start()
        detail = await stage.shown(QLabel, "pull-detail")
        assert detail.accessibleName() == "Interrupted: 37.5 MB of 49.6 MB is kept"
        assert len(asked(stage, "pull")) == 1  # going on is the user's choice
        (await stage.shown(QAbstractButton, "pull-resume")).click()
        await stage.until(
            lambda: any(container.image == "localhost:5000/web:1" for container in stage.store.state.containers.values())
        )
        await stage.until(lambda: stage.desk.settings.unfinished_pulls == "[]")

    stage.play(story)


def test_a_refused_pull_says_what_to_do_and_a_login_leads_on(stage) -> None:
    async def story() -> None:
        host = "localhost:5000"
        stage.gateway.pull_failures = ["no basic auth credentials"]
        stage.gateway.passwords[host] = "right"
        await stage.ready()
        stage.desk.intents.pull.emit(f"{host}/secret:1", "", False)
        card = await stage.shown(TroubleCard, "pull-trouble")
        assert "or it is private: check the name, or log in" in card.accessibleName()
        (await stage.shown(QAbstractButton, "pull-trouble-log-in")).click()
        (await stage.shown(QLineEdit, "login-user")).setText("ada")
        password = stage.find(QLineEdit, "login-password")
        assert password.echoMode() is QLineEdit.EchoMode.Password
        password.setText("wrong")
        QTest.keyClick(password, Qt.Key.Key_Return)
        refused = await stage.shown(TroubleCard, "login-trouble")
        assert "doesn't accept the login" in refused.accessibleName()
        assert stage.window.sheet_is_open()
        password.setText("right")
        QTest.keyClick(password, Qt.Key.Key_Return)
        await stage.until(lambda: not stage.window.sheet_is_open())
        await stage.until(lambda: stage.store.state.registries.user_of(host) == "ada")
        stage.find(QAbstractButton, "pull-page-resume").click()
        await stage.until(lambda: pulls(stage) == {f"{host}/secret:1": PullPhase.DONE})

    stage.play(story)


def test_registries_are_added_logged_in_to_logged_out_of_and_removed(stage) -> None:
    async def story() -> None:
        stage.gateway.login_notes = ("The credential helper pass isn't installed.",)
        stage.gateway.keyring_trouble = "no Secret Service answers on this session bus."
        stage.gateway.check_failures["localhost:5000"] = "dial tcp 127.0.0.1:5000: connect: connection refused"
        stage.gateway.logins_by_host["ghcr.io"] = Login("ghcr.io", "ada", Keeper.HELPER, "pass")
        await stage.ready()
        stage.find(QAbstractButton, "registries-button").click()
        table = await stage.shown(Table, "registries-list")
        await stage.until(lambda: column(table, 4) == ["Answers", "Answers"])
        assert column(table, 2) == ["", "a credential helper, pass"]
        assert stage.find(QLabel, "registry-notes").text() == "The credential helper pass isn't installed."
        assert not stage.find(QAbstractButton, "registry-remove").isEnabled()  # Docker Hub stays
        stage.find(QAbstractButton, "registry-add").click()
        address = await stage.shown(QLineEdit, "new-registry-address")
        address.setText("https://localhost:5000/v2/")
        assert "can't be had: no Secret Service" in stage.find(QLabel, "new-registry-keeper-note").text()
        assert "keyring" not in stage.find(QComboBox, "new-registry-keeper").currentText()
        await answer(stage, "new-registry-yes")
        await stage.until(lambda: column(table, 4) == ["Answers", "Answers", "localhost:5000 doesn't answer"])
        assert stage.desk.settings.registries == ("localhost:5000",)
        # Tried while the sheet is open; one that is closed meanwhile keeps nothing.
        table.setCurrentIndex(table.rows.index(table.rows.row_of("localhost:5000"), 0))
        trouble = await stage.shown(TroubleCard, "registry-trouble")
        assert "doesn't answer" in trouble.accessibleName()
        stage.gateway.hold_login = asyncio.Event()
        stage.find(QAbstractButton, "registry-log-in").click()
        (await stage.shown(QLineEdit, "login-user")).setText("ada")
        stage.find(QLineEdit, "login-password").setText("x")
        stage.find(QAbstractButton, "login-yes").click()
        await stage.until(lambda: asked(stage, "log_in"))
        await answer(stage, "login-no")
        stage.gateway.hold_login.set()
        await asyncio.sleep(0.05)
        assert "localhost:5000" not in stage.gateway.logins_by_host
        # Now for good.
        stage.find(QAbstractButton, "registry-log-in").click()
        (await stage.shown(QLineEdit, "login-user")).setText("ada")
        stage.find(QLineEdit, "login-password").setText("x")
        await answer(stage, "login-yes")
        await stage.until(lambda: column(table, 1) == ["not logged in", "ada", "ada"])
        stage.find(QAbstractButton, "registry-log-out").click()
        await answer(stage, "confirm-yes")
        await stage.until(lambda: column(table, 1) == ["not logged in", "ada", "not logged in"])
        stage.find(QAbstractButton, "registry-remove").click()
        await answer(stage, "confirm-yes")
        await stage.until(lambda: column(table, 0) == ["Docker Hub", "ghcr.io"])
        assert stage.desk.settings.registries == ()

    stage.play(story)


REACHED = {
    DISCOVER: {"discover-search", "discover-registries", "pull-show", "pull-resume", "pull-cancel", "hit-tags", "hit-run"},
    Route(Page.DISCOVER, "nginx"): {
        "repository-back", "tag-filter", "tags-list", "tags-more", "preview-platform", "preview-pull", "preview-run",
    },
    REGISTRIES: {"registry-filter", "registry-add", "registry-log-in", "registry-check", "registries-list"},
    Route(Page.PULL, "pull-1"): {"pull-back", "pull-page-cancel", "pull-page-resume", "pull-layers"},
}  # fmt: skip


def test_everything_is_reached_by_the_tab_key_and_has_a_name(stage) -> None:
    async def story() -> None:
        stock(stage.gateway)
        stage.gateway.pull_failures = ["connection reset by peer"]
        await stage.ready()
        stage.desk.intents.pull.emit("nginx", "", False)
        await stage.until(lambda: pulls(stage) == {"nginx:latest": PullPhase.FAILED})
        stage.window.activateWindow()
        await stage.until(lambda: stage.window.isActiveWindow())
        stage.find(QLineEdit, "discover-search").setText("nginx")
        stage.store.dispatch(Navigated(DISCOVER))
        await stage.until(lambda: len(cards(stage)) == 4)
        for route, wanted in REACHED.items():
            stage.store.dispatch(Navigated(route))
            if route.key == "nginx":
                await stage.until(lambda: stage.store.state.discover.repository.preview)
            seen = reached_by_tab(stage, 44)
            assert wanted <= seen, wanted - seen

    stage.play(story)


def test_many_results_and_many_layers_never_hold_the_window_up(stage) -> None:
    async def story() -> None:
        for number in range(60):
            stage.gateway.offer(f"team/app-{number}", "latest", description="words " * 12, stars=number)
        layers = [f"{number:012x}" for number in range(60)]
        for count in range(0, 3_000_000, 40_000):
            stage.gateway.pull_steps += [TransferMessage("Downloading", layer, count, 3_000_000) for layer in layers[:20]]
        await stage.ready()
        field = stage.find(QLineEdit, "discover-search")

        async def work() -> None:
            field.setText("app")
            await stage.until(lambda: len(cards(stage)) == 25)
            field.setText("app-5")
            await stage.until(lambda: len(cards(stage)) == 11)
            stage.desk.intents.pull.emit("team/app-1", "", False)
            await stage.until(lambda: set(pulls(stage).values()) == {PullPhase.DONE})
            for pull_id in list(stage.store.state.pulls):
                stage.desk.intents.cancel_pull.emit(pull_id)
            stage.store.dispatch(Navigated(DISCOVER))
            field.setText("")

        await work()  # each page is laid out once before the clock runs
        await never_stalls(work)

    stage.play(story)
