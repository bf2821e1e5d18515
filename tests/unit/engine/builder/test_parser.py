from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.builder.failures import DockerfileError
from kitepy.engine.builder.parser import heredoc_of, parse, split_words


def test_instructions_carry_their_lines_and_keywords_in_capitals() -> None:
    nodes = parse("FROM a\n\n# note\nrun echo \\\n  hi\nCMD x\n").nodes
    assert [(node.keyword, node.rest, node.first_line, node.last_line) for node in nodes] == [
        ("FROM", "a", 1, 1),
        ("RUN", "echo   hi", 4, 5),
        ("CMD", "x", 6, 6),
    ]


def test_comments_and_blank_lines_do_not_end_a_continued_instruction() -> None:
    (_, run) = parse("FROM a\nRUN one && \\\n# why\n\n  # indented\n  two\n").nodes
    assert run.rest == "one &&   two"


def test_a_doubled_escape_at_the_end_of_a_line_continues_nothing() -> None:
    nodes = parse("FROM a\nRUN echo \\\\\nCMD b\n").nodes
    assert [node.keyword for node in nodes] == ["FROM", "RUN", "CMD"]


def test_blanks_may_follow_the_escape_character() -> None:
    (_, run) = parse("FROM a\nRUN x \\  \ny\n").nodes
    assert run.rest == "x y"


def test_windows_line_ends_and_a_byte_order_mark_are_accepted() -> None:
    document = parse("\ufeffFROM a\r\nRUN x \\\r\n y\r\n")
    assert [node.rest for node in document.nodes] == ["a", "x  y"]


def test_the_escape_directive_changes_what_joins_lines() -> None:
    document = parse("# escape=`\nFROM a\nRUN dir c:\\ `\n more\n")
    assert document.escape == "`"
    assert document.nodes[1].rest == "dir c:\\  more"


def test_a_directive_after_a_comment_is_a_comment() -> None:
    assert parse("# hello\n# escape=`\nFROM a\n").escape == "\\"


def test_directives_are_found_below_each_other() -> None:
    document = parse("# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\nFROM a\n")
    assert document.directives == {"syntax": "docker/dockerfile:1", "check": "skip=all", "escape": "`"}


def test_a_directive_given_twice_is_refused() -> None:
    with pytest.raises(DockerfileError, match="line 2: only one escape parser directive"):
        parse("# escape=`\n# escape=`\nFROM a\n")


def test_an_unknown_escape_character_is_refused() -> None:
    with pytest.raises(DockerfileError, match="invalid escape token 'x'"):
        parse("# escape=x\nFROM a\n")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "\\\n"])
def test_a_file_without_instructions_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError, match="empty"):
        parse(text)


def test_flags_are_taken_off_the_front_and_unquoted() -> None:
    (node,) = parse('COPY --from=a --chown="x y" --link src --dst\n').nodes
    assert node.flags == ("--from=a", "--chown=x y", "--link")
    assert node.rest == "src --dst"


def test_a_heredoc_belongs_to_its_run() -> None:
    (_, run, cmd) = parse("FROM a\nRUN <<EOF\necho a\n# kept\nEOF\nCMD x\n").nodes
    assert [(doc.name, doc.content, doc.expand) for doc in run.heredocs] == [("EOF", "echo a\n# kept\n", True)]
    assert (run.first_line, run.last_line, cmd.first_line) == (2, 5, 6)


def test_several_heredocs_on_one_line_are_read_in_order() -> None:
    (copy,) = parse("COPY <<one <<'two' /d/\n1\none\n2\ntwo\n").nodes
    assert [(doc.name, doc.content, doc.expand) for doc in copy.heredocs] == [("one", "1\n", True), ("two", "2\n", False)]


def test_a_dash_strips_leading_tabs() -> None:
    (run,) = parse("RUN <<-EOF\n\t\techo a\n\tEOF\n").nodes
    assert run.heredocs[0].text == "echo a\n"


def test_an_unfinished_heredoc_names_the_line_where_it_began() -> None:
    with pytest.raises(DockerfileError, match="line 2: unterminated heredoc"):
        parse("FROM a\nRUN <<EOF\necho\n")


def test_quoted_text_and_other_instructions_hold_no_heredoc() -> None:
    nodes = parse('ENV a=<<EOF\nRUN echo \'<<EOF\'\nRUN ["cat", "<<EOF"]\nRUN cat <<<word\n').nodes
    assert [node.heredocs for node in nodes] == [()] * 4


def test_onbuild_may_hold_a_heredoc() -> None:
    (node,) = parse("ONBUILD RUN <<EOF\nx\nEOF\n").nodes
    assert node.heredocs[0].content == "x\n"


def test_heredoc_words_may_name_a_descriptor() -> None:
    heredoc = heredoc_of("3<<-x")
    assert heredoc is not None
    assert (heredoc.descriptor, heredoc.chomp, heredoc.name) == (3, True, "x")
    assert heredoc_of("<file") is None
    assert heredoc_of("<<") is None


def test_words_keep_their_quotes_and_escapes() -> None:
    assert split_words(r"""a="b c" d='e"f' g\ h ''""", "\\") == ['a="b c"', "d='e\"f'", r"g\ h", "''"]


@given(st.text(alphabet="FROMRUN a\\`\n\"'<#=-$\t", max_size=80))
def test_any_text_is_either_read_or_refused_as_a_dockerfile(text: str) -> None:
    try:
        document = parse(text)
    except DockerfileError:
        return
    lines = [line for node in document.nodes for line in (node.first_line, node.last_line)]
    assert lines == sorted(lines)
