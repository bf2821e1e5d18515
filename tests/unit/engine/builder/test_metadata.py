from __future__ import annotations

import pytest

from kitepy.engine.builder import metadata
from kitepy.engine.builder.changes import apply_changes
from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.instructions import expand
from kitepy.engine.builder.reading import read_line
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import HealthCheck, ImageConfig

BASE = ImageConfig(env=("PATH=/bin", "A=1"), cmd=("base",), working_dir="/srv", labels={"a": "1"})


def after(text: str, config: ImageConfig = BASE, *, command_is_own: bool = False) -> ImageConfig:
    lexer = Lexer(metadata.environment(config.env))
    return metadata.apply(config, expand(read_line(text), lexer, lexer), command_is_own=command_is_own)


def history(text: str, **arguments: str) -> str | None:
    instruction = read_line(text)
    return metadata.history_line(instruction, BASE, metadata.apply(BASE, instruction), arguments)


def test_env_replaces_in_place_and_appends() -> None:
    assert after("ENV A=2 B=$A").env == ("PATH=/bin", "A=2", "B=1")


def test_entrypoint_resets_an_inherited_command_but_keeps_an_own_one() -> None:
    assert after('ENTRYPOINT ["x"]').cmd is None
    assert after('ENTRYPOINT ["x"]', command_is_own=True).cmd == ("base",)


def test_shell_form_uses_the_shell_that_was_set() -> None:
    assert after("CMD a b").cmd == ("/bin/sh", "-c", "a b")
    assert after("CMD a", after('SHELL ["/bin/bash", "-ec"]')).cmd == ("/bin/bash", "-ec", "a")
    assert after("CMD []").cmd == ()


@pytest.mark.parametrize(
    ("path", "expected"), [("a", "/srv/a"), ("/a/../b/", "/b"), ("..", "/"), ("//x", "/x"), ("$A/y", "/srv/1/y")]
)
def test_workdir_is_relative_to_the_one_before(path: str, expected: str) -> None:
    assert after(f"WORKDIR {path}").working_dir == expected


def test_an_empty_workdir_is_refused() -> None:
    with pytest.raises(ValueError, match="WORKDIR is empty"):
        after("WORKDIR $nothing")


def test_expose_spells_ranges_out() -> None:
    assert after("EXPOSE 80 53/udp 8000-8002/TCP").exposed_ports == ("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp")


@pytest.mark.parametrize("port", ["x", "0", "70000", "90-80", "80/icmp", "80-"])
def test_bad_ports_are_refused(port: str) -> None:
    with pytest.raises(ValueError, match="EXPOSE"):
        after(f"EXPOSE {port}")


def test_labels_volumes_user_and_triggers_add_up() -> None:
    config = after("ONBUILD RUN x", after("USER app", after("VOLUME /b /a", after("LABEL b=2 a='3 4'"))))
    assert config.labels == {"a": "3 4", "b": "2"}
    assert config.volumes == ("/a", "/b")
    assert (config.user, config.on_build) == ("app", ("RUN x",))


@pytest.mark.parametrize("signal", ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-1"])
def test_stop_signals_are_known_by_name_and_number(signal: str) -> None:
    assert after(f"STOPSIGNAL {signal}").stop_signal == signal


@pytest.mark.parametrize("signal", ["SIGFOO", "0", "99", "RTMIN+99"])
def test_unknown_stop_signals_are_refused(signal: str) -> None:
    with pytest.raises(ValueError, match="Invalid signal"):
        after(f"STOPSIGNAL {signal}")


def test_health_checks_reach_the_configuration() -> None:
    assert after("HEALTHCHECK --retries=2 CMD x").healthcheck == HealthCheck(test=("CMD-SHELL", "x"), retries=2)
    assert after("HEALTHCHECK NONE").healthcheck == HealthCheck(test=("NONE",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('CMD ["a", "b c"]', 'CMD ["a" "b c"]'),
        ("CMD a", 'CMD ["/bin/sh" "-c" "a"]'),
        ("RUN echo a", "RUN /bin/sh -c echo a # buildkit"),
        ('RUN ["a", "b"]', "RUN a b # buildkit"),
        ("COPY --chown=1 a b /c", "COPY --chown=1 a b /c # buildkit"),
        ("ADD a /c", "ADD a /c # buildkit"),
        ("ENV A=2 C=3", "ENV A=2 C=3"),
        ("WORKDIR x", "WORKDIR /srv/x"),
        ("EXPOSE 80", "EXPOSE [80/tcp]"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ("USER x", "USER x"),
        ("ONBUILD RUN x", None),
    ],
)
def test_history_reads_as_buildkits(text: str, expected: str | None) -> None:
    assert history(text) == expected


def test_history_of_run_and_arg_tells_the_build_arguments() -> None:
    assert history("RUN x", v="1", w="2") == "RUN |2 v=1 w=2 /bin/sh -c x # buildkit"
    assert history("ARG v=0 u", v="1") == "ARG v=1 u"


def test_changes_apply_in_order() -> None:
    config = apply_changes(BASE, ["CMD a", 'ENTRYPOINT ["b"]', "ENV X=$A Y=2", "", "LABEL k=v\nUSER u"])
    assert config.cmd == ("/bin/sh", "-c", "a")
    assert config.entrypoint == ("b",)
    assert config.env[2:] == ("X=1", "Y=2")
    assert (config.labels["k"], config.user) == ("v", "u")
    assert apply_changes(BASE, []) == BASE
    assert not config.args_escaped


@pytest.mark.parametrize(
    "change", ["RUN x", "FROM x", "COPY a b", "ARG a", 'SHELL ["a"]', "FOO", "CMD a\nRUN b", "MAINTAINER me", "", "# CMD a"]
)
def test_changes_refuse_what_is_no_metadata(change: str) -> None:
    with pytest.raises(InvalidParameter):
        apply_changes(BASE, [change])
