"""Compares what containers of two engines see and may do: every system call, mounts, devices, settings, identity.

    python tests/support/compare_defaults.py unix:///run/docker.sock unix:///run/kitepy/engine.sock
        prints a table of all facts that differ; fails when one is not among the deliberate differences
    … --write docs/default-profile.md --save tests/data/docker-profile.json
        also writes the page for people, and keeps the first engine's facts for `make test`

Both engines must run on the same kernel. The facts come from ``profile_facts.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import docker

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.bpf import ranges  # found only once the path is set
from support.deliberate_differences import DELIBERATE, find_difference
from support.profile_facts import VARIANTS, Facts, collect, load_probe_image

ABSENT = "(absent)"
OF_THE_MACHINE = ("links", "settings", "limits")
"""Topics that tell of one machine's networks and defaults; they are compared side by side, but not kept."""
UNPROTECTED = ("--privileged", "--security-opt systempaths=unconfined")
"""Variants in which nearly all of /proc/sys and /sys can be written: what that is tells of the machine, and isn't kept."""


class Fact(NamedTuple):
    """One fact of both sides."""

    variant: str
    topic: str
    key: str
    left: str
    right: str


def compare(left: dict[str, Facts], right: dict[str, Facts]) -> Iterator[Fact]:
    """The facts that differ."""
    for variant, topics in left.items():
        others = right[variant]
        for topic in [*topics, *(name for name in others if name not in topics)]:
            one, other = topics.get(topic, {}), others.get(topic, {})
            for key in [*one, *(name for name in other if name not in one)]:
                if one.get(key) != other.get(key):
                    yield Fact(variant, topic, key, one.get(key, ABSENT), other.get(key, ABSENT))


def facts_of(url: str, variants: list[str]) -> tuple[str, dict[str, Facts]]:
    """Name and version of an engine, and its facts."""
    client = docker.DockerClient(base_url=url, version="auto", timeout=600)
    try:
        load_probe_image(client)
        version = client.version()
        name = "Kitepy" if "kitepy" in json.dumps(version).lower() else "Docker"
        return f"{name} {version['Version']}", collect(client, variants)
    finally:
        client.close()


def is_kept(variant: str, topic: str) -> bool:
    """Whether this topic of this variant is in the stored table."""
    return topic not in OF_THE_MACHINE and not (topic == "writable" and variant in UNPROTECTED)


def pack(sides: dict[str, Facts]) -> dict[str, Facts]:
    """Each variant as what differs from the default one; a fact that is absent there is null."""
    default = sides["default"]
    packed: dict[str, Facts] = {"default": default}
    for variant, topics in sides.items():
        if variant == "default":
            continue
        changes: dict[str, dict[str, str]] = {}
        for topic in (topic for topic in {**default, **topics} if is_kept(variant, topic)):
            base, own = default.get(topic, {}), topics.get(topic, {})
            different = {key: own.get(key) for key in {**base, **own} if base.get(key) != own.get(key)}
            if different:
                changes[topic] = different  # type: ignore[assignment]  # None stands for absent in the stored form
        packed[variant] = changes
    return packed


def unpack(packed: dict[str, Facts]) -> dict[str, Facts]:
    """The reverse of ``pack``."""
    default = packed["default"]
    found: dict[str, Facts] = {"default": default}
    for variant, changes in packed.items():
        if variant != "default":
            topics = {**{topic: {} for topic in changes}, **default}
            topics = {topic: values for topic, values in topics.items() if is_kept(variant, topic)}
            merged = {topic: {**values, **changes.get(topic, {})} for topic, values in topics.items()}
            found[variant] = {
                topic: {key: value for key, value in values.items() if value is not None} for topic, values in merged.items()
            }
    return found


def page(names: tuple[str, str], left: dict[str, Facts], right: dict[str, Facts], different: list[Fact]) -> str:
    """The comparison in Markdown."""
    lines = [
        "# The default profile, compared with Docker's",
        "",
        f"{names[0]} and {names[1]} side by side on Linux {'.'.join(os.uname().release.split('.')[:2])}, {os.uname().machine}. "
        "Generated; to make it again, with both engines running on one machine:",
        "",
        "```sh",
        "python tests/support/compare_defaults.py unix:///run/docker.sock unix:///run/kitepy/engine.sock "
        "--write docs/default-profile.md",
        "```",
        "",
        "## Facts compared",
        "",
        "Each variant is one container; a fact is e.g. one system call's answer, one mount, one file of /proc/sys.",
        "",
        "| variant | facts | equal | deliberately different | otherwise different |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for variant, topics in left.items():
        total = sum(len({**values, **right[variant].get(topic, {})}) for topic, values in topics.items())
        own = [fact for fact in different if fact.variant == variant]
        meant = sum(find_difference(*fact) is not None for fact in own)
        lines.append(f"| `{variant}` | {total} | {total - len(own)} | {meant} | {len(own) - meant} |")
    lines += ["", "## Deliberate differences", "", "| where | what | Docker | Kitepy | why |", "| --- | --- | --- | --- | --- |"]
    for entry in DELIBERATE:
        example = next((fact for fact in different if find_difference(*fact) is entry), None)
        if example is not None:
            left_text, right_text = (text.replace("|", "\\|")[:70] for text in example[3:])
            lines.append(f"| {example.topic} | `{example.key}` | `{left_text}` | `{right_text}` | {entry.reason} |")
    lines += ["", "## The default container", ""]
    for topic in (
        "status",
        "identity",
        "environment",
        "limits",
        "process",
        "mounts",
        "masked",
        "read-only",
        "dev",
        "device nodes",
    ):
        lines += [f"### {topic}", "", "| fact | Docker | Kitepy |", "| --- | --- | --- |"]
        one, other = left["default"][topic], right["default"][topic]
        for key in sorted({**one, **other}):
            cells = [text.replace("|", "\\|") for text in (one.get(key, ABSENT), other.get(key, ABSENT))]
            lines.append(f"| `{key}` | {cells[0]} | {cells[1] if cells[0] != cells[1] else '='} |")
        lines.append("")
    lines += [
        "### system calls",
        "",
        "Numbers by what a call with invalid arguments gets; both engines alike unless listed above.",
        "",
    ]
    lines += ["| numbering | answer | calls |", "| --- | --- | --- |"]
    for abi, answers in _calls(right["default"]).items():
        for answer in ("EPERM", "ENOSYS"):
            listed = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges(answers.get(answer, ())))
            lines.append(f"| {abi} | {answer} | {listed} |")
    lines += ["", "### calls whose arguments decide", "", "| call | Docker | Kitepy |", "| --- | --- | --- |"]
    one, other = left["default"]["arguments"], right["default"]["arguments"]
    lines += [
        f"| `{key}` | {one[key]} | {'=' if one[key] == other.get(key) else other.get(key)} |"
        for key in one
        if "socket" not in key
    ]
    families: dict[str, list[int]] = {}
    for key, value in other.items():
        if key.startswith("socket."):
            families.setdefault(value, []).append(int(key.split(".")[1]))
    lines += [f"| `socket` of families {sorted(set(numbers))} | = | {answer} |" for answer, numbers in sorted(families.items())]
    return "\n".join(lines) + "\n"


def _calls(facts: Facts) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {}
    for key, answer in facts["calls"].items():
        abi, number = key.split(".")
        found.setdefault(abi, {}).setdefault(answer, []).append(int(number))
    return found


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs=2, metavar="URL", help="Docker's engine first")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="only this one (repeatable)")
    parser.add_argument("--write", metavar="FILE", type=Path, help="the comparison as a page")
    parser.add_argument("--save", metavar="FILE", type=Path, help="keep the first engine's facts")
    options = parser.parse_args()
    variants = options.variant or list(VARIANTS)
    sides = [facts_of(url, variants) for url in options.urls]
    (left_name, left), (right_name, right) = sides
    different = list(compare(left, right))
    defects = [fact for fact in different if find_difference(*fact) is None]
    print(f"{'':2}{'variant':40} {'topic':14} {'fact':44} {left_name} -> {right_name}")
    for fact in different:
        mark = "!" if fact in defects else "="
        print(f"{mark:2}{fact.variant:40} {fact.topic:14} {fact.key:44} {fact.left} -> {fact.right}")
    used = {entry.reason for fact in different if (entry := find_difference(*fact))}
    print("\ndeliberate:", *sorted(used), sep="\n  ")
    print(f"\n{len(different)} facts differ, {len(defects)} of them are defects")
    if options.write:
        options.write.write_text(page((left_name, right_name), left, right, different), encoding="utf-8")
    if options.save:
        release = ".".join(os.uname().release.split(".")[:2])
        kept = {
            variant: {topic: facts for topic, facts in topics.items() if is_kept(variant, topic)}
            for variant, topics in left.items()
        }
        document = {"engine": left_name, "kernel": release, "machine": os.uname().machine, "facts": pack(kept)}
        options.save.write_text(json.dumps(document, indent=0, sort_keys=False) + "\n", encoding="utf-8")
    return 1 if defects else 0


if __name__ == "__main__":
    raise SystemExit(main())
