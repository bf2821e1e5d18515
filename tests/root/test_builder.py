from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import zstandard
from support.builder import BuilderUnderTest, pack

from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.model.filters import Filters
from kitepy.engine.services.ports import BuildOptions

Scenario = Callable[[BuilderUnderTest], Awaitable[None]]


def run(tmp_path: Path, scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), BuilderUnderTest(tmp_path) as builder:
            await scenario(builder)
            assert not builder.runner.running
            await builder.service.close()
            assert [entry.name for entry in (tmp_path / "tmp").iterdir()] == []

    asyncio.run(main())


def test_a_build_speaks_the_classic_builders_words(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        files = {"Dockerfile": 'FROM busybox\nENV A=1\nRUN echo hi; echo oops >&2\nCOPY a /a\nCMD ["x"]\n', "a": "hello"}
        built = await builder.build(files, tags=("app", "app:2", "app"))
        image = builder.image(built)
        short = image.id[7:19]
        streams = [message["stream"] for message in built.messages if "stream" in message]
        assert streams[:4] == ["Step 1/5 : FROM busybox", "\n", f" ---> {image_short(builder)}\n", "Step 2/5 : ENV A=1"]
        step = builder.runner.steps[0].id[:12]
        middle = built.text.split("Step 3/5")[1].split("Step 4/5")[0]
        assert middle.startswith(f" : RUN echo hi; echo oops >&2\n ---> Running in {step}\n")
        assert "hi\n" in middle
        assert "\x1b[91moops\n\x1b[0m" in middle
        assert f" ---> Removed intermediate container {step}\n" in middle
        assert built.messages[-4] == {"aux": {"ID": image.id}}
        assert streams[-3:] == [
            f"Successfully built {short}\n",
            "Successfully tagged app:latest\n",
            "Successfully tagged app:2\n",
        ]
        assert builder.images.resolve("app:2").id == image.id
        tree = await builder.tree(image)
        assert tree.text("/a") == "hello"
        assert tree.owner("/a") == (0, 0)

    run(tmp_path, scenario)


def image_short(builder: BuilderUnderTest) -> str:
    return builder.images.resolve("busybox").id[7:19]


def test_the_image_tells_its_history_and_configuration(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = """\
FROM busybox
MAINTAINER me
ARG V=1
LABEL a=b
WORKDIR /srv
RUN true
COPY Dockerfile .
EXPOSE 80
ENTRYPOINT ["e"]
HEALTHCHECK --retries=2 CMD true
"""
        built = await builder.build({"Dockerfile": dockerfile}, labels={"c": "d"})
        image = builder.image(built)
        base = builder.images.resolve("busybox")
        assert image.config.labels == {"a": "b", "c": "d"}
        assert (image.config.cmd, image.config.entrypoint) == (None, ("e",))
        assert image.config.exposed_ports == ("80/tcp",)
        assert image.config.working_dir == "/srv"
        assert image.document.author == "me"
        added = image.document.history[len(base.document.history) :]
        assert [(entry.created_by, entry.empty_layer) for entry in added] == [
            ("MAINTAINER me", True),
            ("ARG V=1", True),
            ("LABEL a=b", True),
            ("WORKDIR /srv", False),
            ("RUN |1 V=1 /bin/sh -c true # buildkit", False),
            ("COPY Dockerfile . # buildkit", False),
            ("EXPOSE [80/tcp]", True),
            ('ENTRYPOINT ["e"]', True),
            ('HEALTHCHECK ["CMD-SHELL" "true"]', True),
        ]
        assert {entry.comment for entry in added} == {"buildkit.dockerfile.v0"}
        assert len(image.layers) == len(base.layers) + 3
        assert image.architecture == base.architecture

    run(tmp_path, scenario)


def test_building_again_uses_the_cache_and_gives_the_same_image(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        files = {"Dockerfile": "FROM busybox\nENV A=1\nWORKDIR /w\nRUN date > d\nCOPY . /src/\nCMD x\n", "a": "1", "d/b": "2"}
        first = await builder.build(files)
        second = await builder.build(files)
        assert second.cached == 5
        assert second.image_id == first.image_id
        assert len(builder.runner.steps) == 1
        third = await builder.build({**files, "a": "other"})
        assert third.cached == 3
        assert third.image_id != first.image_id
        fresh = await builder.build(files, no_cache=True)
        assert fresh.cached == 0
        assert len(builder.runner.steps) == 2

    run(tmp_path, scenario)


def test_only_files_that_are_copied_count_for_the_cache_and_times_dont(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = "FROM busybox\nCOPY a /a\nRUN true\n"
        await builder.build({"Dockerfile": dockerfile, "a": "1", "b": "1"})
        assert (await builder.build({"Dockerfile": dockerfile, "a": "1", "b": "2"})).cached == 2
        assert (await builder.build(pack({"Dockerfile": dockerfile, "a": "1"}, mode=0o755))).cached == 0

    run(tmp_path, scenario)


def test_build_arguments_reach_run_and_proxies_stay_out_of_history_and_cache(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = "ARG BASE\nFROM $BASE\nARG V=0\nENV E=$V\nRUN echo $V $HTTP_PROXY $E $BASE. > /out\n"
        options = {"build_args": {"BASE": "busybox", "V": "7", "HTTP_PROXY": "p1", "lost": "x"}}
        built = await builder.build({"Dockerfile": dockerfile}, **options)
        image = builder.image(built)
        assert (await builder.tree(image)).text("/out") == "7 p1 7 .\n"
        assert "p1" not in "".join(entry.created_by for entry in image.document.history)
        assert "One or more build-args [lost] were not consumed" in built.text
        options["build_args"]["HTTP_PROXY"] = "p2"
        assert (await builder.build({"Dockerfile": dockerfile}, **options)).cached == 3
        options["build_args"]["V"] = "8"
        assert (await builder.build({"Dockerfile": dockerfile}, **options)).cached == 0

    run(tmp_path, scenario)


def test_stages_copy_from_each_other_and_unused_ones_are_not_built(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = """\
FROM busybox AS one
RUN mkdir -p /out/d && echo 1 > /out/d/f && chown -R 5:6 /out && chmod 4755 /out/d/f
FROM busybox AS unused
RUN exit 9
FROM one AS two
RUN echo 2 > /out/g
FROM scratch
COPY --from=two /out /copied
COPY --from=0 --chown=7:8 /out/d/f /
COPY --from=busybox /etc/passwd /etc/
"""
        built = await builder.build({"Dockerfile": dockerfile})
        assert built.error is None
        assert "Step 8/8" in built.text
        image = builder.image(built)
        tree = await builder.tree(image)
        assert tree.text("/copied/g") == "2\n"
        assert tree.owner("/copied/d/f") == (5, 6)
        assert (tree.mode("/f"), tree.owner("/f")) == (0o4755, (7, 8))
        assert "root" in tree.text("/etc/passwd")
        assert image.config.working_dir == "/"
        assert (await builder.build({"Dockerfile": dockerfile}, target="one")).text.count("Step ") == 2
        assert (await builder.build({"Dockerfile": dockerfile}, target="unused")).code == 9

    run(tmp_path, scenario)


def test_copying_from_a_stage_that_was_built_anew_with_the_same_files_is_cached(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        template = "FROM busybox AS a\nARG N\nRUN echo same > /f\nFROM busybox\nCOPY --from=a /f /f\nRUN date +%N > /when\n"
        first = await builder.build({"Dockerfile": template}, build_args={"N": "1"})
        second = await builder.build({"Dockerfile": template}, build_args={"N": "2"})
        assert second.cached == 2
        assert second.image_id == first.image_id

    run(tmp_path, scenario)


def test_a_failing_command_tells_its_code_and_leaves_no_layer(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        before = sorted(entry.name for entry in (tmp_path / "layers").iterdir())
        built = await builder.build({"Dockerfile": "FROM busybox\nRUN echo about; exit 42\n"}, quiet=True)
        assert built.messages[-1] == {
            "error": "The command '/bin/sh -c echo about; exit 42' returned a non-zero code: 42",
            "errorDetail": {"code": 42, "message": "The command '/bin/sh -c echo about; exit 42' returned a non-zero code: 42"},
        }
        assert "about" in built.text
        assert sorted(entry.name for entry in (tmp_path / "layers").iterdir()) == before

    run(tmp_path, scenario)


def test_closing_the_stream_kills_the_command_and_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield pack({"Dockerfile": "FROM busybox\nRUN echo go; sleep 1000\n"})

        messages = builder.service.build(body(), BuildOptions())
        async for message in messages:
            if message.get("stream") == "go\n":
                break
        assert builder.runner.running
        await messages.aclose()  # type: ignore[attr-defined]  # an asynchronous generator
        assert not builder.runner.running

    run(tmp_path, scenario)


@pytest.mark.parametrize("pack_body", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_contexts_may_be_compressed(tmp_path: Path, pack_body: Callable[[bytes], bytes]) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        built = await builder.build(pack_body(pack({"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "x"})))
        assert built.error is None

    run(tmp_path, scenario)


def test_a_body_that_is_a_dockerfile_builds_without_a_context(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        assert (await builder.build(b"FROM busybox\nENV a=1\n")).error is None
        failed = await builder.build(b"FROM busybox\nCOPY a /\n")
        assert failed.error is not None
        assert "stat a: file does not exist" in failed.error

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (
            {"Dockerfile": "FRO busybox\n"},
            {},
            r"^dockerfile parse error on line 1: unknown instruction: FRO \(did you mean FROM\?\)$",
        ),
        ({"Dockerfile": " \n"}, {}, "cannot be empty"),
        ({"Other": "FROM busybox"}, {}, "Cannot locate specified Dockerfile: Dockerfile"),
        ({"Dockerfile": "FROM busybox"}, {"dockerfile": "../../etc/passwd"}, "Cannot locate specified Dockerfile"),
        ({"Dockerfile": "FROM busybox"}, {"target": "x"}, "^failed to reach build target x in Dockerfile$"),
        ({"Dockerfile": "FROM busybox"}, {"tags": ("Bad",)}, "must be lowercase"),
        ({"Dockerfile": "FROM busybox", ".dockerignore": "[\n"}, {}, "error in .dockerignore"),
        ({"Dockerfile": "FROM busybox\nCOPY a\0b /c\n"}, {}, "line 2: the Dockerfile holds a NUL"),
        ({"Dockerfile": "FROM busybox"}, {"dockerfile": "a\0b"}, "Cannot locate specified Dockerfile"),
        ({"Dockerfile": "FROM $nothing"}, {}, r"line 1: base name \(\$nothing\) should not be blank"),
        (b"\0\1\2" * 1000, {}, "neither a tar archive nor a Dockerfile"),
    ],
)
def test_a_request_that_is_wrong_is_refused_before_the_first_message(
    tmp_path: Path, files: dict[str, str] | bytes, options: dict[str, object], message: str
) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        with pytest.raises(InvalidParameter, match=message):
            await builder.build(files, **options)

    run(tmp_path, scenario)


@pytest.mark.parametrize("options", [{"remote": "https://example.com/x.git"}, {"squash": True}])
def test_what_is_not_supported_is_said_clearly(tmp_path: Path, options: dict[str, object]) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        with pytest.raises(Unsupported):
            await builder.build({"Dockerfile": "FROM busybox"}, **options)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        (
            "FROM busybox\nCOPY nope /x\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"
            " (Dockerfile line 2)",
        ),
        ("FROM nothing:here\n", "No such image: nothing:here"),
        ("FROM busybox\nCOPY --from=ghost /a /b\n", "No such image: ghost"),
        ("FROM busybox\nCOPY --chown=ghost a /b\n", "--chown=ghost: can't find uid for user ghost"),
        ("FROM busybox\nCOPY a b /c\n", "the destination must be a directory and end with a /"),
        ("FROM busybox\nCOPY *.nope /c/\n", "no source files were specified"),
        ("FROM busybox\nCOPY a /bin/sh/x\n", "is not a directory"),
        ("FROM busybox\nWORKDIR /bin/sh/x\n", "is not a directory"),
        ("FROM --platform=linux/s390x busybox\n", "does not match the specified platform: wanted linux/s390x"),
        ("FROM busybox\nRUN --mount=type=secret,id=x,required true\n", "needs a BuildKit session"),
        ('FROM busybox\nENV a="${b:?give b}"\n', "dockerfile parse error on line 2: failed to process"),
        ('FROM busybox\nENV a="${b:?give b}"\n', ": b: give b"),
        ("FROM busybox\nADD git@example.com:a/b /c\n", "git repositories can't be added yet"),
        ("FROM busybox\nARG n=container:x\nRUN --network=$n true\n", 'invalid network mode: "container:x"'),
        ("FROM busybox\nRUN --mount=type=tmpfs,target=/a/.. true\n", 'invalid mount target "/a/.."'),
        ("FROM scratch\n", "No image was generated"),
    ],
)
def test_what_goes_wrong_later_is_the_last_message(tmp_path: Path, dockerfile: str, message: str) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        built = await builder.build({"Dockerfile": dockerfile, "a": "1", "b": "2"})
        assert built.error is not None
        assert message in built.error

    run(tmp_path, scenario)


def test_onbuild_triggers_run_right_after_from(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        base = "FROM busybox\nONBUILD COPY a /a\nONBUILD RUN cat /a > /b\n"
        built = await builder.build({"Dockerfile": base}, tags=("base",))
        assert builder.image(built).config.on_build == ("COPY a /a", "RUN cat /a > /b")
        child = await builder.build({"Dockerfile": "FROM base\nRUN cat /b > /c\n", "a": "x"})
        assert "# Executing 2 build triggers\n" in child.text
        image = builder.image(child)
        assert image.config.on_build == ()
        assert (await builder.tree(image)).text("/c") == "x"

    run(tmp_path, scenario)


def test_from_alone_gives_the_base_image_a_tag(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        built = await builder.build({"Dockerfile": "FROM busybox\n"}, tags=("same",))
        assert built.image_id == builder.images.resolve("busybox").id
        assert builder.images.resolve("same").id == built.image_id

    run(tmp_path, scenario)


def test_heredocs_run_as_scripts_programs_and_input(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = """\
FROM busybox
ENV X=env
RUN <<EOF
echo one > /one
echo two > /two
EOF
RUN <<-PROG
\t#!/bin/cat
\tnot a shell script
\tPROG
RUN cat > /three <<EOF && echo $X > /four
three $X
EOF
COPY <<a <<"b" /d/
$X '$X' \\$X
a
$X
b
COPY <<single /file
x
single
"""
        built = await builder.build({"Dockerfile": dockerfile})
        assert built.error is None
        assert "not a shell script" in built.text
        tree = await builder.tree(builder.image(built))
        assert [tree.text(name) for name in ("one", "two", "three", "four")] == ["one\n", "two\n", "three env\n", "env\n"]
        assert (tree.text("/d/a"), tree.text("/d/b"), tree.text("/file")) == ("env 'env' $X\n", "$X\n", "x\n")
        assert (tree.mode("/file"), tree.owner("/file")) == (0o644, (0, 0))
        assert not tree.exists("/dev/pipes")

    run(tmp_path, scenario)


def test_mounts_of_a_step_are_there_and_leave_no_trace(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = """\
FROM busybox AS src
RUN echo from > /from
FROM busybox
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t --mount=type=bind,target=/ctx \\
    --mount=type=bind,from=src,source=/from,target=/mnt/from \\
    cat /ctx/a >> /cache/log; cat /cache/log > /out; touch /t/x; cat /mnt/from >> /out
"""
        first = await builder.build({"Dockerfile": dockerfile, "a": "1\n"})
        assert first.error is None
        second = await builder.build({"Dockerfile": dockerfile, "a": "2\n"})
        tree = await builder.tree(builder.image(second))
        assert tree.text("/out") == "1\n2\nfrom\n"
        assert not any(tree.exists(name) for name in ("/cache", "/t", "/ctx", "/mnt"))

    run(tmp_path, scenario)


def test_independent_stages_run_side_by_side_and_lines_stay_whole(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = "".join(
            f"FROM busybox AS {me}\nRUN --mount=type=cache,target=/m touch /m/{me}; "
            f"while [ ! -e /m/{other} ]; do sleep 0.05; done; printf {me}; sleep 0.1; echo {me}\n"
            for me, other in (("a", "b"), ("b", "a"))
        )
        dockerfile += "FROM scratch\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n"
        built = await builder.build({"Dockerfile": dockerfile})
        assert built.error is None
        assert "aa\n" in built.text
        assert "bb\n" in built.text

    run(tmp_path, scenario)


def test_a_stage_runs_its_commands_while_the_stage_it_will_copy_from_is_built(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        meet = "RUN --mount=type=cache,target=/m touch /m/{0}; while [ ! -e /m/{1} ]; do sleep 0.05; done\n"
        dockerfile = (
            f"FROM busybox AS a\n{meet.format('a', 'b')}FROM busybox\n{meet.format('b', 'a')}COPY --from=a /etc/passwd /copied\n"
        )
        built = await builder.build({"Dockerfile": dockerfile})
        assert built.error is None
        assert "Step 5/5 : COPY" in built.text

    run(tmp_path, scenario)


def test_a_stage_that_only_copies_is_told_after_the_others(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        dockerfile = "FROM busybox AS a\nRUN true\nRUN true\nFROM busybox\nENV a=1\nCOPY --from=a /etc/passwd /b\nRUN true\n"
        built = await builder.build({"Dockerfile": dockerfile})
        steps = [line.split(" : ")[1] for line in built.text.splitlines() if line.startswith("Step ")]
        assert steps == dockerfile.splitlines()

    run(tmp_path, scenario)


def test_workdir_makes_a_layer_only_when_it_makes_the_directory(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        base = builder.images.resolve("busybox")
        image = builder.image(await builder.build({"Dockerfile": "FROM busybox\nWORKDIR /tmp\nUSER nobody\nWORKDIR /a/b\n"}))
        assert len(image.layers) == len(base.layers) + 1
        tree = await builder.tree(image)
        assert tree.owner("/a/b") == (65534, 65534)
        assert [entry.empty_layer for entry in image.document.history[-3:]] == [True, True, False]

    run(tmp_path, scenario)


def test_what_dockerignore_names_stays_out(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        files = {
            "Dockerfile": "FROM busybox\nCOPY . /c/\n",
            ".dockerignore": "*\n!src\nsrc/**/*.log\n!src/keep/x.log\n",
            "a": "",
            "src/b": "",
            "src/d/c.log": "",
            "src/keep/x.log": "",
        }
        tree = await builder.tree(builder.image(await builder.build(files)))
        assert tree.names("/c") == ["src"]
        assert tree.names("/c/src") == ["b", "d", "keep"]
        assert tree.names("/c/src/d") == []
        own = {**files, "Dockerfile.dockerignore": "src\n"}
        tree = await builder.tree(builder.image(await builder.build(own)))
        assert "src" not in tree.names("/c")
        assert "a" in tree.names("/c")

    run(tmp_path, scenario)


def test_a_hostile_context_reaches_nothing_outside(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret")
        links = {"out -> /": "", "up -> ../../../../../..": ""}
        for name in ("out", "up"):
            built = await builder.build({"Dockerfile": f"FROM busybox\nCOPY {name}{secret} /x\n", **links})
            assert built.error is not None
            assert "does not exist" in built.error
        with pytest.raises(InvalidParameter, match="Cannot locate"):
            await builder.build({"Dockerfile -> ../../../secret": ""})
        escaping = io.BytesIO()
        with tarfile.open(fileobj=escaping, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../evil"))
        with pytest.raises(InvalidParameter, match="leads outside"):
            await builder.build(escaping.getvalue())
        assert not (tmp_path / "tmp" / "evil").exists()

    run(tmp_path, scenario)


def test_links_in_an_image_do_not_lead_copies_out_of_it(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        dockerfile = (
            f"FROM busybox\nRUN ln -s {outside} /link && ln -s ../../../../..{outside} /link2\nCOPY a /link/\nCOPY a /link2/\n"
        )
        built = await builder.build({"Dockerfile": dockerfile, "a": "1"})
        assert built.error is None
        assert list(outside.iterdir()) == []
        tree = await builder.tree(builder.image(built))
        assert tree.text(f"{outside}/a") == "1"

    run(tmp_path, scenario)


def test_the_cache_is_listed_and_pruned(tmp_path: Path) -> None:
    async def scenario(builder: BuilderUnderTest) -> None:
        files = {"Dockerfile": "FROM busybox\nRUN echo 1234567890 > /f\nENV a=1\n"}
        built = await builder.build(files)
        records = await builder.service.cache_records()
        assert [record["Description"] for record in records] == [
            "RUN /bin/sh -c echo 1234567890 > /f # buildkit",
            "ENV a=1",
        ]
        assert (records[0]["Size"], records[0]["Shared"]) == (11, True)
        assert (await builder.service.prune(all=False, filters=Filters(), keep_bytes=0))["CachesDeleted"] is None
        for nothing in ({"label": ("a",)}, {"parent": ("a",)}, {"inuse": ("1",)}, {"id": ("^nobody$",)}, {"type": ("other",)}):
            assert (await builder.service.prune(all=True, filters=Filters(nothing), keep_bytes=0))["CachesDeleted"] is None
        await builder.images.remove(built.image_id)
        assert (await builder.build(files)).cached == 2
        await builder.images.remove(built.image_id)
        pruned = await builder.service.prune(all=True, filters=Filters(), keep_bytes=0)
        assert len(pruned["CachesDeleted"]) == 2
        assert pruned["SpaceReclaimed"] == 11
        assert (await builder.build(files)).cached == 0

    run(tmp_path, scenario)
