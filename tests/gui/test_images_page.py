"""The Images page in a real window: list, layers, files, waste, names, archives, pushing and pruning."""

from __future__ import annotations

import asyncio
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QTabBar,
    QTreeView,
)
from support.fake_images import LAYERS
from support.windows import answer, column, reached_by_tab

from kitepy.gui.models.container import Status
from kitepy.gui.models.image_detail import ImageLayers
from kitepy.gui.models.registry import Keeper, Login
from kitepy.gui.models.state import IMAGES, Navigated, Page, Route
from kitepy.gui.models.transfer import TransferMessage
from kitepy.gui.models.volume import FileEntry, JobPhase
from kitepy.gui.widgets.table import Table


def seen_text(stage) -> str:
    return " ".join(label.text() for label in stage.window.images.findChildren(QLabel) if label.isVisible())


async def begin_anew(stage) -> None:
    """An engine with nothing in it, and the list of its images in sight."""
    for things in (stage.gateway.images_by_id, stage.gateway.containers_by_id, stage.gateway.calls):
        things.clear()
    for job_id in list(stage.store.state.jobs):
        stage.desk.intents.dismiss_job.emit(job_id)
    stage.store.dispatch(Navigated(IMAGES))
    stage.find(QLineEdit, "image-filter").clear()
    stage.desk.intents.refresh.emit()
    await stage.until(lambda: not stage.store.state.images and not stage.store.state.containers)


async def listed(stage) -> None:
    """What the engine has by now is listed."""
    stage.desk.intents.refresh.emit()
    wanted = set(stage.gateway.images_by_id)
    await stage.until(lambda: {image.id for image in stage.store.state.images} == wanted)


async def the_list_is_narrowed_and_sorted(stage) -> None:
    app = stage.gateway.add_image("team/app:1", "team/app:2", size_bytes=184_000_000, shared_bytes=78_000_000)
    stage.gateway.add_image("postgres:16", size_bytes=431_000_000, age_s=86400 * 20, shared_bytes=78_000_000)
    stage.gateway.add_image(size_bytes=88_000_000, age_s=86400 * 90, shared_bytes=0)
    stage.gateway.add_container("web", "team/app:1", image_id=app.id)
    await listed(stage)
    stage.find(QAbstractButton, "images-button").click()
    table = await stage.shown(Table, "images-list")
    await stage.until(lambda: len(column(table, 0)) == 3)
    assert column(table, 0)[:2] == ["team/app:1  +1", "postgres:16"]
    assert column(table, 0)[2].startswith("untagged ")
    assert column(table, 2) == ["106 MB", "353 MB", "88.0 MB"]
    assert column(table, 4) == ["web", "", ""]
    assert stage.find(QLabel, "images-summary").text() == "3, 625 MB"
    table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    assert column(table, 0)[0] == "postgres:16"
    kind = stage.find(QComboBox, "image-kind")
    kind.setCurrentIndex(3)
    assert len(column(table, 0)) == 1
    stage.find(QLineEdit, "image-filter").setText("nothing")
    await stage.until(lambda: "None of 3 images is untagged with “nothing”" in seen_text(stage))
    # Somebody else tags an image: the list follows the event.
    kind.setCurrentIndex(0)
    stage.find(QLineEdit, "image-filter").setText("team/new")
    await stage.gateway.tag_image(app.id, "team/new:1")
    await stage.until(lambda: len(column(table, 0)) == 1)


async def a_prune_shows_what_goes(stage) -> None:
    used = stage.gateway.add_image("used:1")
    stage.gateway.add_container("web", "used:1", image_id=used.id)
    stage.gateway.add_image("one:1", size_bytes=10_000_000, shared_bytes=4_000_000)
    stage.gateway.add_image("two:1", size_bytes=9_000_000, shared_bytes=4_000_000)
    stage.gateway.add_image(size_bytes=3_000_000, shared_bytes=0)
    await listed(stage)
    stage.store.dispatch(Navigated(IMAGES))
    await stage.until(lambda: len(stage.store.state.images) == 4)
    stage.find(QAbstractButton, "image-prune").click()
    sum_up = await stage.shown(QLabel, "image-prune-sum")
    assert sum_up.text().startswith("1 image, 3.0 MB freed")
    stage.find(QCheckBox, "image-prune-more").setChecked(True)
    assert sum_up.text().startswith("3 images, 18.0 MB freed")
    lines = stage.find(QListWidget, "image-prune-list")
    one = next(lines.item(row) for row in range(3) if lines.item(row).text().startswith("one"))
    one.setCheckState(Qt.CheckState.Unchecked)
    assert sum_up.text().startswith("2 images, 8.0 MB freed")
    await answer(stage, "prune-images-yes")
    await stage.until(lambda: sorted(image.title for image in stage.store.state.images) == ["one:1", "used:1"])


async def a_removal_says_what_is_lost(stage) -> None:
    app = stage.gateway.add_image("team/app:1", "team/app:2", size_bytes=5000, shared_bytes=1000)
    used = stage.gateway.add_image("used:1")
    stage.gateway.add_container("web", "used:1", Status.EXITED, image_id=used.id)
    await listed(stage)
    stage.store.dispatch(Navigated(IMAGES))
    await stage.until(lambda: stage.store.state.images_list.loaded)
    stage.desk.intents.remove_image.emit(used.id)
    show = await stage.shown(QAbstractButton, "choice-0")
    assert show.text() == "Show web"
    await answer(stage, "choice-no")
    assert not any(call[0] == "remove_image" for call in stage.gateway.calls)
    stage.desk.intents.remove_image.emit(app.id)
    whole = await stage.shown(QAbstractButton, "choice-0")
    words = " ".join(label.text() for label in whole.parent().findChildren(QLabel))
    assert "4.0 kB are freed; 1.0 kB stay for other images" in words
    whole.click()
    await stage.until(lambda: app.id not in stage.gateway.images_by_id)
    # Never by force, so that what the app doesn't know yet is safe.
    assert [call[1:] for call in stage.gateway.calls if call[0] == "remove_image"] == [("team/app:1", ""), ("team/app:2", "")]


async def names_come_back(stage) -> None:
    image = stage.gateway.add_image("team/app:1")
    stage.gateway.add_image("postgres:16")
    await listed(stage)
    stage.store.dispatch(Navigated(Route(Page.IMAGES, image.id)))
    stage.find(QTabBar, "image-tabs").setCurrentIndex(2)
    await stage.until(lambda: "linux/amd64" in seen_text(stage))
    (await stage.shown(QAbstractButton, "image-add-name")).click()
    name = await stage.shown(QLineEdit, "tag-name")
    name.setText("Wrong Name")
    assert not stage.find(QAbstractButton, "tag-image-yes").isEnabled()
    name.setText("postgres:16")
    assert "which loses it" in stage.find(QLabel, "tag-warning").text()
    name.setText("team/app:2")
    QTest.keyClick(name, Qt.Key.Key_Return)
    await stage.until(lambda: len(stage.window.images.findChildren(QAbstractButton, "image-untag")) == 2)
    stage.desk.intents.untag_image.emit(image.id, "team/app:1")
    undo = await stage.shown(QAbstractButton, "notice-action")
    await stage.until(lambda: stage.gateway.images_by_id[image.id].tags == ("team/app:2",))
    undo.click()
    await stage.until(lambda: set(stage.gateway.images_by_id[image.id].tags) == {"team/app:1", "team/app:2"})
    assert not any(text.startswith("The name") for text in stage.window.notices.texts())


async def layers_are_looked_into(stage) -> None:
    image = stage.gateway.add_image("team/app:1")
    stage.gateway.hold_usage = asyncio.Event()
    await listed(stage)
    stage.store.dispatch(Navigated(IMAGES))
    table = await stage.shown(Table, "images-list")
    QTest.keyClick(table, Qt.Key.Key_Return)
    steps = await stage.shown(Table, "image-steps")
    await stage.until(lambda: len(column(steps, 0)) == 8)
    assert stage.store.state.route == Route(Page.IMAGES, image.id)
    assert column(steps, 2)[2].startswith("RUN apt-get update")
    assert column(steps, 0) == ["1", "", "2", "", "3", "4", "", ""]
    # The last layer is looked at first.
    assert steps.currentIndex().row() == 5
    tree = await stage.shown(QTreeView, "image-files")
    model = tree.model()
    await stage.until(lambda: model.rowCount() == 1)
    steps.setCurrentIndex(steps.rows.index(4, 0))
    await stage.until(lambda: model.rowCount() == 2 and model.index(1, 0).data() == "+ srv")
    tree.expand(model.index(1, 0))
    await stage.until(lambda: model.rowCount(model.index(1, 0)) == 4)
    assert stage.find(QPlainTextEdit, "image-command").toPlainText() == "COPY . /srv # buildkit"
    # What is in vain is counted meanwhile, and shown when it is there.
    tabs = stage.find(QTabBar, "image-tabs")
    tabs.setCurrentIndex(1)
    await stage.until(lambda: "Counting…" in seen_text(stage))
    stage.gateway.hold_usage.set()
    waste = await stage.shown(Table, "image-waste")
    assert column(waste, 1) == ["/var/lib/apt/lists/", "/var/cache/apt/pkgcache.bin", "/etc/ld.so.cache"]
    assert column(waste, 4)[0] == "removed by layer 4: RUN rm -rf /var/lib/apt/lists/*"
    assert "63.4 MB of 184 MB" in stage.find(QLabel, "image-waste-sum").text()
    QTest.keyClick(waste, Qt.Key.Key_Return)
    await stage.until(lambda: stage.store.state.looking.layer == 0 and tabs.currentIndex() == 0)
    assert steps.currentIndex().row() == 0
    # A step without a layer has no files; all files up to a layer are asked for apart.
    steps.setCurrentIndex(steps.rows.index(1, 0))
    await stage.until(lambda: "This step changes only the configuration." in seen_text(stage))
    steps.setCurrentIndex(steps.rows.index(5, 0))
    await stage.until(lambda: stage.store.state.looking.layer == 3)
    stage.find(QAbstractButton, "image-all").click()
    await stage.until(lambda: ("image_folder", image.id, "/", "3", "all", "") in stage.gateway.calls)
    await stage.until(lambda: model.rowCount() == 3)
    QTest.keyClick(stage.find(QAbstractButton, "image-back"), Qt.Key.Key_Space)
    await stage.until(lambda: stage.store.state.route == IMAGES)


async def a_large_folder_comes_by_the_page(stage) -> None:
    image = stage.gateway.add_image("team/app:1")
    stage.gateway.image_files = {(3, True, "/"): tuple(FileEntry(f"f{n}", "file", change="added") for n in range(5))}
    stage.gateway.page_size = 2
    await listed(stage)
    stage.store.dispatch(Navigated(Route(Page.IMAGES, image.id)))
    tree = await stage.shown(QTreeView, "image-files")
    for rows in (3, 5, 5):
        await stage.until(lambda rows=rows: tree.model().rowCount() == rows)
        tree.activated.emit(tree.model().index(rows - 1, 0))
    await stage.until(lambda: [tree.model().index(row, 0).data() for row in range(5)] == [f"+ f{n}" for n in range(5)])


async def what_can_not_be_told_is_said(stage) -> None:
    image = stage.gateway.add_image("team/app:1")
    other = stage.gateway.add_image("docker/app:1")
    stage.gateway.image_failure = "No such image: team/app:1."
    await listed(stage)
    stage.store.dispatch(Navigated(Route(Page.IMAGES, image.id)))
    await stage.until(lambda: "No such image" in seen_text(stage))
    stage.gateway.image_failure = ""
    stage.gateway.usage_failure = "The worker was killed."
    stage.desk.intents.refresh.emit()
    await stage.shown(QTreeView, "image-files")
    stage.find(QTabBar, "image-tabs").setCurrentIndex(1)
    await stage.until(lambda: "The worker was killed." in seen_text(stage))
    stage.gateway.layers_by_id[other.id] = ImageLayers(LAYERS.steps, LAYERS.layers, browsable=False)
    stage.store.dispatch(Navigated(Route(Page.IMAGES, other.id)))
    await stage.until(lambda: "Kitepy's own can" in seen_text(stage))
    stage.find(QTabBar, "image-tabs").setCurrentIndex(0)
    assert len(column(await stage.shown(Table, "image-steps"), 0)) == 8
    await stage.until(lambda: "This engine can't show what is in layers" in seen_text(stage))
    # Somebody removes it: its page is left.
    await stage.gateway.remove_image(other.id, force=False)
    await stage.until(lambda: stage.store.state.route == IMAGES)


async def archives_come_and_go(stage, tmp_path: Path) -> None:
    image = stage.gateway.add_image("team/app:1", size_bytes=100_000_000)
    stage.gateway.hold_copy = asyncio.Event()
    await listed(stage)
    presenter = stage.session.images._presenter
    presenter.ask_save_path = lambda _title, suggestion, go: go(tmp_path / suggestion)
    stage.store.dispatch(Navigated(Route(Page.IMAGES, image.id)))
    await stage.until(lambda: stage.find(QAbstractButton, "image-detail-save").isEnabled())
    stage.find(QAbstractButton, "image-detail-save").click()
    cancel = await stage.shown(QAbstractButton, "job-cancel")
    await stage.until(lambda: [job.percent for job in stage.store.state.jobs.values()] == [50])
    cancel.click()
    await stage.until(lambda: [job.phase for job in stage.store.state.jobs.values()] == [JobPhase.CANCELLED])
    (await stage.shown(QAbstractButton, "job-dismiss")).click()
    stage.gateway.hold_copy.set()
    stage.find(QAbstractButton, "image-detail-save").click()
    await stage.until(lambda: (tmp_path / "app-1.tar").exists())
    assert ("save_images", "team/app:1", str(tmp_path / "app-1.tar")) in stage.gateway.calls
    # What is dropped: archives are loaded, folders are built.
    stage.desk.intents.build_paths.emit([str(tmp_path / "app-1.tar")])
    await stage.until(lambda: any(job.note == "Loaded loaded/app:1.0." for job in stage.store.state.jobs.values()))
    assert stage.store.state.route == IMAGES
    stage.gateway.archive_is_image = False
    stage.desk.intents.build_paths.emit([str(tmp_path / "My rootfs.tar.gz")])
    name = await stage.shown(QLineEdit, "import-name")
    assert name.text() == "my-rootfs"
    await answer(stage, "import-image-yes")
    await stage.until(lambda: any("my-rootfs:latest" in image.tags for image in stage.store.state.images))
    stage.gateway.operation_failure = "/x/y.tar is not a tar archive."
    stage.desk.intents.build_paths.emit(["/x/y.tar"])
    await stage.until(lambda: "/x/y.tar is not a tar archive." in stage.window.notices.texts())
    stage.gateway.operation_failure = ""


async def a_push_shows_each_layer(stage) -> None:
    image = stage.gateway.add_image("team/app:1")
    stage.gateway.hold_push = asyncio.Event()
    stage.gateway.logins_by_host["localhost:5000"] = Login("localhost:5000", "ada", Keeper.SESSION)
    stage.session.registries.refresh()
    await stage.until(lambda: stage.store.state.registries.user_of("localhost:5000") == "ada")
    stage.gateway.push_messages = [
        TransferMessage("The push refers to repository [localhost:5000/team/app]"),
        TransferMessage("Preparing", "aaaaaaaaaaaa"),
        TransferMessage("Preparing", "bbbbbbbbbbbb"),
        TransferMessage("Layer already exists", "aaaaaaaaaaaa"),
        TransferMessage("Pushing", "bbbbbbbbbbbb", 25, 100),
    ]
    await listed(stage)
    stage.store.dispatch(Navigated(Route(Page.IMAGES, image.id)))
    await stage.until(lambda: stage.find(QAbstractButton, "image-detail-push").isEnabled())
    stage.find(QAbstractButton, "image-detail-push").click()
    name = await stage.shown(QLineEdit, "push-name")
    assert name.text() == "team/app:1"
    name.setText("nginx")
    assert "belong to Docker" in stage.find(QLabel, "push-where").text()
    name.setText("localhost:5000/team/app:1")
    where = stage.find(QLabel, "push-where").text()
    assert "It goes to localhost:5000 as ada, " in where
    assert "The image gets this name first." in where
    await answer(stage, "push-image-yes")
    await stage.until(lambda: [job.percent for job in stage.store.state.jobs.values()] == [25])
    assert ("tag_image", image.id, "localhost:5000/team/app:1") in stage.gateway.calls
    layers = next(view for view in stage.window.images.findChildren(QAbstractButton, "job-layers-shown") if view.isVisible())
    assert layers.isChecked()
    bars = stage.window.images.detail.jobs.findChild(object, "job-layers")
    assert [bars.model().index(row, 0).data(Qt.ItemDataRole.AccessibleTextRole) for row in range(2)] == [
        "aaaaaaaaaaaa: Already there",
        "bbbbbbbbbbbb: Pushing 25 B of 100 B",
    ]
    layers.click()
    assert not bars.isVisible()
    stage.gateway.push_failure = "Denied: requested access to the resource is denied."
    stage.gateway.hold_push.set()
    note = await stage.shown(QLabel, "job-note")
    await stage.until(lambda: note.text().startswith("localhost:5000 doesn't take localhost:5000/team/app. Log in there"))
    asked = []
    stage.desk.intents.log_in.connect(asked.append)
    (await stage.shown(QAbstractButton, "job-log-in")).click()
    assert asked == ["localhost:5000"]
    await answer(stage, "login-no")
    stage.gateway.push_failure = ""
    stage.session.images._push(image, "localhost:5000/team/app:1", True)
    await stage.until(lambda: any(job.phase is JobPhase.DONE for job in stage.store.state.jobs.values()))
    assert ("push_image", "localhost:5000/team/app:1", "all") in stage.gateway.calls


def test_the_list_tells_what_images_take_and_what_a_prune_and_a_removal_cost(stage) -> None:
    async def story() -> None:
        await stage.ready()
        await the_list_is_narrowed_and_sorted(stage)
        await begin_anew(stage)
        await a_prune_shows_what_goes(stage)
        await begin_anew(stage)
        await a_removal_says_what_is_lost(stage)
        await begin_anew(stage)
        await names_come_back(stage)

    stage.play(story)


def test_an_image_is_looked_into_layer_by_layer(stage) -> None:
    async def story() -> None:
        await stage.ready()
        await layers_are_looked_into(stage)
        await begin_anew(stage)
        await a_large_folder_comes_by_the_page(stage)
        await begin_anew(stage)
        await what_can_not_be_told_is_said(stage)

    stage.play(story)


def test_archives_and_pushes_show_how_far_they_are_and_can_be_cancelled(stage, tmp_path: Path) -> None:
    async def story() -> None:
        await stage.ready()
        await archives_come_and_go(stage, tmp_path)
        await begin_anew(stage)
        await a_push_shows_each_layer(stage)

    stage.play(story)


REACHED: tuple[tuple[int | None, set[str]], ...] = (
    (
        None,
        {"image-filter", "image-kind", "image-prune", "image-load", "image-remove", "image-push", "image-run", "images-list"},
    ),
    (0, {"image-back", "image-detail-run", "image-tabs", "image-steps", "image-command", "image-own", "image-files"}),
    (1, {"image-back", "image-tabs", "image-waste"}),
    (2, {"image-back", "image-add-name", "image-untag", "image-user"}),
)
"""By tab of an image's page, or None for the list."""


def test_everything_is_reached_by_the_tab_key_and_has_a_name(stage) -> None:
    async def story() -> None:
        image = stage.gateway.add_image("team/app:1", "team/app:2")
        stage.gateway.add_image("spare:1")
        stage.gateway.add_container("web", "team/app:1", image_id=image.id)
        await stage.ready()
        stage.window.activateWindow()
        await stage.until(lambda: stage.window.isActiveWindow())
        for tab, wanted in REACHED:
            stage.store.dispatch(Navigated(IMAGES if tab is None else Route(Page.IMAGES, image.id)))
            if tab is not None:
                stage.find(QTabBar, "image-tabs").setCurrentIndex(tab)
                looking = lambda: stage.store.state.looking  # noqa: E731 - one line, used in a wait
                await stage.until(lambda: looking().layers and looking().layers.worst and looking().folders)  # noqa: B023
            seen = reached_by_tab(stage, 45)
            assert wanted <= seen, wanted - seen

    stage.play(story)
