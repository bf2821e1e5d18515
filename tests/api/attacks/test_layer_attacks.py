"""Layers made to break out: every way by which a foreign archive could touch the host, through a load and through a pull alike.

Each is refused in clear words, or stays inside of the image; the host's directory that it aims at is looked at afterwards.
"""

from __future__ import annotations

import io
import itertools
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound
from support import oci
from support.docker_registry import DockerRegistry
from support.engine import ROOTLESS
from support.image_archives import MadeImage, docker_archive_of
from support.tarballs import content, entry, link, members, tarball

Member = tuple[tarfile.TarInfo, bytes | None]
Members = list[Member]
Inside = Callable[[bytes, str], bool]

BASE = tarball(entry("etc"), entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), entry("kept"), entry("kept/file", b"1"))
_numbers = itertools.count()


@dataclass(frozen=True)
class Attack:
    """A layer, and what must become of it."""

    name: str
    layer: Callable[[str], bytes | Members]
    """Made with the path of the host's directory, which has no slash at its beginning."""
    refused: str = ""
    """The words of the refusal."""
    inside: Inside | None = None
    """Tells from an export of the image, and the host's path, whether it ended well inside. Without either, both will do."""
    ours: bool = False
    """Docker does something else: it takes a mark for its own, say, or refuses a name that comes twice."""


def with_pax(
    name: str, headers: dict[str, str], data: bytes | None = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes | None]:
    return entry(name, data, pax_headers=headers, **fields)


def kind(export: bytes, name: str) -> bytes:
    return members(export)[name].type


def in_base(export: bytes, _: str) -> bool:
    """What the layer below has is as it was."""
    return content(export, "kept/file") == b"1" and content(export, "etc/passwd").startswith(b"root:")


def devices(export: bytes, _: str) -> bool:
    found = members(export)
    # An ordinary user's engine can't make any and leaves them out; in any case no container may open one.
    return ("disk" in found) is not ROOTLESS and (ROOTLESS or (found["disk"].isblk() and found["mem"].ischr()))


NO_FILE = "(?i)no such file"
BAD_RECORD = "archive/tar: invalid tar header"
CLIMBS = "invalid entry name|invalid hardlink target"
ATTACKS = [
    Attack("dots", lambda trap: [entry(f"{'../' * 30}{trap}/planted", b"x")], CLIMBS),
    Attack("dots after a name", lambda trap: [entry(f"a/{'../' * 30}{trap}/planted", b"x")], CLIMBS),
    Attack("dots of a directory", lambda trap: [entry(f"a/../../{trap}", mode=0o777)], CLIMBS),
    Attack(
        "absolute name",
        lambda trap: [entry(f"/{trap}/planted", b"x")],
        inside=lambda export, trap: content(export, f"{trap}/planted") == b"x",
    ),
    Attack(
        "absolute link, then through it",
        lambda trap: [link("out", f"/{trap}"), entry("out/planted", b"x")],
        inside=lambda export, trap: content(export, f"{trap}/planted") == b"x",
    ),
    Attack("relative link, then through it", lambda trap: [link("out", f"{'../' * 30}{trap}"), entry("out/planted", b"x")]),
    Attack("chain of links", lambda trap: [link("a", "b"), link("b", f"/{trap}"), link("c", "a"), entry("c/planted", b"x")]),
    Attack("directory through a link", lambda trap: [link("out", f"/{trap}"), entry("out/planted"), entry("out", mode=0o700)]),
    Attack(
        "link to what is there inside",
        lambda trap: [entry(trap), link("out", f"/{trap}"), entry("out/planted", b"x")],
        inside=lambda export, trap: content(export, f"{trap}/planted") == b"x",
    ),
    Attack(
        "file over a link",
        lambda trap: [link("file", f"/{trap}/secret"), entry("file", b"evil")],
        inside=lambda export, _: content(export, "file") == b"evil",
        ours=True,
    ),
    Attack("directory over a link", lambda trap: [link("d", f"/{trap}"), entry("d", mode=0o700), entry("d/planted", b"x")]),
    Attack("hard link to the host", lambda trap: [link("h", f"/{trap}/secret", hard=True), entry("h", b"evil")], NO_FILE),
    Attack("hard link with dots", lambda trap: [link("h", f"{'../' * 30}{trap}/secret", hard=True)], CLIMBS),
    Attack("hard link through a link", lambda trap: [link("s", f"/{trap}"), link("h", "s/secret", hard=True)], NO_FILE),
    Attack(
        "hard link to a link, then over it",
        lambda trap: [link("s", f"/{trap}/secret"), link("h", "s", hard=True), entry("h", b"evil")],
        inside=lambda export, _: kind(export, "s") == tarfile.SYMTYPE and content(export, "h") == b"evil",
        ours=True,
    ),
    Attack(
        "hard link to a link, through it",
        lambda trap: [link("s", f"/{trap}"), link("h", "s", hard=True), entry("h/planted", b"x")],
    ),
    Attack(
        "devices",
        lambda _: [
            entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666),
            entry("mem", type=tarfile.CHRTYPE, devmajor=1, devminor=1, mode=0o666),
        ],
        inside=devices,
    ),
    Attack(
        "content for a device",
        lambda _: [entry("tty", type=tarfile.CHRTYPE, devmajor=5, devminor=0), entry("tty", b"evil")],
        inside=lambda export, _: content(export, "tty") == b"evil",
        ours=True,
    ),
    Attack(
        "content for a pipe",
        lambda _: [entry("pipe", type=tarfile.FIFOTYPE), entry("pipe", b"evil")],
        inside=lambda export, _: content(export, "pipe") == b"evil",
        ours=True,
    ),
    Attack(
        "a terabyte of holes",
        lambda _: [
            with_pax(
                "huge",
                {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)},
                b"0\n" + bytes(510),
            )
        ],
        "unpacks to more than",
        ours=True,
    ),
    Attack(
        "forged overlay marks",
        lambda _: [
            with_pax(
                "kept",
                {
                    "SCHILY.xattr.trusted.overlay.opaque": "y",
                    "SCHILY.xattr.user.overlay.opaque": "y",
                    "SCHILY.xattr.trusted.overlay.redirect": "/etc",
                    "SCHILY.xattr.user.overlay.redirect": "/etc",
                    "SCHILY.xattr.trusted.overlay.metacopy": "",
                    "LIBARCHIVE.xattr.trusted.overlay.opaque": "eQ==",
                },
                None,
            )
        ],
        inside=in_base,
        ours=True,
    ),
    Attack("an attribute's name with NUL", lambda _: nul_in_pax(b"SCHILY.xattr.user.a\0b"), BAD_RECORD),
    Attack("a name with NUL", lambda _: nul_in_pax(b"path", b"a\0b"), BAD_RECORD),
    Attack(
        "attributes of no kind",
        lambda _: [with_pax("f", {"SCHILY.xattr.bogus": "x", "SCHILY.xattr.system.none": "x"})],
        inside=lambda export, _: "f" in members(export),
        ours=True,
    ),
    Attack(
        "an attribute of a megabyte",
        lambda _: [with_pax("f", {"SCHILY.xattr.user.big": "x" * (1 << 20)})],
        "cannot unpack",
        ours=True,
    ),
    Attack(
        "the same name again and again",
        lambda trap: [
            entry("p", b"p"),
            entry("x", b"1"),
            entry("x"),
            entry("x/y", b"2"),
            link("x", f"/{trap}"),
            entry("x", b"3"),
            link("x", "p", hard=True),
            entry("x", b"4"),
        ],
        inside=lambda export, trap: content(export, "x") == b"4" and in_base(export, trap),
        ours=True,
    ),
    Attack(
        "names that differ by case",
        lambda trap: [
            link("Dir", f"/{trap}"),
            entry("dir"),
            entry("dir/f", b"x"),
            entry("DIR", b"y"),
            entry("Etc"),
            entry("ETC/passwd", b""),
        ],
        inside=lambda export, trap: content(export, "dir/f") == b"x" and in_base(export, trap),
    ),
    Attack("whiteout of the directory", lambda _: [entry("kept/.wh..", b"")], "invalid whiteout entry"),
    Attack("whiteout of the parent", lambda _: [entry("kept/.wh...", b"")], "invalid whiteout entry"),
    Attack("whiteout of nothing", lambda _: [entry(".wh.", b"")], "invalid whiteout entry"),
    Attack(
        "whiteouts through a link",
        lambda trap: [link("out", f"/{trap}"), entry("out/.wh.secret", b""), entry("out/.wh..wh..opq", b"")],
    ),
    Attack("whiteout with dots", lambda trap: [entry(f"{'../' * 30}{trap}/.wh.secret", b"")], CLIMBS),
    Attack(
        "a forged whiteout device",
        lambda _: [entry("kept", type=tarfile.CHRTYPE, devmajor=0, devminor=0)],
        inside=lambda export, _: content(export, "etc/passwd") != b"",
    ),
    Attack("root that is a link", lambda trap: [link("./", f"/{trap}"), entry("planted", b"x")], "root entry", ours=True),
    Attack("huge pax header", lambda _: [with_pax("f", {"comment": "x" * (5 << 20)})], "archive/tar: header field too long"),
    Attack("a name of 70,000 bytes", lambda _: [entry("x/" * 35_000 + "f", b"")], "too long|too deeply|too large", ours=True),
    Attack("a component of 300 bytes", lambda _: [entry("x" * 300, b"")], "(?i)file name too long"),
    Attack("700 directories in each other", lambda _: [entry("d/" * 700 + "f", b"")], "too deeply", ours=True),
    Attack("an owner beyond all", lambda _: [with_pax("f", {"uid": str(1 << 40)})], "beyond all bounds", ours=True),
    Attack(
        "times beyond all",
        lambda _: [with_pax("f", {"mtime": str(1 << 60)}), with_pax("g", {"mtime": "-5"}), entry("d", mtime=1 << 40)],
        inside=lambda export, _: {members(export)[name].mtime for name in ("f", "g", "d")} == {0},
    ),
    Attack("cut short", lambda _: tarball(entry("f", bytes(4000)))[:2000], "(?i)unexpected eof"),
    Attack("no archive at all", lambda _: b"hello world\n" * 100, "archive/tar: invalid tar header"),
    Attack("an unknown type", lambda _: [entry("x", type=b"Z")], "unhandled tar header type 90"),
    Attack(
        "names that forge lines",
        lambda _: [entry("a\nERROR: b\x1b[2J", b"x"), entry("..\n", b"x"), entry("...", b"x")],
        inside=lambda export, _: "..\n" in members(export) and content(export, "...") == b"x",
    ),
]


def nul_in_pax(key: bytes, value: bytes = b"x") -> bytes:
    """A file after a record that tarfile would not write."""
    record = b" " + key + b"=" + value + b"\n"
    record = b"%d" % (len(record) + 2) + record
    header = entry("pax", record, type=tarfile.XHDTYPE)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(header[0], io.BytesIO(record))
        archive.addfile(entry("f", b"")[0])
    return buffer.getvalue()


@pytest.fixture(name="untouched")
def _untouched(trap: Path) -> Iterator[Path]:
    """The trap, looked at afterwards."""
    trap.chmod(0o777)
    before = trap.stat()
    yield trap
    assert [found.name for found in trap.iterdir()] == ["secret"]
    assert (trap / "secret").read_text() == "the host's\n"
    assert (trap / "secret").stat().st_nlink == 1
    assert (trap.stat().st_mode, trap.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@pytest.fixture(name="registry", scope="module")
def _registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


def load(client: docker.DockerClient, name: str, layers: list[bytes]) -> tuple[str, str]:
    archive = docker_archive_of(MadeImage(layers, tags=[f"{name}:1"]))
    url = client.api._url("/images/load?quiet=1")
    answer = client.api.post(url, data=archive, headers={"Content-Type": "application/x-tar"}, timeout=60)
    return f"{name}:1", answer.text if "error" in answer.text or answer.status_code >= 400 else ""


def pull(client: docker.DockerClient, registry: DockerRegistry, name: str, layers: list[bytes]) -> tuple[str, str]:
    oci.put(registry, name, "1", oci.Made(layers))
    answer = client.api.post(client.api._url(f"/images/create?fromImage={registry.host}/{name}&tag=1"), timeout=60)
    return f"{registry.host}/{name}:1", answer.text if '"error"' in answer.text or answer.status_code >= 400 else ""


@pytest.mark.parametrize("way", ["load", "pull"])
@pytest.mark.parametrize(
    "attack",
    [pytest.param(attack, id=attack.name, marks=[pytest.mark.kitepy] if attack.ours else []) for attack in ATTACKS],
)
def test_a_layer_touches_nothing_outside(
    client: docker.DockerClient, registry: DockerRegistry, untouched: Path, attack: Attack, way: str
) -> None:
    made = attack.layer(str(untouched).lstrip("/"))
    layer = made if isinstance(made, bytes) else tarball(*made)
    name = f"attack-{next(_numbers)}"
    # What differs by name alone would be here already the second time.
    layers = [BASE, tarball(entry(name, b"")), layer]
    tag, error = load(client, name, layers) if way == "load" else pull(client, registry, name, layers)
    if error:
        assert attack.inside is None, error
        assert re.search(attack.refused, error), error
        with pytest.raises(ImageNotFound):
            client.images.get(tag)
        return
    try:
        container = client.api.create_container(tag, ["none"])["Id"]
        export = b"".join(client.api.export(container))
        client.api.remove_container(container)
    finally:
        client.api.remove_image(tag, force=True)
    assert not attack.refused
    assert attack.inside is None or attack.inside(export, str(untouched).lstrip("/"))
