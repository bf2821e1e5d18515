"""Cuts the text of a Dockerfile into instructions with lines, flags and heredocs; what they mean is the matter of ``reading``.

The grammar is the one of Dockerfile frontend 1.x: parser directives on top, an escape character that joins lines,
comments and blank lines inside a continued instruction, and here-documents for RUN, COPY and ADD.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.failures import DockerfileError

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_KNOWN_DIRECTIVES = frozenset({"escape", "syntax", "check"})
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)")
_TAKES_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
_BLANKS = " \t\n\v\f\r\x85\xa0"
# A longer file is a mistake or an attack, not a Dockerfile.
MAX_SIZE_BYTES = 4 << 20


@dataclass(frozen=True)
class Heredoc:
    """One here-document: ``expand`` is false when its name was quoted, ``chomp`` strips leading tabs (``<<-``)."""

    name: str
    expand: bool
    chomp: bool
    descriptor: int = 0
    content: str = ""

    @property
    def text(self) -> str:
        """The content as it is meant, without the leading tabs that ``<<-`` drops."""
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


@dataclass(frozen=True)
class Node:
    """One instruction as written: ``rest`` is what follows keyword and flags, in one line."""

    keyword: str
    flags: tuple[str, ...]
    rest: str
    original: str
    first_line: int
    last_line: int
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True)
class Document:
    """A whole Dockerfile: its instructions, its escape character and its directives (lower-case names)."""

    nodes: tuple[Node, ...]
    escape: str = "\\"
    directives: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> Document:
    """The instructions of a Dockerfile; DockerfileError names the line."""
    if len(text) > MAX_SIZE_BYTES:
        raise DockerfileError(f"the Dockerfile is larger than {MAX_SIZE_BYTES >> 20} MiB")
    lines = text.removeprefix("\ufeff").split("\n")
    if "\0" in text:
        line = next(number for number, content in enumerate(lines, start=1) if "\0" in content)
        raise DockerfileError("the Dockerfile holds a NUL character: is it a text file?", line)
    if lines and lines[-1] == "":
        lines.pop()
    directives = _read_directives(lines)
    escape = directives.get("escape", "\\")
    nodes = tuple(_nodes(lines, escape))
    if not nodes:
        raise DockerfileError("the Dockerfile cannot be empty: begin it with FROM")
    return Document(nodes, escape, directives)


def parse_line(line: str, escape: str = "\\") -> Node:
    """One instruction that came without a file around it (``--change``, ONBUILD); here-documents may follow on later lines."""
    nodes = list(_nodes(line.split("\n"), escape))
    if len(nodes) != 1:
        raise DockerfileError(f"expected one instruction, found {len(nodes)}: {line!r}")
    return nodes[0]


def heredoc_of(word: str, escape: str = "\\") -> Heredoc | None:
    """What ``<<NAME``, ``<<-NAME`` or ``3<<"NAME"`` announces; None for any other word."""
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    descriptor, dash, rest = match.groups()
    if not rest or rest[0] in _BLANKS:
        return None
    words = Lexer({}, escape=escape, keep_unset=True).words(rest)
    if len(words) != 1:
        return None
    return Heredoc(name=words[0], expand=words[0] == rest, chomp=dash == "-", descriptor=int(descriptor or 0))


def split_words(rest: str, escape: str) -> list[str]:
    """Blank-separated words in which quotes group; quotes and escapes stay in the words, expansion removes them later."""
    words: list[str] = []
    word = ""
    quote = ""
    quoted = False
    position = 0
    while position < len(rest):
        char = rest[position]
        position += 1
        if not quote and char in _BLANKS:
            if word or quoted:
                words.append(word)
            word, quoted = "", False
            continue
        if char == escape and quote != "'":
            if position == len(rest):
                break  # an escape before nothing
            char += rest[position]
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote, quoted = char, True
        word += char
    if word or quoted:
        words.append(word)
    return words


def _read_directives(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith("#!"):
            continue
        match = _DIRECTIVE.match(line[1:].lstrip(_BLANKS)) if line.startswith("#") else None
        if match is None or match[1].lower() not in _KNOWN_DIRECTIVES:
            break
        name, value = match[1].lower(), match[2]
        if name in found:
            raise DockerfileError(f"only one {name} parser directive can be used", number)
        if name == "escape" and value not in ("\\", "`"):
            raise DockerfileError(f"invalid escape token '{value}' does not match ` or \\", number)
        found[name] = value
    return found


def _nodes(lines: list[str], escape: str) -> Iterator[Node]:
    index = 0
    continued = re.compile(rf"(^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*$")
    while index < len(lines):
        first = index
        logical, goes_on = _cut_escape(_code(lines[index]).lstrip(_BLANKS), continued)
        index += 1
        if not logical and not goes_on:
            continue
        while goes_on and index < len(lines):
            piece = _code(lines[index])
            index += 1
            # Comments and blank lines inside an instruction don't end it.
            if piece.strip(_BLANKS):
                piece, goes_on = _cut_escape(piece, continued)
                logical += piece
        if not logical.strip(_BLANKS):
            continue
        node = _node(logical, escape, first + 1)
        heredocs: list[Heredoc] = []
        for heredoc in _heredocs(node, escape):
            content: list[str] = []
            while index < len(lines):
                line = lines[index]
                index += 1
                if (line.lstrip("\t") if heredoc.chomp else line).removesuffix("\r") == heredoc.name:
                    break
                content.append(line + "\n")
            else:
                raise DockerfileError(f"unterminated heredoc: no line {heredoc.name!r} after line {first + 1}", first + 1)
            heredocs.append(replace(heredoc, content="".join(content)))
        yield replace(node, last_line=index, heredocs=tuple(heredocs))


def _code(line: str) -> str:
    """The line without its end, or nothing when it is a comment."""
    line = line.rstrip("\r")
    return "" if line.lstrip(_BLANKS).startswith("#") else line


def _cut_escape(line: str, continued: re.Pattern[str]) -> tuple[str, bool]:
    match = continued.search(line)
    return (line[: match.end(1)], True) if match else (line, False)


def _node(logical: str, escape: str, line_number: int) -> Node:
    keyword, _, rest = _partition_blank(logical.strip(_BLANKS))
    flags, rest = _split_flags(rest, escape)
    return Node(keyword.upper(), flags, rest.strip(_BLANKS), logical.strip(_BLANKS), line_number, line_number)


def _partition_blank(text: str) -> tuple[str, str, str]:
    match = re.search(r"[ \t\v\f\r]+", text)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")


def _split_flags(rest: str, escape: str) -> tuple[tuple[str, ...], str]:
    """Leading ``--flag`` words, unquoted, and what follows them; a lone ``--`` ends them."""
    flags: list[str] = []
    rest = rest.lstrip(_BLANKS)
    while rest.startswith("--"):
        word, quote, position = "", "", 0
        while position < len(rest):
            char = rest[position]
            if not quote and char in _BLANKS:
                break
            position += 1
            if quote and char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote = char
            elif char == escape and position < len(rest):
                word += rest[position]
                position += 1
            else:
                word += char
        rest = rest[position:].lstrip(_BLANKS)
        if word == "--":
            break
        flags.append(word)
    return tuple(flags), rest


def _heredocs(node: Node, escape: str) -> list[Heredoc]:
    keyword, rest = node.keyword, node.rest
    if keyword == "ONBUILD":
        keyword, _, rest = _partition_blank(rest)
        _, rest = _split_flags(rest, escape)
    if keyword.upper() not in _TAKES_HEREDOCS or "<<" not in rest or rest.startswith("["):
        return []
    lexer = Lexer({}, escape=escape, keep_quotes=True, keep_escapes=True, keep_unset=True)
    try:
        words = lexer.words(rest)
    except ValueError:
        # A shell command may hold quoting that is not ours; then nothing in it is a here-document.
        return []
    return [heredoc for word in words if (heredoc := heredoc_of(word, escape)) is not None]
