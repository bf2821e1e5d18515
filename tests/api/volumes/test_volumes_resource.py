"""The volumes resource: create, list with filters, inspect, remove, prune, and what is told of it."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.creating import created, output_of, started

ANONYMOUS = "com.docker.volume.anonymous"
TMPFS = {"type": "tmpfs", "device": "tmpfs"}

Make = Callable[..., dict[str, Any]]


@pytest.fixture(name="make")
def _make(api: Any) -> Iterator[Make]:
    """Create a volume that is removed at the end."""
    names = []

    def make(name: str = "", **fields: Any) -> dict[str, Any]:
        answer = api("POST", "/volumes/create", {"Name": name, **fields})
        assert answer.status == 201, answer.body
        names.append(answer.json["Name"])
        return dict(answer.json)

    yield make
    for name in names:
        api("DELETE", f"/volumes/{name}?force=1")


def _query(**filters: list[str]) -> str:
    return "filters=" + urllib.parse.quote(json.dumps(filters))


@pytest.mark.parametrize("fields", [{}, {"Labels": {}, "DriverOpts": {}}, {"Labels": {"a": "b", "c": ""}, "Driver": "local"}])
def test_a_volume_is_described_as_it_was_asked_for(api: Any, make: Make, fields: dict[str, Any]) -> None:
    made = make("described", **fields)
    assert made == api("GET", "/volumes/described").json
    assert made.pop("CreatedAt")
    assert made.pop("Mountpoint").endswith("/volumes/described/_data")
    assert made == {
        "Name": "described",
        "Driver": "local",
        "Labels": fields.get("Labels"),
        "Options": fields.get("DriverOpts"),
        "Scope": "local",
    }


def test_a_volume_that_exists_is_given_back_as_it_is(api: Any, make: Make) -> None:
    made = make("again", Labels={"a": "b"})
    assert make("again") == make("again", Labels={"c": "d"}) == make("again", DriverOpts=TMPFS) == made
    answer = api("POST", "/volumes/create", {"Name": "again", "Driver": "foo"})
    assert (answer.status, answer.message) == (
        404,
        'create again: error looking up volume plugin foo: plugin "foo" not found',
    )


def test_a_volume_without_a_name_is_anonymous(make: Make) -> None:
    made = make(Labels={"a": "b"})
    assert len(made["Name"]) == 64
    assert made["Labels"] == {"a": "b", ANONYMOUS: ""}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"Name": "a"}, 400, "create a: volume name is too short, names should be at least two alphanumeric characters"),
        ({"Name": "../x"}, 400, 'create ../x: "../x" includes invalid characters for a local volume name, only'),
        ({"Name": "a\n"}, 400, '"a\\n" includes invalid characters'),
        ({"Name": "ok", "Driver": "foo"}, 404, 'create ok: error looking up volume plugin foo: plugin "foo" not found'),
        ({"Name": "ok", "DriverOpts": {"foo": "x"}}, 400, 'create ok: invalid option: "foo"'),
        ({"Name": "ok", "DriverOpts": {"type": "tmpfs"}}, 400, 'create ok: missing required option: "device"'),
        ({"Name": "ok", "DriverOpts": {"device": "x"}}, 400, 'create ok: missing required option: "type"'),
        ({"Name": "ok", "DriverOpts": {"o": "bind"}}, 400, 'create ok: missing required option: "device"'),
        ({"Name": "ok", "DriverOpts": {"size": "1m"}}, 400, "create ok: quota size requested but no quota support"),
        ({"Name": "ok", "DriverOpts": {"size": "x"}}, 400, "create ok: invalid size: 'x'"),
        ({"Name": "ok", "ClusterVolumeSpec": {}}, 503, "This node is not a swarm manager"),
    ],
)
def test_what_no_volume_can_be_is_refused(api: Any, fields: dict[str, Any], status: int, words: str) -> None:
    answer = api("POST", "/volumes/create", fields)
    assert (answer.status, words in answer.message) == (status, True), answer.body
    assert api("GET", "/volumes/ok").status == 404


def test_list_filters(api: Any, busybox: str, make: Make) -> None:
    make("fil-a", Labels={"kind": "x"})
    make("fil-b", Labels={"kind": "y", "more": ""})

    def found(**filters: list[str]) -> list[str]:
        listed = api("GET", f"/volumes?{_query(**filters)}").json["Volumes"]
        return sorted(volume["Name"] for volume in listed if volume["Name"].startswith("fil-"))

    with created(api, {"Image": busybox, "HostConfig": {"Binds": ["fil-a:/v"]}}):
        assert found(name=["^fil-"]) == found(driver=["local", "x"]) == found(label=["kind"]) == ["fil-a", "fil-b"]
        assert found(dangling=["true"]) == found(label=["kind=y"]) == found(label=["kind", "more"]) == ["fil-b"]
        assert found(dangling=["0"]) == found(name=["l-a$"]) == ["fil-a"]
        assert found(driver=["loc"]) == found(label=["kind=z"]) == []


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"until": ["1h"]}, "invalid filter 'until'"),
        ({"dangling": ["x"]}, "invalid filter 'dangling=[x]'"),
        ({"dangling": ["TRUE"]}, "invalid filter 'dangling=[TRUE]'"),
        ({"dangling": []}, "invalid filter 'dangling'"),
        ({"dangling": ["true", "false"]}, "invalid filter 'dangling=["),
    ],
)
def test_wrong_filters_are_refused(api: Any, filters: dict[str, list[str]], words: str) -> None:
    answer = api("GET", f"/volumes?{_query(**filters)}")
    assert (answer.status, words in answer.message) == (400, True), answer.body


def test_a_volume_in_use_stays(api: Any, busybox: str, make: Make) -> None:
    make("used")
    body = {"Image": busybox, "HostConfig": {"Binds": ["used:/v"]}}
    with created(api, body) as one, created(api, body) as two:
        for force in ("0", "1"):
            answer = api("DELETE", f"/volumes/used?force={force}")
            assert answer.status == 409
            assert answer.message in {
                f"remove used: volume is in use - [{first.id}, {second.id}]" for first, second in ((one, two), (two, one))
            }
        usage = api("GET", "/system/df?type=volume").json["Volumes"]
        assert [volume["UsageData"] for volume in usage if volume["Name"] == "used"] == [{"Size": 0, "RefCount": 2}]
    assert api("DELETE", "/volumes/used").status == 204
    gone = api("DELETE", "/volumes/used")
    assert (gone.status, gone.message) == (404, "get used: no such volume")
    assert api("DELETE", "/volumes/used?force=1").status == 204


def test_prune_takes_unused_anonymous_volumes_and_on_request_named_ones(api: Any, busybox: str, make: Make) -> None:
    make("pr-plain")
    make("pr-kept", Labels={"keep": ""})
    make("pr-mounted", DriverOpts=TMPFS)
    anonymous = make()["Name"]
    used = make()["Name"]
    script = {"Image": busybox, "Cmd": ["sh", "-c", "printf 12345 >/v/f"], "HostConfig": {"Binds": [f"{anonymous}:/v"]}}
    output_of(api, script)
    assert api("GET", f"/volumes/{anonymous}").status == 200, "a volume with a name of its own goes with no container"
    with created(api, {"Image": busybox, "HostConfig": {"Binds": [f"{used}:/v"]}}):
        report = api("POST", "/volumes/prune").json
        assert anonymous in report["VolumesDeleted"]
        assert not {used, "pr-plain", "pr-kept", "pr-mounted"} & set(report["VolumesDeleted"])
        assert report["SpaceReclaimed"] >= 5
    kept = {"all": ["true"], "label!": ["keep"], "label": ["nothing"]}
    assert api("POST", f"/volumes/prune?{_query(**kept)}").json["VolumesDeleted"] == []
    del kept["label"]
    removed = api("POST", f"/volumes/prune?{_query(**kept)}").json["VolumesDeleted"]
    assert "pr-plain" in removed
    assert not {"pr-kept", "pr-mounted"} & set(removed)
    for filters in ({"until": ["1h"]}, {"all": ["x"]}, {"dangling": ["true"]}):
        assert api("POST", f"/volumes/prune?{_query(**filters)}").status == 400


def test_before_1_42_prune_took_named_volumes_too(api: Any, make: Make) -> None:
    make("pr-old", Labels={"old": ""})
    report = api("POST", f"/volumes/prune?{_query(label=['old'])}", version="1.41").json
    assert report["VolumesDeleted"] == ["pr-old"]


def test_only_cluster_volumes_can_be_changed(api: Any, make: Make) -> None:
    make("fixed")
    assert api("PUT", "/volumes/fixed?version=1", {"Spec": {}}).status == 503


def test_anonymous_volumes_go_with_their_container_when_nobody_else_has_them(api: Any, busybox: str, make: Make) -> None:
    make("named-one")
    mounts = [{"Type": "volume", "Target": "/b"}, {"Type": "volume", "Source": "named-one", "Target": "/n"}]
    body = {"Image": busybox, "Volumes": {"/a": {}}, "HostConfig": {"Mounts": mounts}}

    def there(name: str) -> bool:
        return bool(api("GET", f"/volumes/{name}").status == 200)

    def make_container() -> tuple[str, dict[str, str]]:
        container_id = api("POST", "/containers/create", body).json["Id"]
        document = api("GET", f"/containers/{container_id}/json").json
        return container_id, {mount["Destination"]: mount["Name"] for mount in document["Mounts"]}

    first, names = make_container()
    with created(api, {"Image": busybox, "HostConfig": {"Binds": [f"{names['/b']}:/theirs"]}}):
        assert api("DELETE", f"/containers/{first}?v=1").status == 204
        assert [there(names[path]) for path in ("/a", "/b", "/n")] == [False, True, True]
        assert api("GET", f"/volumes/{names['/b']}").json["Labels"] == {ANONYMOUS: ""}
    assert api("DELETE", f"/volumes/{names['/b']}").status == 204
    second, names = make_container()
    assert api("DELETE", f"/containers/{second}").status == 204
    assert all(there(name) for name in names.values())
    for path in ("/a", "/b"):
        api("DELETE", f"/volumes/{names[path]}")


def test_what_is_told_of_volumes(api: Any, busybox: str) -> None:
    began = time.time()
    body = {"Image": busybox, "Cmd": ["true"], "HostConfig": {"Binds": ["told:/v:ro"], "NetworkMode": "none"}}
    with created(api, body) as made:
        started(api, made)
        api("POST", f"/containers/{made.id}/wait")
    api("DELETE", "/volumes/told")
    events = api("GET", f"/events?since={began:.9f}&until={time.time():.9f}&{_query(volume=['told'])}").body
    told = [json.loads(line) for line in events.splitlines()]
    local = {"driver": "local"}
    mount = {**local, "container": made.id, "destination": "/v", "propagation": "", "read/write": "false"}
    assert [(event["Action"], event["Actor"]["Attributes"]) for event in told] == [
        ("create", local),
        ("mount", mount),
        ("unmount", {**local, "container": made.id}),
        ("destroy", local),
    ]
