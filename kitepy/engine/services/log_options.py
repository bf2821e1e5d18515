"""Log drivers and their options, as ``--log-driver`` and ``--log-opt`` give them; pure.

``json-file`` and ``local`` keep the output in files of one form; ``local`` has bounds by default, and its files are the engine's
own business. The modes ``blocking`` and ``non-blocking`` are the same here: a monitor leaves lines to the kernel and waits for
no disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kitepy.engine.model.container_config import LogConfig
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.launch import LogTarget

DRIVERS = ("json-file", "local", "none")
_ELSEWHERE = ("awslogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog")
"""Drivers that Docker has beside these."""

_FILE_OPTIONS = ("max-size", "max-file", "compress")
_ATTRIBUTE_OPTIONS = ("labels", "labels-regex", "env", "env-regex", "tag")
_BUFFER_OPTIONS = ("mode", "max-buffer-size")
_CACHE_OPTIONS = ("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress")
"""Of the copy that Docker keeps where a driver can't be read; the drivers here can."""
_OPTIONS = {
    "json-file": frozenset((*_FILE_OPTIONS, *_ATTRIBUTE_OPTIONS, *_BUFFER_OPTIONS, *_CACHE_OPTIONS)),
    "local": frozenset((*_FILE_OPTIONS, *_BUFFER_OPTIONS, *_CACHE_OPTIONS)),
}
_LOCAL_SIZE_BYTES = 20_000_000
_LOCAL_FILES = 5

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([a-z]*)", re.ASCII | re.IGNORECASE)
_SUFFIX = re.compile("([kmgtp]?)(i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_NO_BOOLEAN = 'parsing "{value}": invalid syntax'
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)


@dataclass(frozen=True)
class LoggedContainer:
    """What options may refer to."""

    id: str = ""
    name: str = ""
    image_name: str = ""
    image_id: str = ""
    command: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Sequence[str] = ()


def check_log_config(config: LogConfig) -> None:
    """What a container is refused for: drivers and options that don't exist. As in Docker, values are tried at the start."""
    driver = config.type or "json-file"
    if driver in _ELSEWHERE:
        raise Unsupported(
            f"The log driver '{driver}' is not supported by this version of Kitepy: use one of {', '.join(DRIVERS)}"
        )
    if driver not in DRIVERS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    if driver != "none":
        options = config.config or {}
        _check_names(driver, options)
        _check_buffer(options)


def log_target(config: LogConfig, path: Path, container: LoggedContainer | None = None) -> LogTarget:
    """Where a monitor writes; raises InvalidParameter for values that make no sense, and what ``check_log_config`` raises."""
    check_log_config(config)
    driver = config.type or "json-file"
    if driver == "none":
        return LogTarget()
    options = config.config or {}
    return _bounded(driver, options, path, _attributes(options, container or LoggedContainer()))


def _check_names(driver: str, options: Mapping[str, str]) -> None:
    for name in options:
        if name not in _OPTIONS[driver]:
            where = f"{driver} log driver" if driver == "json-file" else f"log driver {driver}"
            raise InvalidParameter(f"unknown log opt '{name}' for {where}")


def _check_buffer(options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            parse_size(options["max-buffer-size"])
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from None
    if "cache-disabled" in options:
        _flag(options["cache-disabled"], "invalid value for option cache-disabled: {value}")


def _bounded(driver: str, options: Mapping[str, str], path: Path, attributes: Mapping[str, str]) -> LogTarget:
    max_size, max_files, compress = (_local_bounds if driver == "local" else _bounds)(options)
    return LogTarget(path, max_size, max_files if max_size else 1, compress, attributes)


def _bounds(options: Mapping[str, str]) -> tuple[int, int, bool]:
    max_size, max_files, compress = 0, 1, False
    if "max-size" in options:
        max_size = parse_size(options["max-size"])
        if max_size == 0:
            raise InvalidParameter("max-size must be a positive number")
    if "max-file" in options:
        max_files = _integer(options["max-file"])
        if max_files < 1:
            raise InvalidParameter("max-file cannot be less than 1")
    if "compress" in options:
        compress = _flag(options["compress"], _NO_BOOLEAN)
        if compress and (max_files < 2 or not max_size):
            raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return max_size, max_files, compress


def _local_bounds(options: Mapping[str, str]) -> tuple[int, int, bool]:
    max_size, max_files, compress = _LOCAL_SIZE_BYTES, _LOCAL_FILES, True
    for name, read in (("max-size", parse_size), ("max-file", _integer)):
        try:
            value = read(options[name]) if name in options else None
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid value for {name}: {options[name][:40]}: {error}") from None
        if value is not None and name == "max-size":
            max_size = value or _LOCAL_SIZE_BYTES
        elif value is not None:
            max_files = value
    if "compress" in options:
        compress = _flag(options["compress"], f"error reading compress log option: {_NO_BOOLEAN}")
    if max_files < 0:
        raise InvalidParameter("max file count cannot be less than 0")
    if compress and max_files < 2:
        raise InvalidParameter("compression cannot be enabled when max file count is 1")
    return max_size, max(1, max_files), compress


def parse_size(text: str) -> int:
    """``10m``, ``512k``, ``1.5g``: bytes, in steps of 1000 as Docker has it here."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid size: '{text[:40]}'")
    suffix = _SUFFIX.fullmatch(match[2])
    if suffix is None:
        raise InvalidParameter(f"invalid suffix: '{match[2][:40]}'")
    return int(float(match[1]) * 1000 ** _POWERS[suffix[1].lower()])


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,6}", text, re.ASCII):
        raise InvalidParameter(f'parsing "{text[:40]}": invalid syntax')
    return int(text)


def _flag(text: str, complaint: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise InvalidParameter(complaint.format(value=text[:40]))
    return text in _TRUE


def _attributes(options: Mapping[str, str], container: LoggedContainer) -> dict[str, str]:
    """What is written with each line, sorted by name."""
    env = {name: value for name, equals, value in (entry.partition("=") for entry in container.env) if equals}
    found: dict[str, str] = {}
    for source, given in (("labels", container.labels), ("env", env)):
        for name in options.get(source, "").split(","):
            if name in given:
                found[name] = given[name]
        if f"{source}-regex" in options:
            pattern = _pattern(options[f"{source}-regex"])
            found.update((name, value) for name, value in given.items() if pattern.search(name))
    if options.get("tag"):
        found["tag"] = _tag(options["tag"], container)
    return dict(sorted(found.items()))


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidParameter(f"error parsing regexp: {error}: `{text[:80]}`") from None


_TAG_FIELDS: Mapping[str, Callable[[LoggedContainer], str]] = {
    ".ID": lambda container: short_id(container.id),
    ".FullID": lambda container: container.id,
    ".ContainerID": lambda container: container.id,
    ".Name": lambda container: container.name,
    ".ContainerName": lambda container: f"/{container.name}",
    ".ImageID": lambda container: container.image_id[:12],
    ".ImageFullID": lambda container: container.image_id,
    ".ContainerImageID": lambda container: container.image_id,
    ".ImageName": lambda container: container.image_name,
    ".ContainerImageName": lambda container: container.image_name,
    ".Command": lambda container: container.command,
    ".DaemonName": lambda container: "docker",  # noqa: ARG005  # the name that programs know
}


def _tag(template: str, container: LoggedContainer) -> str:
    """The markup of ``--log-opt tag``: fields, without the functions that Go's templates have."""

    def value(match: re.Match[str]) -> str:
        field_of = _TAG_FIELDS.get(match[1])
        if field_of is None:
            raise InvalidParameter(f"invalid log tag: {{{{{match[1][:40]}}}}} is not one of {', '.join(_TAG_FIELDS)}")
        return field_of(container)

    text = _ACTION.sub(value, template)
    if "{{" in _ACTION.sub("", template):
        raise InvalidParameter(f"invalid log tag '{template[:80]}': unclosed action")
    return text
