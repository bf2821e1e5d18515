from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from aiohttp import web
from support.builder import BuilderUnderTest, Built, Tree, pack

Result = TypeVar("Result")


def built(tmp_path: Path, dockerfile: str, files: Mapping[str, str | bytes] | None = None) -> Tree:
    """The tree of the image that a Dockerfile makes on busybox."""

    async def scenario(builder: BuilderUnderTest) -> Tree:
        result = await builder.build({"Dockerfile": f"FROM busybox\n{dockerfile}", **(files or {})})
        assert result.error is None, result.error
        return await builder.tree(builder.image(result))

    return with_builder(tmp_path, scenario)


def refused(tmp_path: Path, dockerfile: str, files: Mapping[str, str | bytes] | None = None) -> str:
    async def scenario(builder: BuilderUnderTest) -> Built:
        return await builder.build({"Dockerfile": f"FROM busybox\n{dockerfile}", **(files or {})})

    result = with_builder(tmp_path, scenario)
    assert result.error is not None
    return result.error


def with_builder(tmp_path: Path, scenario: Callable[[BuilderUnderTest], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        async with asyncio.timeout(60), BuilderUnderTest(tmp_path) as builder:
            return await scenario(builder)

    return asyncio.run(main())


FILES = {"a": "A", "b": "B", "d/": "", "d/x": "X", "d/e/": "", "d/e/y": "Y", "d/l -> x": ""}


def test_a_file_goes_to_the_name_or_into_the_directory(tmp_path: Path) -> None:
    tree = built(
        tmp_path,
        "WORKDIR /w\nCOPY a new/deep/name\nCOPY a into/\nCOPY a .\nCOPY a /etc\nCOPY a b two/\nCOPY a ./three/.\n",
        FILES,
    )
    for name in ("/w/new/deep/name", "/w/into/a", "/w/a", "/etc/a", "/w/two/a", "/w/three/a"):
        assert tree.text(name) == "A", name
    assert tree.text("/w/two/b") == "B"
    assert (tree.mode("/w/new/deep"), tree.owner("/w/new/deep")) == (0o755, (0, 0))


def test_a_directory_gives_its_content(tmp_path: Path) -> None:
    tree = built(tmp_path, "COPY d /one\nCOPY d /two/\nCOPY d a /three/\nCOPY . /all\n", FILES)
    for name in ("/one", "/two", "/three"):
        assert tree.text(f"{name}/e/y") == "Y"
        assert os.readlink(tree.path / name[1:] / "l") == "x"
    assert tree.names("/three") == ["a", "e", "l", "x"]
    assert tree.names("/all") == ["Dockerfile", "a", "b", "d"]


def test_modes_and_times_are_kept_and_owners_are_not(tmp_path: Path) -> None:
    tree = built(tmp_path, "COPY a /a\n", FILES)
    assert (tree.mode("/a"), tree.owner("/a"), tree.stat("/a").st_mtime) == (0o644, (0, 0), 1_600_000_000)


def test_set_id_bits_and_links_survive_a_copy_between_stages(tmp_path: Path) -> None:
    tree = built(
        tmp_path,
        "RUN mkdir /o && cp /bin/busybox /o/f && chmod 6755 /o/f && ln /o/f /o/g && mkfifo /o/p && chmod 1777 /o\n"
        "FROM busybox\nCOPY --from=0 /o /o\n",
    )
    assert tree.mode("/o/f") == 0o6755
    assert tree.mode("/o") == 0o1777
    assert tree.stat("/o/f").st_ino == tree.stat("/o/g").st_ino
    assert tree.exists("/o/p")


def test_chown_and_chmod_apply_to_everything_that_is_made(tmp_path: Path) -> None:
    tree = built(
        tmp_path,
        "COPY --chown=nobody --chmod=640 a /n/a\nCOPY --chown=12:www-data b /b\nCOPY --chown=7 d /d\n"
        "COPY --chmod=u=rwX,go= d /sym\nARG who=5:6\nADD --chown=$who a /v\n",
        FILES,
    )
    assert (tree.mode("/n/a"), tree.owner("/n/a"), tree.owner("/n")) == (0o640, (65534, 65534), (65534, 65534))
    assert tree.owner("/b") == (12, 33)
    assert (tree.owner("/d/e/y"), tree.owner("/d/l")) == ((7, 7), (7, 7))
    assert (tree.mode("/sym/x"), tree.mode("/sym/e")) == (0o600, 0o700)
    assert tree.owner("/v") == (5, 6)


def test_a_set_group_id_directory_keeps_its_group_to_itself(tmp_path: Path) -> None:
    tree = built(tmp_path, "RUN mkdir /g && chown 0:5 /g && chmod 2775 /g\nCOPY a /g/\nCOPY --chown=3:4 b /g/\n", FILES)
    assert (tree.owner("/g/a"), tree.owner("/g/b"), tree.mode("/g")) == ((0, 0), (3, 4), 0o2775)


def test_wildcards_match_names_and_not_directories_below(tmp_path: Path) -> None:
    files = {**FILES, "m1.txt": "1", "m2.txt": "2", "d/m3.txt": "3", "x/y/z.go": "", "x/w.go": ""}
    tree = built(tmp_path, "COPY m?.txt /q/\nCOPY *.txt nope* /s/\nCOPY d*/m[1-3].txt /c/\nCOPY **/*.go /g/\n", files)
    assert tree.names("/q") == tree.names("/s") == ["m1.txt", "m2.txt"]
    assert tree.names("/c") == ["m3.txt"]
    assert tree.names("/g") == ["w.go", "z.go"]


def test_excluded_files_stay_behind(tmp_path: Path) -> None:
    files = {**FILES, "m.md": "", "n.md": "", "d/x.md": ""}
    tree = built(
        tmp_path, "COPY --exclude=*.md --exclude=e d /d\nCOPY --exclude=n* *.md /m/\nCOPY --exclude=**/*.md . /all/\n", files
    )
    assert tree.names("/d") == ["l", "x"]
    assert tree.names("/m") == ["m.md"]
    assert tree.names("/all/d") == ["e", "l", "x"]


def test_parents_repeat_the_directories_of_the_source(tmp_path: Path) -> None:
    tree = built(tmp_path, "COPY --parents d/e/y a /p/\nCOPY --parents d/./e /q/\nCOPY --parents d/*/y /r/\n", FILES)
    assert tree.text("/p/d/e/y") == "Y"
    assert tree.text("/p/a") == "A"
    assert tree.text("/q/e/y") == "Y"
    assert tree.text("/r/d/e/y") == "Y"


def test_a_link_named_as_source_is_followed(tmp_path: Path) -> None:
    tree = built(tmp_path, "COPY to_a /f\nCOPY to_d /d\n", {**FILES, "to_a -> d/../a": "", "to_d -> d": ""})
    assert tree.text("/f") == "A"
    assert tree.text("/d/x") == "X"


def test_links_in_the_destination_are_followed_inside_the_image(tmp_path: Path) -> None:
    tree = built(
        tmp_path,
        "RUN mkdir /real && ln -s /real /dir && ln -s /real/new /dangling && ln -s ../../../real /up\n"
        "COPY a /dir/\nCOPY b /dangling\nCOPY d /up/d\n",
        FILES,
    )
    assert tree.names("/real") == ["a", "d", "new"]
    assert tree.text("/real/new") == "B"


def test_files_are_replaced_and_directories_merged(tmp_path: Path) -> None:
    tree = built(
        tmp_path,
        "RUN mkdir -p /t/e && echo old > /t/x && ln -s /etc/passwd /t/l && touch /t/keep && chmod 700 /t && chmod 500 /t/e\n"
        "COPY d /t\n",
        FILES,
    )
    assert tree.names("/t") == ["e", "keep", "l", "x"]
    assert tree.text("/t/x") == "X"
    assert "root" in tree.text("/etc/passwd")
    assert (tree.mode("/t"), tree.mode("/t/e")) == (0o700, 0o755)


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("RUN mkdir -p /t/x\nCOPY d /t\n", "cannot copy a file over a directory (/t/x)"),
        ("RUN mkdir /t && touch /t/e\nCOPY d /t\n", "cannot copy a directory over something that is none (/t/e)"),
        ("RUN touch /t\nCOPY d /t\n", "cannot copy a directory over something that is none (/t)"),
        ("RUN touch /t\nCOPY a /t/\n", "the destination's parent is not a directory (/t)"),
        ("COPY --chmod=rwx a /t\n", "invalid chmod parameter: 'rwx'"),
        ("COPY [ab /t/\n", "syntax error in pattern"),
        ("COPY d/nope d/x /t/\n", "stat d/nope: file does not exist"),
        ("ADD --checksum=sha256:0 a /t\n", "checksum can't be specified for local"),
        ("RUN mknod /n c 1 3\nFROM busybox\nCOPY --from=0 /n /t\n", "COPY failed: /n is neither a file nor a directory"),
        ("RUN rm /etc/passwd && mknod /etc/passwd p\nCOPY --chown=root a /t\n", "can't find uid for user root"),
        ("COPY --from=busybox /nope /t\n", "stat /nope: file does not exist in image busybox"),
    ],
)
def test_conflicts_are_explained(tmp_path: Path, dockerfile: str, message: str) -> None:
    error = refused(tmp_path, dockerfile, FILES)
    assert message in error
    assert "(Dockerfile line " in error


def archive(compress: Callable[[bytes], bytes] = bytes) -> bytes:
    return compress(pack({"in/f": "F", ".wh.kept": ""}, uid=33))


def test_add_unpacks_local_archives_by_content(tmp_path: Path) -> None:
    files = {"one": archive(), "two.txt": archive(gzip.compress), "not.tar.gz": "plain", "text.gz": gzip.compress(b"text")}
    tree = built(
        tmp_path,
        "ADD one /one\nADD two.txt /two/\nADD not.tar.gz text.gz /no/\nCOPY one /copied\nADD --unpack=false one /packed\n"
        "ADD --chown=5:6 one /owned\n",
        files,
    )
    assert tree.text("/one/in/f") == "F"
    assert tree.owner("/one/in/f") == (33, 33)
    assert tree.exists("/one/.wh.kept")
    assert tree.text("/two/in/f") == "F"
    assert tree.names("/no") == ["not.tar.gz", "text.gz"]
    assert (tree.path / "copied").is_file()
    assert (tree.path / "packed").is_file()
    assert tree.owner("/owned/in/f") == (5, 6)


def test_a_hostile_archive_stays_inside_the_image(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as hostile:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        hostile.addfile(link)
        through = tarfile.TarInfo("link/evil")
        through.size = 1
        hostile.addfile(through, io.BytesIO(b"x"))
    refused_or_not = "ADD evil.tar /x/\n"
    try:
        built(tmp_path, refused_or_not, {"evil.tar": buffer.getvalue()})
    except AssertionError as error:
        assert "ADD failed" in str(error)  # noqa: PT017 - both outcomes are safe
    assert list(outside.iterdir()) == []


def test_devices_in_a_context_are_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO(pack({"Dockerfile": "FROM busybox\nCOPY . /c/\n"}))
    with tarfile.open(fileobj=buffer, mode="a") as context:
        device = tarfile.TarInfo("disk")
        device.type, device.devmajor, device.devminor = tarfile.BLKTYPE, 8, 0
        context.addfile(device)

    async def scenario(builder: BuilderUnderTest) -> None:
        tree = await builder.tree(builder.image(await builder.build(buffer.getvalue())))
        assert tree.names("/c") == ["Dockerfile"]

    with_builder(tmp_path, scenario)


def test_add_fetches_a_url_without_unpacking_it(tmp_path: Path) -> None:
    content = archive()
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"

    async def serve(request: web.Request) -> web.Response:
        if request.path not in ("/files/x.tar", "/files/[b]*.txt"):
            raise web.HTTPNotFound
        return web.Response(body=content, headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})

    async def scenario(builder: BuilderUnderTest) -> None:
        app = web.Application()
        app.router.add_get("/{tail:.*}", serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        dockerfile = (
            f"FROM busybox\nADD {url}/files/x.tar /d/\nADD --checksum={checksum} {url}/files/x.tar /named\n"
            f"ADD --unpack=true {url}/files/x.tar /un/\nADD {url}/files/%5Bb%5D*.txt /odd/\n"
        )
        result = await builder.build({"Dockerfile": dockerfile})
        assert result.error is None
        tree = await builder.tree(builder.image(result))
        assert (tree.path / "d/x.tar").read_bytes() == content
        assert (tree.mode("/d/x.tar"), tree.stat("/d/x.tar").st_mtime) == (0o600, 1445412480)
        assert (tree.path / "named").read_bytes() == content
        assert tree.text("/un/in/f") == "F"
        assert tree.names("/odd") == ["[b]*.txt"]
        wrong = await builder.build({"Dockerfile": f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {url}/files/x.tar /d/\n"})
        assert wrong.error is not None
        assert "digest mismatch" in wrong.error
        missing = await builder.build({"Dockerfile": f"FROM busybox\nADD {url}/nope /d/\n"})
        assert missing.error is not None
        assert "404" in missing.error
        await runner.cleanup()

    with_builder(tmp_path, scenario)
