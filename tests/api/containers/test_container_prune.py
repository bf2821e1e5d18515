"""Pruning containers: which go, what is told, which filters are refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import docker
import pytest
from docker.models.containers import Container
from support.contract import ApiContract

Three = dict[str, Container]


@pytest.fixture(name="three")
def _three(client: docker.DockerClient, run: Any, busybox: str) -> Three:
    """One that runs, one that ended and wrote five bytes, one that never ran; another label on the last."""
    labels = {"prune": "1", "pair": "a=b"}
    made = {
        "running": run(["sleep", "60"], labels=labels),
        "ended": run("printf 12345 >/x", labels=labels),
        "created": client.containers.create(busybox, ["true"], labels={"prune": "2"}),
    }
    made["ended"].wait()
    return made


@pytest.fixture(name="prune")
def _prune(api: Any) -> Callable[..., Any]:
    return lambda filters: api("POST", f"/containers/prune?filters={quote(json.dumps(filters))}")


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        ({"label": ["prune"]}, ["ended", "created"]),
        ({"label": {"prune": True}}, ["ended", "created"]),
        ({"label": ["prune=1"]}, ["ended"]),
        ({"label": ["prune", "pair=a=b"]}, ["ended"]),
        ({"label": ["prune=1", "prune=2"]}, []),
        ({"label": ["prune"], "label!": ["pair"]}, ["created"]),
        ({"label": ["prune"], "label!": ["prune=2"]}, ["ended"]),
        ({"label": ["prune"], "until": ["10m"]}, []),
        ({"label": ["prune"], "until": ["1h30m"]}, []),
        ({"label": ["prune"], "until": ["2020-01-01"]}, []),
        ({"label": ["prune"], "until": ["1500000000"]}, []),
        ({"label": ["prune"], "until": ["4000000000.5"]}, ["ended", "created"]),
        ({"label": ["prune"], "until": ["2090-01-01T00:00:00Z"]}, ["ended", "created"]),
        ({"label": ["prune"], "until": ["2090-01-01T00:00:00.5+02:00"]}, ["ended", "created"]),
        ({"label": ["prune"], "until": ["-5m"]}, ["ended", "created"]),
    ],
)
def test_what_does_not_run_and_matches_goes(
    three: Three, prune: Any, client: docker.DockerClient, contract: ApiContract, filters: Any, gone: list[str]
) -> None:
    answer = prune(filters)
    contract.check("POST", "/containers/prune", 200, answer.json)
    assert sorted(answer.json["ContainersDeleted"] or []) == sorted(three[name].id for name in gone)
    assert answer.json["SpaceReclaimed"] == (5 if "ended" in gone else 0)
    left = {container.id for container in client.containers.list(all=True)}
    assert {name for name in three if three[name].id not in left} == set(gone)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"label": ["prune"], "until": ["x"]}, 'failed to parse value as time or duration: "x"'),
        ({"label": ["prune"], "until": [""]}, 'failed to parse value as time or duration: ""'),
        ({"label": ["prune"], "until": ["1h", "2h"]}, "more than one until filter specified"),
        ({"label": ["prune"], "colour": ["red"]}, "invalid filter 'colour'"),
        ({"label": ["prune"], "status": ["exited"]}, "invalid filter 'status'"),
        ({"label": "prune"}, "invalid filter"),
        (["prune"], "invalid filter"),
    ],
)
def test_other_filters_remove_nothing(three: Three, prune: Any, client: docker.DockerClient, filters: Any, words: str) -> None:
    answer = prune(filters)
    assert answer.status == 400
    assert words in answer.message
    assert {container.id for container in three.values()} <= {container.id for container in client.containers.list(all=True)}


@pytest.mark.kitepy  # Docker 28 ends with a fault of its own.
def test_no_value_for_until_is_as_none(three: Three, prune: Any) -> None:
    assert prune({"label": ["prune=2"], "until": []}).json["ContainersDeleted"] == [three["created"].id]


def test_a_prune_is_told(three: Three, prune: Any, api: Any, events: Any) -> None:
    began = time.time()
    prune({"label": ["prune=1"]})
    assert events.actions(three["ended"].id, ending="destroy") == ["destroy"]
    filters = quote(json.dumps({"event": ["prune"], "type": ["container"]}))
    told = api("GET", f"/events?since={began:.9f}&until={time.time():.9f}&filters={filters}").body.splitlines()
    assert [json.loads(event)["Actor"]["Attributes"]["reclaimed"] for event in told] == ["5"]


@pytest.mark.needs("limits")
def test_what_is_paused_or_waits_for_its_restart_stays(run: Any, restarting: Any, prune: Any) -> None:
    paused = run(["sleep", "60"], labels={"prune": "1"})
    paused.pause()
    waits = restarting(labels={"prune": "1"})
    assert prune({"label": ["prune"]}).json == {"ContainersDeleted": None, "SpaceReclaimed": 0}
    paused.reload(), waits.reload()
