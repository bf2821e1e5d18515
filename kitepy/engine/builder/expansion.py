"""Variable expansion and quote removal in a Dockerfile's words, after the POSIX shell's rules that Dockerfiles know.

Pure: a mapping of variables in, text out. Mistakes are ValueError; the caller knows the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Variables that are made of each other grow quickly; no honest one becomes as large as this.
_MAX_EXPANDED = 8 << 20
_BLANKS = re.compile(r"\s+")
_SPECIAL_PARAMETERS = frozenset("@*#?-$!0")


class Lexer:
    """Expands words with the variables of one instruction.

    ``keep_quotes`` and ``keep_escapes`` leave those characters in the result, ``plain_quotes`` gives quotes no meaning
    (here-documents), ``keep_unset`` leaves ``$NAME`` of unknown variables as written. ``used`` collects the names of the
    variables that were looked up.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        *,
        escape: str = "\\",
        keep_quotes: bool = False,
        keep_escapes: bool = False,
        plain_quotes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self._variables = variables
        self._escape = escape
        self._keep_quotes = keep_quotes
        self._keep_escapes = keep_escapes
        self._plain_quotes = plain_quotes
        self._keep_unset = keep_unset
        self._given_out = 0
        self.used: set[str] = set()

    def expand(self, text: str) -> str:
        """The text with variables replaced and quotes removed, as one word."""
        return self._process(text)[0]

    def words(self, text: str) -> list[str]:
        """The same, cut at unquoted blanks, including those that came out of a variable."""
        return self._process(text)[1]

    def _process(self, text: str) -> tuple[str, list[str]]:
        run = _Run(self, text)
        try:
            return run.until("", self._keep_escapes)
        except ValueError as problem:
            raise ValueError(f"failed to process {_quoted(text)}: {problem}") from None

    def look_up(self, name: str) -> str | None:
        """A variable's value, noting that it was asked for."""
        self.used.add(name)
        value = self._variables.get(name)
        self._given_out += len(value or "")
        if self._given_out > _MAX_EXPANDED:
            raise ValueError(f"variables expand to more than {_MAX_EXPANDED >> 20} MiB")
        return value


class _Words:
    """Collects words while text arrives."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._open: list[str] = []

    def splitting(self, text: str) -> None:
        """Text whose blanks end words."""
        pieces = _BLANKS.split(text)
        self._open.append(pieces[0])
        for piece in pieces[1:]:
            self._close()
            self._open.append(piece)

    def whole(self, text: str) -> None:
        """Text that belongs to the word whatever it holds."""
        self._open.append(text)

    def finish(self) -> list[str]:
        """All words; empty ones don't count."""
        self._close()
        return self._done

    def _close(self) -> None:
        word = "".join(self._open)
        self._open.clear()
        if word:
            self._done.append(word)


class _Run:
    """One pass over one text; the position moves forward only."""

    def __init__(self, lexer: Lexer, text: str) -> None:
        self._lexer = lexer
        self._text = text
        self._at = 0
        self._raw_escapes = lexer._keep_escapes

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def until(self, stop: str, raw_escapes: bool) -> tuple[str, list[str]]:
        before, self._raw_escapes = self._raw_escapes, raw_escapes
        try:
            return self._until(stop)
        finally:
            self._raw_escapes = before

    def _until(self, stop: str) -> tuple[str, list[str]]:
        lexer = self._lexer
        result: list[str] = []
        words = _Words()
        while char := self._peek():
            if stop and char == stop:
                self._at += 1
                return "".join(result), words.finish()
            if char == "$":
                piece = self._dollar()
                words.splitting(piece)
            elif char in "'\"" and not lexer._plain_quotes:
                piece = self._single_quoted() if char == "'" else self._double_quoted()
                words.whole(piece)
            elif char == lexer._escape:
                self._at += 1
                piece = (char if self._raw_escapes else "") + self._next()
                words.whole(piece)
            else:
                piece = self._plain(stop)
                words.splitting(piece)
            result.append(piece)
        if stop:
            raise ValueError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.finish()

    def _plain(self, stop: str) -> str:
        """Everything up to the next character that may mean something; at least one character."""
        start = self._at
        special = re.compile(f"[$'\"{re.escape(self._lexer._escape + stop)}]")
        found = special.search(self._text, start + 1)
        self._at = found.start() if found else len(self._text)
        return self._text[start : self._at]

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise ValueError("unexpected end of statement while looking for matching single-quote")
        inside = self._text[self._at + 1 : end]
        self._at = end + 1
        return f"'{inside}'" if self._lexer._keep_quotes else inside

    def _double_quoted(self) -> str:
        lexer = self._lexer
        opening = self._next()
        mark = opening if lexer._keep_quotes else ""
        result = [mark]
        while char := self._peek():
            if char == '"':
                self._at += 1
                return "".join([*result, mark])
            if char == "$":
                result.append(self._dollar())
                continue
            self._at += 1
            if char == lexer._escape:
                if self._raw_escapes:
                    result.append(char)
                following = self._peek()
                if not following:
                    break
                if following in ('"', "$", lexer._escape):
                    char = self._next()
                elif self._raw_escapes:
                    continue
            result.append(char)
        raise ValueError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        lexer = self._lexer
        start = self._at
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = lexer.look_up(name)
            return (f"${name}" if lexer._keep_unset else "") if value is None else value
        self._at += 1
        if not self._peek():
            raise ValueError("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise ValueError("syntax error: bad substitution")
        name = self._name()
        operator = self._next()
        value = lexer.look_up(name)
        if operator == "}":
            return (f"${{{name}}}" if lexer._keep_unset else "") if value is None else value
        expanded = self._modified(name, value, operator)
        if value is None and lexer._keep_unset:
            return self._text[start : self._at]
        return expanded

    def _modified(self, name: str, value: str | None, operator: str) -> str:
        modifier = operator
        empty_is_unset = operator == ":"
        if empty_is_unset:
            operator = self._next()
            modifier += operator
        if modifier == "/":
            return self._replaced(value or "")
        if not operator:
            raise ValueError("syntax error: missing '}'")
        if operator not in "+-?#%":
            raise ValueError(f"unsupported modifier ({modifier}) in substitution")
        word = self._operand("}", operator in "#%", "syntax error: missing '}'")
        unset = value is None or (empty_is_unset and value == "")
        match operator:
            case "-":
                return word if unset else value or ""
            case "+":
                return "" if unset else word
            case "?":
                if unset and not (value is None and self._lexer._keep_unset):
                    kind = "unset" if value is None else "empty"
                    raise ValueError(f"{name}: {word or f'is not allowed to be {kind}'}")
                return value or ""
            case _:
                return _trimmed(value or "", word, operator)

    def _operand(self, stop: str, raw_escapes: bool, missing: str) -> str:
        try:
            return self.until(stop, raw_escapes)[0]
        except ValueError:
            if not self._peek():
                raise ValueError(missing) from None
            raise

    def _replaced(self, value: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._at += 1
        pattern = self._operand("/", True, "syntax error: missing '/' in ${}")
        replacement = self._operand("}", True, "syntax error: missing '}'")
        if len(value) * len(replacement) > _MAX_EXPANDED:
            raise ValueError(f"${{.../...}} expands to more than {_MAX_EXPANDED >> 20} MiB")
        expression = _shell_pattern(_tokens(pattern, pattern), greedy=True)
        return expression.sub(lambda _: replacement, value, count=0 if everywhere else 1)

    def _name(self) -> str:
        first = self._peek()
        if first and first in _SPECIAL_PARAMETERS and not first.isdigit():
            return self._next()
        start = self._at
        if first.isdigit():
            while self._peek().isdigit():
                self._at += 1
        else:
            while (char := self._peek()) and (char.isalnum() or char == "_"):
                self._at += 1
        return self._text[start : self._at]


def _trimmed(value: str, word: str, operator: str) -> str:
    greedy = word.startswith(operator)
    pattern = _tokens(word[1:] if greedy else word, word)
    if operator == "#":
        match = _shell_pattern(pattern, greedy=greedy).match(value)
        return value[match.end() :] if match else value
    # A suffix is the prefix of the text read backwards.
    match = _shell_pattern(pattern[::-1], greedy=greedy).match(value[::-1])
    return value[: len(value) - match.end()] if match else value


def _tokens(pattern: str, shown: str) -> list[str]:
    """A shell pattern as regular expressions: ``*`` stays itself, everything else matches one character."""
    tokens: list[str] = []
    characters = iter(pattern)
    for char in characters:
        if char == "\\":
            escaped = next(characters, "")
            if not escaped or escaped not in "*?\\}/":
                raise ValueError(f"invalid pattern ({shown}) in substitution: invalid escape '\\{escaped}'")
            tokens.append(re.escape(escaped))
        else:
            tokens.append({"*": "*", "?": "."}.get(char, re.escape(char)))
    return tokens


def _shell_pattern(tokens: list[str], *, greedy: bool) -> re.Pattern[str]:
    """An expression for a prefix, the longest or the shortest.

    What stands between two stars may always be taken at its first occurrence. Atomic groups say so: without them a
    pattern with many stars would take forever.
    """
    segments = [""]
    for expression in tokens:
        if expression == "*":
            segments.append("")
        else:
            segments[-1] += expression
    first, *others = segments
    parts = [first, *(f"(?>.*?{segment})" for segment in others[:-1])]
    if others:
        parts.append((".*" if greedy else ".*?") + others[-1])
    return re.compile("".join(parts), re.DOTALL)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
