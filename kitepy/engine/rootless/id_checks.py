"""Decides about /etc/subuid and /etc/subgid: whether the user has ids for the users inside containers, and enough of them."""

from __future__ import annotations

from kitepy.engine.kernel.subordinate_ids import ENOUGH, Entry, free_range, overlap, parse_entries, ranges_of
from kitepy.engine.rootless.facts import Facts
from kitepy.engine.rootless.findings import Finding, Fix, Severity, fine

_ID = "subordinate-ids"


def subordinate_ids(facts: Facts) -> Finding:
    """One finding about both files: they are put right together."""
    files = {"/etc/subuid": facts.subuid.text, "/etc/subgid": facts.subgid.text}
    entries = {name: parse_entries(text or "") for name, text in files.items()}
    own = {name: ranges_of(found, facts.user, facts.uid) for name, found in entries.items()}
    counts = {name: sum(ids.count for ids in ranges) for name, ranges in own.items()}
    without = [name for name, count in counts.items() if not count]
    if without:
        why = " and ".join(
            f"{name} {'does not exist' if files[name] is None else f'has no entry for {facts.user}'}" for name in without
        )
        return Finding(
            _ID,
            Severity.BLOCKS,
            f"Your account has no ids to lend to the users inside containers: {why}.",
            "Images hold files of many users. Without ids for them no image can be unpacked and no container can run.",
            (_give(facts, entries, files, without),),
        )
    short = [name for name, count in counts.items() if count < ENOUGH]
    if short:
        return Finding(
            _ID,
            Severity.DEGRADES,
            f"Your account has only {min(counts.values()):,} ids for the users inside containers ({', '.join(short)}); "
            f"images expect {ENOUGH:,}.",
            f"Files and processes of a user whose id is above {min(counts.values()):,} (often nobody, 65534) are refused.",
            (_give(facts, entries, files, short),),
        )
    shared = _shared_with(facts, entries)
    if shared:
        name, other = shared
        return Finding(
            _ID,
            Severity.DEGRADES,
            f"Your ids for containers are also given to {other.owner} ({name}: {other.ids.first} to {other.ids.end - 1}).",
            f"Containers of yours and of {other.owner} could read and stop each other.",
            (_exchange(facts, entries, files),),
        )
    return fine(_ID, f"{min(counts.values()):,} ids for the users inside containers.")


def _shared_with(facts: Facts, entries: dict[str, list[Entry]]) -> tuple[str, Entry] | None:
    me = (facts.user, str(facts.uid))
    for name, found in entries.items():
        mine = ranges_of(found, facts.user, facts.uid)
        for entry in found:
            if entry.owner not in me and any(overlap(entry.ids, ids) for ids in mine):
                return name, entry
    return None


def _give(facts: Facts, entries: dict[str, list[Entry]], files: dict[str, str | None], wanting: list[str]) -> Fix:
    """One free range for all the files that want it: equal user and group ids are easier to read."""
    free = free_range([entry for found in entries.values() for entry in found])
    last = free.end - 1
    lines = []
    if missing := [name for name in wanting if files[name] is None]:
        lines.append(f"sudo touch {' '.join(missing)}")
    if facts.in_passwd:
        options = {"/etc/subuid": f"--add-subuids {free.first}-{last}", "/etc/subgid": f"--add-subgids {free.first}-{last}"}
        lines.append(f"sudo usermod {' '.join(options[name] for name in wanting)} {facts.user}")
    else:  # usermod(8) refuses accounts of a directory service
        lines.append(f"echo '{facts.user}:{free.first}:{free.count}' | sudo tee -a {' '.join(wanting)}")
    return Fix("\n".join(lines), "These ids belong to nobody else on this machine; they carry no rights of their own.")


def _exchange(facts: Facts, entries: dict[str, list[Entry]], files: dict[str, str | None]) -> Fix:
    """Give back every range of the user that others have too, and take a free one."""
    lines = []
    for name, option in (("/etc/subuid", "--del-subuids"), ("/etc/subgid", "--del-subgids")):
        others = [entry for entry in entries[name] if entry.owner not in (facts.user, str(facts.uid))]
        for ids in ranges_of(entries[name], facts.user, facts.uid):
            if any(overlap(ids, other.ids) for other in others):
                lines.append(f"sudo usermod {option} {ids.first}-{ids.end - 1} {facts.user}")
    give = _give(facts, entries, files, list(entries))
    return Fix("\n".join([*lines, give.command]), "Files in containers and images that exist already keep their old ids.")
