"""What the app knows of images, without a window: rows, losses, sums, steps as a Dockerfile has them, the engine's documents."""

from __future__ import annotations

import pytest

from kitepy.gui.gateway.images import config_from_inspect, layers_from_document, layers_from_history
from kitepy.gui.gateway.translate import container_from_list, folder_from_listing, image_from_list
from kitepy.gui.models.container import Container, Status
from kitepy.gui.models.image import Image, archive_name, looks_like_archive, name_from_archive
from kitepy.gui.models.image_detail import ImageLayer, ImageLayers, ImageStep, Looking, instruction, with_folder, with_layer
from kitepy.gui.models.image_list import (
    ImageFilter,
    ImageRow,
    PruneCandidate,
    freed_bytes,
    holder_of,
    image_rows,
    loss_of_removal,
    total_bytes,
    trouble_with_tag,
    unused,
)
from kitepy.gui.models.image_tree import ImageTreeModel
from kitepy.gui.models.state import (
    IMAGES,
    AppState,
    ImagesListed,
    Navigated,
    Page,
    Route,
    reduce,
)
from kitepy.gui.models.table import TONE_ROLE
from kitepy.gui.models.volume import Browsing, FileEntry, Folder

APP = Image("sha256:" + "a" * 64, ("team/app:1", "team/app:latest"), 1000, 300.0, shared_bytes=400)
DB = Image("sha256:" + "b" * 64, ("postgres:16",), 500, 200.0, shared_bytes=400, digests=("postgres@sha256:" + "c" * 64,))
OLD = Image("sha256:" + "d" * 64, (), 100, 100.0, shared_bytes=0, labels={"stage": "builder"})


def container(name: str, image: Image, **more: object) -> Container:
    return Container(name, name, image.reference, Status.RUNNING, image_id=image.id, **more)  # type: ignore[arg-type]


def test_rows_tell_who_uses_an_image_and_are_narrowed() -> None:
    users = [container("web", APP), Container("x", "by-name", "postgres:16", Status.EXITED)]
    rows = image_rows([OLD, DB, APP], users)
    assert [(row.title, row.used_by, row.alive) for row in rows] == [
        ("team/app:1  +1", "web", True),
        ("postgres:16", "by-name", False),
        ("untagged dddddddddddd", "", False),
    ]
    # A tag may have moved on: the id counts, where it is told.
    moved = Container("y", "moved", "team/app:1", Status.EXITED, image_id=OLD.id)
    assert [row.used_by for row in image_rows([OLD, APP], [moved])] == ["", "moved"]

    def found(query: str, kind: ImageFilter = ImageFilter.ALL) -> list[str]:
        return [row.image.id[7:8] for row in image_rows([APP, DB, OLD], users, query, kind)]

    assert found("latest team") == ["a"]
    assert found("STAGE=builder") == ["d"]
    assert found("web") == ["a"]
    assert found("", ImageFilter.USED) == ["a", "b"]
    assert found("", ImageFilter.UNUSED) == ["d"]
    assert found("", ImageFilter.UNTAGGED) == ["d"]
    assert found("post", ImageFilter.UNTAGGED) == []
    assert total_bytes(rows) == 600 + 100 + 100 + 400
    assert total_bytes([ImageRow(Image("x", size_bytes=7))]) == 7


def test_a_removal_says_what_is_lost() -> None:
    assert loss_of_removal(ImageRow(APP)).startswith(
        "Its names team/app:1, team/app:latest go with it. 600 B are freed; 400 B stay"
    )
    assert "building it again" in loss_of_removal(ImageRow(APP))
    assert "pulled again from postgres" in loss_of_removal(ImageRow(DB))
    assert loss_of_removal(ImageRow(OLD)).startswith("100 B are freed. ")
    assert loss_of_removal(ImageRow(Image("x", size_bytes=5))).startswith("It has 5 B. ")


def test_a_prune_frees_a_layer_with_the_last_image_that_has_it() -> None:
    rows = image_rows([APP, DB, OLD], [container("web", APP)])
    assert [row.image for row in unused(rows, tagged=True)] == [DB, OLD]
    assert [row.image for row in unused(rows, tagged=False)] == [OLD]
    one = PruneCandidate(ImageRow(DB), {"base": (400, 3), "own": (100, 1)})
    two = PruneCandidate(ImageRow(OLD), {"base": (400, 3), "other": (50, 1)})
    three = PruneCandidate(ImageRow(APP), {"base": (400, 3)})
    assert freed_bytes([]) == 0
    assert freed_bytes([one, two]) == 150
    assert freed_bytes([one, two, three]) == 550
    assert freed_bytes([PruneCandidate(ImageRow(APP), {})]) == 600  # an engine that doesn't tell


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('/bin/sh -c #(nop)  CMD ["bash"]', 'CMD ["bash"]'),
        ("/bin/sh -c apt-get update", "RUN apt-get update"),
        ("|2 A=1 B=2 /bin/sh -c make $A", "RUN make $A"),
        ("RUN /bin/sh -c make  \n all # buildkit", "RUN make all"),
        ("RUN /bin/bash -o pipefail -c x | y # buildkit", "RUN x | y"),
        ("COPY . /srv # buildkit", "COPY . /srv"),
        ("RUN echo /bin/sh -c x", "RUN echo /bin/sh -c x"),
        ("", "(nothing is told)"),
        ("evil \x1b[31m\u202e", "evil  [31m "),
    ],
)
def test_steps_are_told_as_a_dockerfile_has_them(text: str, wanted: str) -> None:
    assert instruction(text) == wanted


def test_an_import_is_told_by_its_comment() -> None:
    assert ImageStep("", comment="Imported from -").words == "Imported from -"
    assert ImageStep("CMD x", comment="c").words == "CMD x"


def test_names_are_checked_and_taken_names_found() -> None:
    assert trouble_with_tag("registry.example.com:5000/team/app:2", APP) == ""
    assert trouble_with_tag("team/app", APP) == "It has this name already."
    for wrong in ("", "Team/App", "a b", "app@sha256:" + "a" * 64, "x:y:z"):
        assert trouble_with_tag(wrong, APP).startswith("Write a name")
    assert holder_of([APP, DB], "postgres:16") == DB
    assert holder_of([APP, DB], "postgres") is None
    assert archive_name(APP) == "app-1.tar"
    assert archive_name(OLD) == "dddddddddddd.tar"
    assert name_from_archive("My rootfs.tar.gz") == "my-rootfs"
    assert looks_like_archive("/a/b.TAR")
    assert looks_like_archive("x.tar.zst")
    assert not looks_like_archive("/a.tar/Dockerfile")


def test_the_engine_s_documents_become_values_whatever_they_lack() -> None:
    listed = image_from_list({"Id": "sha256:1", "RepoTags": ["<none>:<none>"], "RepoDigests": None, "SharedSize": -1, "Size": 5})
    assert (listed.tags, listed.digests, listed.shared_bytes, listed.own_bytes) == ((), (), None, None)
    assert image_from_list({"Id": "sha256:1", "SharedSize": 2, "Size": 5}).own_bytes == 3
    assert container_from_list({"Id": "1", "ImageID": "sha256:1"}).image_id == "sha256:1"
    assert layers_from_document({}) == ImageLayers()
    layers = layers_from_document(
        {
            "History": [{"CreatedBy": "A", "Layer": 0}, {"CreatedBy": "B", "Layer": None}],
            "Layers": [{"Size": 10, "DiffId": "d", "Images": 2, "Added": 1, "Changed": 0, "Removed": 0, "WastedBytes": 4}],
            "Usage": {
                "WastedBytes": 4,
                "Worst": [
                    {"Path": "/f", "Type": "file", "Layer": 0, "HiddenBy": 1, "Change": "removed", "Files": 1, "Size": 4},
                ],
                "Incomplete": True,
            },
        }
    )
    assert layers.layers == (ImageLayer(0, 10, "d", 2, 1, 0, 0, 4),)
    assert (layers.efficiency, layers.incomplete, layers.worst[0].removed) == (0.6, True, True)
    assert layers.layers[0].words == "1 added"
    step = layers.step_of(0)
    assert step is not None
    assert step.created_by == "A"
    old = layers_from_history([{"CreatedBy": "CMD x", "Size": 0, "Created": 1}, {"CreatedBy": "ADD y", "Size": 7, "Created": 0}])
    assert [(each.created_by, each.layer, each.created_at) for each in old.steps] == [
        ("ADD y", 0, ""),
        ("CMD x", None, "1970-01-01T00:00:01Z"),
    ]
    assert (old.browsable, old.efficiency) == (False, None)
    config = config_from_inspect(
        {
            "Os": "linux",
            "Architecture": "arm64",
            "Variant": "v8",
            "Config": {"Env": ["A=1"], "Cmd": None, "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["CMD", "a b", "c"]}},
        }
    )
    assert (config.platform, config.environment, config.command, config.ports) == ("linux/arm64/v8", ("A=1",), (), ("80/tcp",))
    assert config.health_check == "'a b' c"
    folder = folder_from_listing({"Entries": [{"Name": "a", "Type": "file", "Change": "added", "Layer": 2}], "Next": "fYQ=="})
    assert (folder.entries[0].change, folder.entries[0].layer, folder.following) == ("added", 2, "fYQ==")


def test_another_layer_begins_with_no_files_and_an_image_that_goes_leaves_its_page() -> None:
    looking = with_folder(with_layer(Looking("x"), 2, True), "/", Folder())
    assert with_layer(looking, 2, True) is looking
    assert with_layer(looking, 2, False).folders == {}
    state = reduce(AppState(images=(APP, DB)), Navigated(Route(Page.IMAGES, DB.id)))
    assert reduce(state, ImagesListed((APP, DB))).route.key == DB.id
    assert reduce(state, ImagesListed((APP,))).route == IMAGES


def test_files_show_what_a_layer_does_to_them_not_by_colour_alone() -> None:
    model = ImageTreeModel()
    entries = (
        FileEntry("etc", "directory", change="none", layer=1),
        FileEntry("old", "directory", change="removed"),
        FileEntry("new\n", "file", 5, change="added", layer=1),
        FileEntry("same", "file", 5, change="none", layer=0),
    )
    model.show(Browsing("v", {"/": Folder(entries, following="t")}))

    def shown(row: int, role: int = 0) -> object:
        return model.data(model.index(row, 0), role)

    assert [shown(row) for row in range(5)] == ["\u2007 etc", "− old", "+ new\ufffd", "\u2007 same", "Show more…"]
    assert [shown(row, TONE_ROLE) for row in range(5)] == ["muted", "danger", "success", "", "muted"]
    assert model.index(2, 2).data() == "2"
    # What a layer has removed isn't there to be opened.
    assert [model.hasChildren(model.index(row, 0)) for row in range(2)] == [True, False]
    assert model.folder_with_more(model.index(4, 0)) == "/"
    assert model.folder_with_more(model.index(0, 0)) == ""
    assert model.entry(model.index(4, 0)) is None
