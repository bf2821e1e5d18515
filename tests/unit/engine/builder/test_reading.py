from __future__ import annotations

import pytest

from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.failures import DockerfileError
from kitepy.engine.builder.instructions import (
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    OnBuild,
    Run,
    Shell,
    Volume,
    Workdir,
    expand,
)
from kitepy.engine.builder.reading import read_line


def expanded(text: str, **variables: str) -> Instruction:
    return expand(read_line(text), Lexer(variables), Lexer(variables, plain_quotes=True))


def test_from_knows_names_and_platforms() -> None:
    stage = read_line("FROM --platform=linux/arm64 Image:1 aS Build")
    assert isinstance(stage, From)
    assert (stage.base, stage.name, stage.platform) == ("Image:1", "build", "linux/arm64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FRO a", r"unknown instruction: FRO \(did you mean FROM\?\)"),
        ("FROM a b", "either one or three"),
        ("FROM a AS 1x", "invalid name for build stage"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=1 b", 'can\'t find = in "b"'),
        ("ENV =1", "names can not be blank"),
        ("ENV", "at least one argument"),
        ("CMD [1]", "comprised of strings only"),
        ("COPY a", "at least two arguments"),
        ("COPY --form=x a b", r"unknown flag: --form \(did you mean from\?\)"),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --link=maybe a b", "expecting boolean"),
        ("COPY --chown=1 --chown=2 a b", "duplicate flag"),
        ("COPY a <<EOF\nx\nEOF", "as a destination"),
        ("ADD --from=x a b", "unknown flag: --from"),
        ("WORKDIR", "exactly one argument"),
        ("SHELL /bin/sh", "JSON form"),
        ("HEALTHCHECK", "at least one argument"),
        ("HEALTHCHECK FOO x", 'Unknown type "FOO"'),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command"),
        ("HEALTHCHECK --interval=1 CMD x", "invalid duration"),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "cannot be negative"),
        ("ONBUILD FROM x", "isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("ONBUILD FOO x", "unknown instruction: FOO"),
        ("RUN", "at least one argument"),
        ("RUN --network=bridge x", "invalid network mode"),
        ("RUN --security=insecure x", "not supported"),
        ("RUN --mount=type=foo x", "unsupported mount type"),
        ("RUN --mount=type=cache x", "needs a target"),
        ("RUN --mount=type=cache,target=/a,nonsense=1 x", "unexpected key"),
        ("USER", "exactly one argument"),
        ('VOLUME [""]', "can not be an empty string"),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        read_line(text)
    assert caught.value.line == 1


def test_env_has_an_old_and_a_new_form() -> None:
    assert expanded("ENV a b  c") == Env(pairs=(("a", "b  c"),), source="ENV a b  c", line=1)
    new = expanded('ENV a=1 b="2 3" c=4\\ 5 d=$x', x="6")
    assert isinstance(new, Env)
    assert new.pairs == (("a", "1"), ("b", "2 3"), ("c", "4 5"), ("d", "6"))


def test_env_uses_the_values_from_before_the_instruction() -> None:
    env = expanded("ENV a=new b=$a", a="old")
    assert isinstance(env, Env)
    assert env.pairs == (("a", "new"), ("b", "old"))


def test_commands_have_exec_and_shell_form_and_broken_json_is_shell_form() -> None:
    def command(text: str) -> CommandLine:
        instruction = read_line(text)
        assert isinstance(instruction, Cmd | Entrypoint)
        return instruction.command

    assert command('CMD ["a", "$b"]') == CommandLine(("a", "$b"), in_shell=False)
    assert command("CMD a  $b") == CommandLine(("a  $b",), in_shell=True)
    assert command('ENTRYPOINT ["a" "b"]') == CommandLine(('["a" "b"]',), in_shell=True)
    assert command("CMD []") == CommandLine((), in_shell=False)


def test_copy_reads_flags_json_and_heredocs() -> None:
    copy = read_line('COPY --from=b --chown=1:2 --chmod=755 --exclude=*.o --exclude=*.a --link ["a b", "c", "/d/"]')
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination, copy.from_, copy.chown, copy.chmod) == (("a b", "c"), "/d/", "b", "1:2", "755")
    assert copy.excludes == ("*.o", "*.a")
    here = expanded("COPY <<a <<\"b\" c /d/\n$x '$x'\na\n$x\nb", x="1")
    assert isinstance(here, Copy)
    assert here.sources == ("c",)
    assert [(doc.name, doc.text) for doc in here.contents] == [("a", "1 '1'\n"), ("b", "$x\n")]


def test_expose_splits_what_variables_hold() -> None:
    expose = expanded("EXPOSE $ports 80", ports="1 2/udp")
    assert isinstance(expose, Expose)
    assert sorted(expose.ports) == ["1", "2/udp", "80"]


def test_args_may_have_defaults() -> None:
    arg = read_line('ARG a b= c="d e"')
    assert isinstance(arg, Arg)
    assert arg.arguments == (("a", None), ("b", ""), ("c", '"d e"'))


def test_health_checks_know_all_options() -> None:
    check = read_line(
        "HEALTHCHECK --interval=1m30s --timeout=2s --start-period=0s --start-interval=500ms --retries=4 CMD a || exit 1"
    )
    assert isinstance(check, Healthcheck)
    assert check.test == ("CMD-SHELL", "a || exit 1")
    assert (check.interval_ns, check.timeout_ns, check.start_period_ns) == (90 * 10**9, 2 * 10**9, 0)
    assert (check.start_interval_ns, check.retries) == (5 * 10**8, 4)
    none = read_line("HEALTHCHECK NONE")
    assert isinstance(none, Healthcheck)
    assert none.test == ("NONE",)


def test_onbuild_keeps_the_text_of_its_trigger() -> None:
    trigger = read_line("ONBUILD RUN <<EOF\na\nEOF")
    assert isinstance(trigger, OnBuild)
    assert trigger.trigger == "RUN <<EOF\na\nEOF"


def test_run_keeps_its_text_and_reads_mounts() -> None:
    run = expanded("RUN --mount=type=cache,target=/c,id=$x --mount=type=tmpfs,dst=/t,size=2m --network=none echo $x", x="1")
    assert isinstance(run, Run)
    assert run.command.words == ("echo $x",)
    assert run.network == "none"
    cache, tmpfs = run.mounts
    assert (cache.kind, cache.target, cache.id, cache.read_only) == ("cache", "/c", "1", False)
    assert (tmpfs.target, tmpfs.size_bytes) == ("/t", 2 << 20)


def test_workdir_volume_and_shell() -> None:
    workdir = expanded('WORKDIR "/a b"/$x', x="1")
    assert isinstance(workdir, Workdir)
    assert workdir.path == "/a b/1"
    volume = read_line('VOLUME ["/a", "/b c"]')
    assert isinstance(volume, Volume)
    assert volume.paths == ("/a", "/b c")
    shell = read_line('SHELL ["/bin/bash", "-c"]')
    assert isinstance(shell, Shell)
    assert shell.words == ("/bin/bash", "-c")
