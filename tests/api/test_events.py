"""What the engine tells of what happens in it: which events, with what attributes, in which order; replay and filters."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import docker
import pytest
from api.containers.conftest import RawApi, _run, _until  # noqa: F401  # the fixtures run and until
from support.contract import ApiContract
from support.engine import EngineUnderTest

Event = dict[str, Any]


@pytest.fixture(name="api")
def _api(engine: EngineUnderTest) -> RawApi:
    return RawApi(engine.socket)


@pytest.fixture(name="told")
def _told(api: RawApi) -> Callable[..., list[Event]]:
    """The events since the test began, of some kinds, in order."""
    since = time.time()

    def told(**filters: list[str]) -> list[Event]:
        query = f"/events?since={since:.6f}&until={time.time():.6f}"
        if filters:
            query += f"&filters={quote(json.dumps(filters))}"
        answer = api("GET", query)
        assert answer.status == 200
        return [json.loads(line) for line in answer.body.splitlines()]

    return told


def _names(events: list[Event]) -> list[str]:
    return [event["Action"] for event in events]


def _attributes(events: list[Event], action: str) -> dict[str, str]:
    (found,) = [event["Actor"]["Attributes"] for event in events if event["Action"] == action]
    return dict(found)


def test_a_life_is_told_step_by_step(run: Any, told: Any, until: Any, contract: ApiContract) -> None:
    container = run("trap 'exit 3' USR2; echo ready; sleep 60 & wait", name="told", labels={"team": "red"})
    until(lambda: b"ready" in container.logs())
    container.rename("told-again")
    container.update(restart_policy={"Name": "no"})
    container.kill("USR2")
    container.wait()
    container.remove()
    until(lambda: "destroy" in _names(told(container=[container.id])))
    events = told(type=["container"], container=[container.id])
    assert _names(events) == ["create", "start", "rename", "update", "kill", "die", "destroy"]
    base = {"image": "busybox:latest", "team": "red"}
    assert _attributes(events, "create") == {**base, "name": "told"}
    assert _attributes(events, "rename") == {**base, "name": "told-again", "oldName": "/told"}
    assert _attributes(events, "kill") == {**base, "name": "told-again", "signal": "12"}
    died = _attributes(events, "die")
    assert died.pop("execDuration").isdecimal()
    assert died == {**base, "name": "told-again", "exitCode": "3"}
    for event in events:
        contract.check("GET", "/events", 200, event)
        assert event["scope"] == "local"
        assert event["timeNano"] // 10**9 == event["time"]
        # What the first API versions had, and clients still read.
        assert (event["status"], event["id"], event["from"]) == (event["Action"], container.id, "busybox:latest")
    assert [event["timeNano"] for event in events] == sorted(event["timeNano"] for event in events)


def test_a_network_is_joined_before_the_start_and_left_before_the_end(run: Any, told: Any, until: Any) -> None:
    container = run("exit 4")
    container.wait()
    until(lambda: "die" in _names(told(container=[container.id])))
    events = [event for event in told(type=["container", "network"]) if container.id in json.dumps(event)]
    assert _names(events) == ["create", "connect", "start", "disconnect", "die"]
    assert events[1]["Actor"]["Attributes"] == {"container": container.id, "name": "bridge", "type": "bridge"}
    assert "status" not in events[1]
    assert _attributes(events, "die")["exitCode"] == "4"


def test_an_exec_is_told_with_its_command_its_id_and_its_end(
    client: docker.DockerClient, run: Any, told: Any, until: Any
) -> None:
    container = run("sleep 60")
    exec_id = client.api.exec_create(container.id, ["sh", "-c", "exit 5"])["Id"]
    client.api.exec_start(exec_id)
    until(lambda: "exec_die" in _names(told(container=[container.id])))
    events = [event for event in told(container=[container.id]) if "execID" in event["Actor"]["Attributes"]]
    assert _names(events) == ["exec_create: sh -c exit 5", "exec_start: sh -c exit 5", "exec_die"]
    assert {event["Actor"]["Attributes"]["execID"] for event in events} == {exec_id}
    assert _attributes(events, "exec_die")["exitCode"] == "5"
    assert _names(told(event=["exec_create"])) == ["exec_create: sh -c exit 5"]
    assert _names(told(event=["exec_start: sh -c exit 5"])) == ["exec_start: sh -c exit 5"]
    assert told(event=["exec_start: sh"]) == []


def test_images_are_told_by_id_with_their_labels_until_they_are_gone(client: docker.DockerClient, told: Any) -> None:
    empty = bytes(10240)
    made = client.api.import_image_from_data(empty, "told-image", "one", changes=["LABEL colour=red"])
    image_id = json.loads(made.splitlines()[-1])["status"]
    client.api.tag(image_id, "told-image", "two")
    b"".join(client.api.get_image("told-image:two"))
    client.api.remove_image("told-image:one")
    client.api.remove_image("told-image:two")
    events = [event for event in told(type=["image"]) if event["Actor"]["ID"] == image_id]
    assert [(event["Action"], event["Actor"]["Attributes"]) for event in events] == [
        ("tag", {"name": "told-image:one", "colour": "red"}),
        ("import", {"name": image_id, "colour": "red"}),
        ("tag", {"name": "told-image:two", "colour": "red"}),
        ("save", {"name": image_id, "colour": "red"}),
        ("untag", {"name": image_id, "colour": "red"}),
        ("untag", {"name": image_id, "colour": "red"}),
        ("delete", {"name": image_id}),
    ]
    assert _names(told(image=["told-image"])) == ["tag", "tag"]
    assert _names(told(image=["told-image:two"])) == ["tag"]
    assert _names(told(type=["image"], label=["colour=red"])) == ["tag", "import", "tag", "save", "untag", "untag"]


def test_volumes_and_cleaning_up_are_told(client: docker.DockerClient, told: Any, api: RawApi) -> None:
    client.volumes.create("told-volume", labels={"a": "b"}).remove()
    api("POST", "/containers/prune?filters=%7B%22label%22%3A%5B%22nothing-has-this%22%5D%7D")
    api("POST", "/build/prune?filters=%7B%22id%22%3A%5B%22nothing-has-this%22%5D%7D")
    events = told(type=["volume", "builder", "container"])
    assert [(event["Type"], event["Action"], event["Actor"]) for event in events] == [
        ("volume", "create", {"ID": "told-volume", "Attributes": {"driver": "local"}}),
        ("volume", "destroy", {"ID": "told-volume", "Attributes": {"driver": "local"}}),
        ("container", "prune", {"ID": "", "Attributes": {"reclaimed": "0"}}),
        ("builder", "prune", {"ID": "", "Attributes": {"reclaimed": "0"}}),
    ]
    assert "id" not in events[2]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"type": ["container"]}, ["create", "start", "die"]),
        ({"type": ["container", "network"]}, ["create", "connect", "start", "disconnect", "die"]),
        ({"type": ["nothing"]}, []),
        ({"event": ["start", "die"]}, ["start", "die"]),
        ({"event": ["sta"]}, []),
        ({"event": ["sta", "health_status"]}, ["start"]),
        ({"event": {"start": True}}, ["start"]),
        ({"container": ["told-filter"]}, ["create", "start", "die"]),
        ({"container": ["told-filt"]}, ["create", "start", "die"]),
        ({"container": ["old-filter"]}, []),
        ({"image": ["busybox"], "event": ["start"]}, ["start"]),
        ({"image": ["busybox:latest"], "event": ["start"]}, ["start"]),
        ({"image": ["busyb"]}, []),
        ({"label": ["team"]}, ["create", "start", "die"]),
        ({"label": ["team=red"], "event": ["die"]}, ["die"]),
        ({"label": ["team=red", "other"]}, []),
        ({"network": ["bridge"]}, ["connect", "disconnect"]),
        ({"network": ["brid"], "event": ["connect"]}, ["connect"]),
        ({"scope": ["local"], "event": ["die"]}, ["die"]),
        ({"scope": ["swarm"]}, []),
        *(({kind: ["nobody"]}, []) for kind in ("volume", "daemon", "plugin", "node", "service", "secret", "config")),
    ],
)
def test_filters(run: Any, told: Any, until: Any, filters: dict[str, Any], wanted: list[str]) -> None:
    container = run("true", name="told-filter", labels={"team": "red"})
    container.wait()
    until(lambda: "die" in _names(told(container=[container.id])))
    assert _names(told(**filters)) == wanted


def test_a_time_that_makes_no_sense_is_refused(api: RawApi) -> None:
    answer = api("GET", "/events?since=5&until=4")
    assert (answer.status, answer.message) == (400, "`since` time (5) cannot be after `until` time (4)")
    assert api("GET", "/events?since=yesterday&until=1").status in (400, 500)
    assert api("GET", "/events?until=1&filters=x").status == 400


@pytest.mark.kitepy
@pytest.mark.parametrize("form", ["2001-01-01T00:00:00Z", "2001-01-01T00:00:00.5+02:00", "2001-01-01T00:00", "2001-01-01", "9h"])
def test_times_may_also_be_dates_and_durations(api: RawApi, run: Any, form: str) -> None:
    run("true", name="told-dates").wait()
    wanted = quote(json.dumps({"container": ["told-dates"], "event": ["start"]}))
    answer = api("GET", f"/events?since={quote(form)}&until={time.time() + 0.1:.3f}&filters={wanted}")
    assert len(answer.body.splitlines()) >= 1


def test_only_the_last_events_are_remembered(client: docker.DockerClient, busybox: str, api: RawApi) -> None:
    container = client.containers.create(busybox, ["true"], name="told-0")
    for number in range(1, 300):
        container.rename(f"told-{number}")
    answer = api("GET", f"/events?since=1&until={time.time():.6f}")
    assert len(answer.body.splitlines()) == 256


def test_a_listener_that_comes_amid_events_misses_none_and_hears_none_twice(
    client: docker.DockerClient, busybox: str, engine: EngineUnderTest
) -> None:
    container = client.containers.create(busybox, ["true"], name="gap-0")
    since = time.time()
    done = threading.Event()

    def rename() -> None:
        with_api = engine.docker()
        for number in range(1, 60):
            with_api.api.rename(container.id, f"gap-{number}")
        with_api.close()
        done.set()

    renaming = threading.Thread(target=rename)
    renaming.start()
    wanted = {"container": [container.id], "event": ["rename"]}
    stream: Iterator[Event] = client.events(since=f"{since:.6f}", filters=wanted, decode=True)
    heard = []
    for event in stream:
        heard.append(event["Actor"]["Attributes"]["name"])
        if heard[-1] == "gap-59":
            break
    stream.close()  # type: ignore[attr-defined]  # docker-py's stream
    renaming.join(20)
    assert done.is_set()
    assert heard == [f"gap-{number}" for number in range(1, 60)]


def test_a_stream_ends_at_its_time(api: RawApi) -> None:
    answer = api("GET", f"/events?until={time.time() + 0.5:.3f}&filters={quote(json.dumps({'type': ['nothing']}))}")
    assert (answer.status, answer.body) == (200, b"")
