"""The processes of a container, as ps lists them; and that ps shows nobody else's."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import docker
import pytest
from support.contract import ApiContract

SCRIPT = "sleep 1001 & sleep 1002 & wait"


def _top(api: Any, container: Any, ps_args: str | None = None) -> Any:
    query = "" if ps_args is None else f"?ps_args={quote(ps_args)}"
    return api("GET", f"/containers/{container.id}/top{query}")


@pytest.fixture(name="three")
def _three(run: Any, api: Any, until: Any) -> Any:
    """A container with three processes."""
    container = run(SCRIPT)
    until(lambda: len(_top(api, container).json["Processes"] or ()) == 3)
    return container


def test_without_options_it_is_the_full_list(three: Any, api: Any, contract: ApiContract) -> None:
    answer = _top(api, three)
    contract.check("GET", "/containers/{id}/top", 200, answer.json)
    assert answer.json["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    # By pid, so that the first is not the parent where the kernel's numbers begin anew amid them.
    parents = {row[-1]: row[2] for row in answer.json["Processes"]}
    assert sorted(parents) == [f"sh -c {SCRIPT}", "sleep 1001", "sleep 1002"]
    three.reload()
    first = next(row[1] for row in answer.json["Processes"] if row[-1].startswith("sh"))
    assert first == str(three.attrs["State"]["Pid"])
    assert {parents["sleep 1001"], parents["sleep 1002"]} == {first}


@pytest.mark.parametrize(
    ("ps_args", "titles"),
    [
        ("aux", ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"]),
        ("-o pid,comm", ["PID", "COMMAND"]),
        ("-eo pid,ppid,args", ["PID", "PPID", "COMMAND"]),
        ("-o pid=PID,args", ["PID", "COMMAND"]),
        ("axf", ["PID", "TTY", "STAT", "TIME", "COMMAND"]),
    ],
)
def test_options_are_those_of_ps(three: Any, api: Any, ps_args: str, titles: list[str]) -> None:
    answer = _top(api, three, ps_args)
    assert answer.status == 200
    assert answer.json["Titles"] == titles
    assert len(answer.json["Processes"]) == 3
    assert all(len(row) == len(titles) for row in answer.json["Processes"])


def test_a_selection_holds_within_the_container(three: Any, api: Any) -> None:
    assert [row[-1] for row in _top(api, three, "-C sleep").json["Processes"]] == ["sleep", "sleep"]
    nobody = _top(api, three, "-p 1")
    assert (nobody.status, nobody.json["Processes"]) == (200, None)


def test_a_further_process_is_listed_too(client: docker.DockerClient, three: Any, api: Any, until: Any) -> None:
    client.api.exec_start(client.api.exec_create(three.id, ["sleep", "1003"])["Id"], detach=True)
    until(lambda: "sleep 1003" in [row[-1] for row in _top(api, three).json["Processes"]])


@pytest.mark.needs("limits")
def test_a_paused_container_can_be_looked_at(three: Any, api: Any) -> None:
    three.pause()
    assert len(_top(api, three).json["Processes"]) == 3
    three.unpause()


def test_a_stopped_container_has_no_processes_to_list(client: docker.DockerClient, busybox: str, api: Any) -> None:
    container = client.containers.create(busybox, ["true"])
    answer = _top(api, container)
    assert (answer.status, answer.message) == (409, f"container {container.id} is not running")
    assert api("GET", "/containers/nobody/top").status == 404


@pytest.mark.parametrize("ps_args", ["--nonsense", "-o comm", "-o pid,nonsense", "-h", "-eo args,pid"])
def test_what_ps_refuses_or_has_no_pid_is_an_error_that_says_so(three: Any, api: Any, ps_args: str) -> None:
    answer = _top(api, three, ps_args)
    assert answer.status in (400, 500)
    assert any(word in answer.message for word in ("ps:", "PID", "pid"))


@pytest.mark.kitepy
@pytest.mark.parametrize(
    "ps_args",
    ["-eo rss=PID,args", "-eorss=PID,args", "-eo uid=\tPID,args", "-eo rss=X\tPID,args", "-e -o nlwp=PID -o args", "-ef\0-x"],
)
def test_no_other_column_can_pass_for_the_pid(three: Any, api: Any, ps_args: str) -> None:
    answer = _top(api, three, ps_args)
    assert answer.status == 400
    assert "not allowed" in answer.message or "control characters" in answer.message


def test_the_look_is_told_as_an_event(three: Any, api: Any) -> None:
    since = time.time()
    _top(api, three)
    wanted = quote(json.dumps({"event": ["top"], "container": [three.id]}))
    lines = api("GET", f"/events?since={since:.6f}&until={time.time():.6f}&filters={wanted}").body.splitlines()
    assert [json.loads(line)["Action"] for line in lines] == ["top"]
