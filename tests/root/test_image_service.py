"""Images over real layers: load, save, import, list, remove, prune; wording and order as dockerd has them."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.storage import Storage, docker_archive, entry, load, make_tar, pieces, with_storage

from kitepy.engine.model.errors import Cancelled, Conflict, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.oci import HistoryEntry, ImageConfig, ImageDocument, digest_of
from kitepy.engine.model.reference import parse_reference
from kitepy.engine.services.ports import ImportRequest

LAYER_A = make_tar((entry("a"), b"aaaa"))
LAYER_B = make_tar((entry("b"), b"bb"))


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


async def saved(storage: Storage, *names: str) -> bytes:
    return b"".join([piece async for piece in storage.images.save(names)])


def members_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {m.name: opened.extractfile(m).read() for m in opened if m.isfile()}  # type: ignore[union-attr]  # files have one


def oci_archive(layers: list[bytes], annotations: dict[str, str], *, nested: bool = False) -> bytes:
    """An OCI layout whose layers are compressed as given."""
    plain = [gzip.decompress(x) if x[:2] == b"\x1f\x8b" else zstandard.decompress(x) for x in layers]
    config = ImageDocument(ImageConfig(), tuple(digest_of(x) for x in plain), architecture="amd64").encode()  # type: ignore[arg-type]  # diff ids
    blobs = {digest_of(config): config, **{digest_of(layer): layer for layer in layers}}
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": "x", "digest": digest_of(layer), "size": len(layer)} for layer in layers],
        }
    ).encode()
    blobs[digest_of(manifest)] = manifest
    top: dict[str, Any] = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(manifest),
        "size": len(manifest),
    }
    if nested:
        other = {**top, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "s390x"}}
        unknown = {**other, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
        index = {"manifests": [other, {**top, "platform": {"os": "linux", "architecture": _native()}}, unknown]}
        raw = json.dumps(index).encode()
        blobs[digest_of(raw)] = raw
        top = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest_of(raw), "size": len(raw)}
    outer = json.dumps({"schemaVersion": 2, "manifests": [{**top, "annotations": annotations}]}).encode()
    return make_tar(
        (entry("oci-layout"), b'{"imageLayoutVersion":"1.0.0"}'),
        *((entry(f"blobs/sha256/{digest[7:]}"), data) for digest, data in blobs.items()),
        (entry("index.json"), outer),
    )


def _native() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


# --- load ---


def test_load_keeps_the_id_and_says_what_it_loaded(data_root: Path) -> None:
    archive = docker_archive([LAYER_A, LAYER_B], "app:1", "localhost:5000/app:x")

    async def story(storage: Storage) -> None:
        assert await load(storage, archive) == ["Loaded image: app:1", "Loaded image: localhost:5000/app:x"]
        image = storage.images.resolve("app:1")
        assert image.id == digest_of(next(data for name, data in members_of(archive).items() if name.endswith(".json")))
        assert image.size_bytes == 6
        assert image.config.cmd == ("sh",)
        assert len(image.layers) == 2
        lower = storage.layers.lower_dirs(image.layers[-1])
        assert (data_root / lower[0] / "b").read_bytes() == b"bb"
        assert storage.images.resolve(image.id) == storage.images.resolve(image.id[7:19]) == image
        assert ("image", "load", image.id) in storage.events

    with_storage(data_root, story)


def test_an_image_without_a_name_is_reported_by_its_id(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        (message,) = await load(storage, docker_archive([LAYER_A]))
        assert message == f"Loaded image ID: {(await storage.images.list())[0]['Id']}"

    with_storage(data_root, story)


def test_a_compressed_archive_and_layers_shared_by_links_are_loaded(data_root: Path) -> None:
    plain = docker_archive([LAYER_A, LAYER_A], "twice:1")
    files = members_of(plain)
    rebuilt = make_tar(
        *((entry(name), data) for name, data in files.items() if name != "l1/layer.tar"),
        entry("l1/layer.tar", tarfile.SYMTYPE, "../l0/layer.tar"),
    )

    async def story(storage: Storage) -> None:
        assert await load(storage, gzip.compress(rebuilt)) == ["Loaded image: twice:1"]
        assert len(set(storage.images.resolve("twice:1").layers)) == 2
        assert len(list(storage.content.digests())) == 1

    with_storage(data_root, story)


@pytest.mark.parametrize("nested", [False, True])
def test_an_oci_layout_keeps_its_manifest_and_compressed_blobs(data_root: Path, nested: bool) -> None:
    layers = [gzip.compress(LAYER_A), zstandard.compress(LAYER_B)]
    archive = oci_archive(layers, {"io.containerd.image.name": "ghcr.io/o/app:2"}, nested=nested)

    async def story(storage: Storage) -> None:
        assert await load(storage, archive) == ["Loaded image: ghcr.io/o/app:2"]
        assert {digest_of(layer) for layer in layers} == set(storage.content.digests())
        inspected = await storage.images.inspect("ghcr.io/o/app:2")
        assert inspected["RepoDigests"] == [], "no registry is known to have it"
        manifest = storage.image_store.describe(storage.images.resolve("ghcr.io/o/app:2")).manifest
        assert manifest is not None
        name = f"blobs/sha256/{digest_of(manifest).removeprefix('sha256:')}"
        assert members_of(await saved(storage, "ghcr.io/o/app:2"))[name] == members_of(archive)[name] == manifest

    with_storage(data_root, story)


def test_an_image_is_found_by_the_digests_that_repositories_have_it_under(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A], "app:1"))
        image, store = storage.images.resolve("app:1"), storage.image_store
        index = b'{"manifests":[]}'
        names = [f"{name}@{digest_of(index)}" for name in ("app", "ghcr.io/o/app")]
        for name in names:
            store.add_repository_digest(parse_reference(name), image.id)
        store.add_manifest(image.id, "application/vnd.oci.image.index.v1+json", index)
        assert (await storage.images.inspect(image.id))["RepoDigests"] == names
        assert (await storage.images.list())[0]["RepoDigests"] == names
        assert [str(name) for name in store.references(image.id)] == [
            "docker.io/library/app:1",
            f"docker.io/library/{names[0]}",
            names[1],
        ]
        assert storage.images.resolve(names[1]) is image
        assert storage.images.resolve(f"app:anything@{digest_of(index)}") is image
        kept = store.manifest(digest_of(index))
        assert kept is not None
        assert kept.raw == index
        assert store.manifests(image.id) == (kept,)
        assert store.images_of_manifest(digest_of(index)) == (image.id,)

        removals = [store.remove_reference(parse_reference(names[1])) for _ in range(2)]
        assert removals == [True, False]
        with pytest.raises(NotFound):
            storage.images.resolve(names[1])
        await storage.images.remove(image.id, force=True)
        assert store.manifest(digest_of(index)) is None

    with_storage(data_root, story)


def test_a_bare_ref_name_is_no_repository(data_root: Path) -> None:
    archive = oci_archive([gzip.compress(LAYER_A)], {"org.opencontainers.image.ref.name": "latest"})

    async def story(storage: Storage) -> None:
        (message,) = await load(storage, archive)
        assert message.startswith("Loaded image ID: sha256:")

    with_storage(data_root, story)


def test_loading_over_a_tag_says_that_the_old_image_lost_it(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A], "app:1"))
        old = storage.images.resolve("app:1").id
        messages = await load(storage, docker_archive([LAYER_B], "app:1"))
        assert messages[0] == f"The image app:1 already exists, renaming the old one with ID {old} to empty string"
        assert [image["RepoTags"] for image in await storage.images.list(filters=Filters({"dangling": ("true",)}))] == [[]]

    with_storage(data_root, story)


def edit(archive: bytes, **changes: bytes | None) -> bytes:
    files = members_of(archive)
    for name, data in changes.items():
        key = {"manifest": "manifest.json", "layer": "l0/layer.tar"}[name]
        if data is None:
            del files[key]
        else:
            files[key] = data
    return make_tar(*((entry(name), data) for name, data in files.items()))


GOOD = docker_archive([LAYER_A], "app:1")


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (edit(GOOD, layer=LAYER_B), 'invalid diffID for layer 0: expected "sha256:'),
        (edit(GOOD, layer=None), "open l0/layer.tar: no such file or directory"),
        (edit(GOOD, manifest=None), "open repositories: no such file or directory"),
        (edit(GOOD, manifest=b"{"), "manifest.json is not valid JSON"),
        (edit(GOOD, manifest=b'[{"Config":"../../etc/passwd","Layers":[]}]'), "open ../../etc/passwd: no such file or directory"),
        (edit(GOOD, manifest=b'[{"Config":"manifest.json","Layers":[]}]'), "not a JSON object"),
        (docker_archive([LAYER_A], os="windows"), "cannot load windows image on linux"),
        (docker_archive([make_tar((entry("../x"), b""))]), "leads outside"),
        (docker_archive([LAYER_A], rootfs={"type": "layers", "diff_ids": []}), "layers length mismatch: expected 1, got 0"),
        (GOOD[:-12000], "unexpected EOF"),
        (b"nonsense" * 200, "invalid tar header"),
        (b"", "open repositories: no such file or directory"),
    ],
)
def test_a_contradictory_archive_is_refused_and_leaves_nothing(data_root: Path, archive: bytes, message: str) -> None:
    async def story(storage: Storage) -> None:
        with pytest.raises(InvalidParameter, match=message):
            await load(storage, archive)
        assert await storage.images.list(all=True) == []

    with_storage(data_root, story)
    assert list((data_root / "content/ingest").iterdir()) == []
    assert list((data_root / "layers").iterdir()) == []


def test_a_blob_whose_name_is_not_its_digest_is_refused(data_root: Path) -> None:
    async def before(storage: Storage) -> bytes:
        await load(storage, GOOD)
        return await saved(storage, "app:1")

    files = members_of(with_storage(data_root, before))
    blob = next(name for name, data in files.items() if data == LAYER_A)
    files[blob] = LAYER_B

    async def after(storage: Storage) -> None:
        await storage.images.remove("app:1")  # or the layer is here, and needn't be looked at
        with pytest.raises(InvalidParameter, match="does not match its name"):
            await load(storage, make_tar(*((entry(name), data) for name, data in files.items())))

    with_storage(data_root, after)


def test_a_client_that_leaves_in_the_middle_leaves_nothing(data_root: Path) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield GOOD[: len(GOOD) // 2]
        raise Cancelled("the client left")

    async def story(storage: Storage) -> None:
        with pytest.raises(Cancelled):
            async for _ in storage.images.load(content()):
                pass
        task = asyncio.ensure_future(load_forever(storage))
        while not list((data_root / "content/ingest").iterdir()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def load_forever(storage: Storage) -> None:
        async def endless() -> AsyncIterator[bytes]:
            yield GOOD[:1000]
            await asyncio.Event().wait()

        async for _ in storage.images.load(endless()):
            pass

    with_storage(data_root, story)
    assert list((data_root / "content/ingest").iterdir()) == []


# --- save ---


def test_what_is_saved_loads_elsewhere_with_the_same_id(data_root: Path, tmp_path: Path) -> None:
    async def first(storage: Storage) -> tuple[str, bytes]:
        await load(storage, docker_archive([LAYER_A, LAYER_B], "app:1", "app:2", "other:1"))
        await load(storage, docker_archive([LAYER_A], "small:1"))
        return storage.images.resolve("app:1").id, await saved(storage, "app", "small:1")

    async def second(storage: Storage) -> None:
        assert await load(storage, archive) == ["Loaded image: app:1", "Loaded image: app:2", "Loaded image: small:1"]
        assert storage.images.resolve("app:2").id == image_id

    image_id, archive = with_storage(data_root, first)
    files = members_of(archive)
    assert {"manifest.json", "index.json", "oci-layout", "repositories"} <= set(files)
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{digest_of(data)[7:]}"
    assert [item["RepoTags"] for item in json.loads(files["manifest.json"])] == [["app:1", "app:2"], ["small:1"]]
    (tmp_path / "second").mkdir()
    with_storage(tmp_path / "second", second)


def test_an_unknown_name_is_refused_before_the_first_byte(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, GOOD)
        with pytest.raises(NotFound, match="No such image: nothing"):
            storage.images.save(["app:1", "nothing"])

    with_storage(data_root, story)


# --- import ---


def test_an_imported_archive_is_one_layer_with_changes_applied(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        archive = pieces(gzip.compress(LAYER_A))
        messages = [
            message
            async for message in storage.images.import_archive(archive, ImportRequest("me/base", "v1", "why", ['CMD ["a"]']))
        ]
        image = storage.images.resolve("me/base:v1")
        assert messages[-1] == {"status": image.id}
        assert image.document.diff_ids == (digest_of(LAYER_A),)
        assert image.config.cmd == ("a",)
        assert (await storage.images.history("me/base:v1"))[0]["Comment"] == "why"
        assert image.architecture == _native()

    with_storage(data_root, story)


def test_an_import_of_nonsense_leaves_nothing(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        for repository, tag, platform, content in (
            ("UPPER", "", None, LAYER_A),
            ("a", "b c", None, LAYER_A),
            ("a", "", "windows/amd64", LAYER_A),
            ("a", "", None, b"x" * 999),
        ):
            with pytest.raises((InvalidParameter, SystemFailure)):
                async for _ in storage.images.import_archive(pieces(content), ImportRequest(repository, tag, platform=platform)):
                    pass
        assert await storage.images.list(all=True) == []

    with_storage(data_root, story)
    assert list((data_root / "content/ingest").iterdir()) == []


# --- list, inspect, history, tag ---


def test_list_filters(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        created = {"old": "2020-01-01T00:00:00Z", "mid": "2021-01-01T00:00:00Z", "new": "2022-01-01T00:00:00Z"}
        for name, when in created.items():
            await load(
                storage, docker_archive([LAYER_A], f"x/{name}:1", created=when, config={"Labels": {"name": name, "all": "1"}})
            )

        async def names(**filters: str) -> list[str]:
            wanted = Filters({key.replace("_", "!"): (value,) for key, value in filters.items()})
            return [image["RepoTags"][0] for image in await storage.images.list(filters=wanted)]

        assert await names() == ["x/new:1", "x/mid:1", "x/old:1"]
        assert await names(before="x/mid:1") == ["x/old:1"]
        assert await names(since="x/mid:1") == ["x/new:1"]
        assert await names(until="2021-06-01T00:00:00Z") == ["x/mid:1", "x/old:1"]
        assert await names(label="name=mid") == ["x/mid:1"]
        assert await names(label="all") == ["x/new:1", "x/mid:1", "x/old:1"]
        assert await names(reference="x/o*") == ["x/old:1"]
        assert await names(reference="x*") == []
        assert await names(reference="*/*:1") == ["x/new:1", "x/mid:1", "x/old:1"]
        assert await names(dangling="true") == []
        with pytest.raises(InvalidParameter, match="invalid filter 'nope'"):
            await names(nope="1")
        shared = await storage.images.list(shared_size=True)
        assert [image["SharedSize"] for image in shared] == [4, 4, 4]

    with_storage(data_root, story)


def test_inspect_has_the_specified_fields(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A, LAYER_B], "app:1", author="me", variant="v8"))
        inspected = await storage.images.inspect("app:1")
        assert inspected["RepoTags"] == ["app:1"]
        assert inspected["Created"] == "2024-02-03T04:05:06.789Z"
        assert {key: value for key, value in inspected["Config"].items() if value} == {"Cmd": ["sh"]}
        assert inspected["RootFS"] == {"Type": "layers", "Layers": [digest_of(LAYER_A), digest_of(LAYER_B)]}
        assert inspected["GraphDriver"]["Data"]["UpperDir"].endswith("/diff")
        assert (inspected["Author"], inspected["Variant"], inspected["Size"]) == ("me", "v8", 6)
        assert inspected["Metadata"]["LastTagTime"] == "0001-01-01T00:00:00Z", "loading is not tagging"
        await storage.images.tag("app:1", "app", "2")
        assert (await storage.images.inspect("app:1"))["Metadata"]["LastTagTime"] > "2025"

    with_storage(data_root, story)


def test_history_is_newest_first_with_sizes_and_known_ancestors(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A], "base:1"))
        base = storage.images.resolve("base:1")
        document = ImageDocument(
            ImageConfig(),
            base.document.diff_ids,
            (*base.document.history, HistoryEntry("2024-03-01T00:00:00Z", "ENV A=1", empty_layer=True)),
            created="2024-03-01T00:00:00Z",
            architecture="amd64",
        )
        child = storage.images.create_image(document.encode(), base.layers, parent_id=base.id)
        storage.images.set_tag(child, parse_reference("child"))
        entries = await storage.images.history("child")
        assert [(e["Id"], e["CreatedBy"], e["Size"], e["Tags"]) for e in entries] == [
            (child.id, "ENV A=1", 0, ["child:latest"]),
            (base.id, "step 0", 4, ["base:1"]),
        ]

    with_storage(data_root, story)


def test_ids_may_be_abbreviated_but_names_beat_them_and_ambiguous_ones_name_nothing(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        for number in range(40):
            storage.images.create_image(ImageDocument(author=str(number)).encode())
        ids = [image["Id"] for image in await storage.images.list(all=True)]
        # Of forty ids some two begin with the same digit.
        shared = next(digit for digit in "0123456789abcdef" if sum(one[7] == digit for one in ids) > 1)
        with pytest.raises(NotFound, match=f"No such image: {shared}:latest"):
            storage.images.resolve(shared)
        await storage.images.tag(ids[0], ids[1][7:15], "")
        assert storage.images.resolve(ids[1][7:15]).id == ids[0]
        assert storage.images.resolve("sha256:" + ids[1][7:15]).id == ids[1]
        with pytest.raises(NotFound, match=f"No such image: sha256:{'0' * 64}"):
            storage.images.resolve("sha256:" + "0" * 64)

    with_storage(data_root, story)


def test_tagging_moves_a_tag_and_checks_its_form(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A], "a:1"))
        await load(storage, docker_archive([LAYER_B], "b:1"))
        await storage.images.tag("a:1", "b", "1")
        assert storage.images.resolve("b:1") == storage.images.resolve("a:1")
        assert storage.attributes[-1]["name"] == "b:1"
        with pytest.raises(InvalidParameter, match="invalid tag format"):
            await storage.images.tag("a:1", "x", "-")
        with pytest.raises(InvalidParameter, match="invalid reference format"):
            await storage.images.tag("a:1", "x y", "1")
        with pytest.raises(NotFound):
            await storage.images.tag("none", "x", "1")

    with_storage(data_root, story)


# --- remove and prune ---


def test_removing_a_tag_keeps_the_image_until_its_last(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A, LAYER_B], "app:1", "app:2"))
        image = storage.images.resolve("app:1")
        assert await storage.images.remove("app:1") == [{"Untagged": "app:1"}]
        records = await storage.images.remove("app:2")
        assert records == [
            {"Untagged": "app:2"},
            {"Deleted": image.id},
            {"Deleted": image.layers[1]},
            {"Deleted": image.layers[0]},
        ]
        assert [action for _, action, _ in storage.events] == ["load", "untag", "untag", "delete"]

    with_storage(data_root, story)
    assert list((data_root / "layers").iterdir()) == []
    assert list((data_root / "content/blobs/sha256").iterdir()) == []


def test_an_image_with_several_tags_is_not_removed_by_id_without_force(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A], "app:1", "other:1"))
        image = storage.images.resolve("app:1")
        short = image.id[7:19]
        with pytest.raises(Conflict) as caught:
            await storage.images.remove(short)
        assert str(caught.value) == (
            f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
        assert {"Deleted": image.id} in await storage.images.remove(short, force=True)

    with_storage(data_root, story)


def test_an_image_in_use_is_protected_in_dockers_words(data_root: Path) -> None:
    container = "c0ffee" * 10

    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A], "app:1"))
        image = storage.images.resolve("app:1")
        short = image.id[7:19]
        storage.users[image.id] = [(container, False)]
        with pytest.raises(Conflict) as caught:
            await storage.images.remove("app:1")
        assert str(caught.value) == (
            f'conflict: unable to remove repository reference "app:1" (must force) - container {container[:12]} '
            f"is using its referenced image {short}"
        )
        with pytest.raises(Conflict, match=rf"unable to delete {short} \(must be forced\) - image is being used by stopped"):
            await storage.images.remove(image.id)
        storage.users[image.id] = [(container, True)]
        with pytest.raises(Conflict, match=rf"unable to delete {short} \(cannot be forced\) - image is being used by running"):
            await storage.images.remove(image.id, force=True)
        assert await storage.images.remove("app:1", force=True) == [{"Untagged": "app:1"}]
        assert storage.images.resolve(image.id) == image

    with_storage(data_root, story)


def test_removal_takes_untagged_parents_along_and_spares_shared_layers(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A], "base:1"))
        base = storage.images.resolve("base:1")
        diff_ids = base.document.diff_ids
        middle = storage.images.create_image(ImageDocument(diff_ids=diff_ids, author="m").encode(), parent_id=base.id)
        child = storage.images.create_image(ImageDocument(diff_ids=diff_ids, author="c").encode(), parent_id=middle.id)
        assert {image["Id"] for image in await storage.images.list()} == {base.id, child.id}
        assert len(await storage.images.list(all=True)) == 3
        assert await storage.images.remove(child.id) == [{"Deleted": child.id}, {"Deleted": middle.id}]
        assert storage.layers.find(base.layers[0])

    with_storage(data_root, story)


def test_prune_removes_dangling_images_and_all_unused_on_demand(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await load(storage, docker_archive([LAYER_A]))
        await load(storage, docker_archive([LAYER_B], "app:1"))
        await load(storage, docker_archive([LAYER_A], "used:1", author="u"))
        storage.users[storage.images.resolve("used:1").id] = [("c", False)]
        report = await storage.images.prune()
        assert len(report["ImagesDeleted"]) == 1
        assert report["SpaceReclaimed"] == 0
        report = await storage.images.prune(Filters({"dangling": ("false",)}))
        assert report["ImagesDeleted"][0] == {"Untagged": "app:1"}
        assert report["SpaceReclaimed"] == 2
        assert [image["RepoTags"] for image in await storage.images.list()] == [["used:1"]]
        assert (await storage.images.prune())["ImagesDeleted"] is None

    with_storage(data_root, story)


def test_images_survive_a_restart(data_root: Path) -> None:
    async def before(storage: Storage) -> None:
        await load(storage, GOOD)

    async def after(storage: Storage) -> None:
        image = storage.images.resolve("app:1")
        assert (data_root / storage.layers.lower_dirs(image.layers[-1])[0] / "a").exists()

    with_storage(data_root, before)
    with_storage(data_root, after)


def test_parallel_loads_of_the_same_image_make_it_once(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        started = time.monotonic()
        results = await asyncio.gather(*(load(storage, docker_archive([LAYER_A, LAYER_B], "app:1")) for _ in range(4)))
        assert results == [["Loaded image: app:1"]] * 4
        assert time.monotonic() - started < 30
        assert storage.images.count() == 1

    with_storage(data_root, story)
    assert len(list((data_root / "layers").iterdir())) == 2
