"""Which containers a list names, in which order, and what it says of each."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import docker
import pytest
from support.contract import ApiContract

TASK_LABEL = "list-test"


def _list(api: Any, query: str = "all=1", **filters: Any) -> list[dict[str, Any]]:
    """The summaries of this test's containers."""
    wanted = {"label": [TASK_LABEL], **filters}
    if isinstance(filters.get("label"), list):
        wanted["label"] = [TASK_LABEL, *filters["label"]]
    answer = api("GET", f"/containers/json?{query}&filters={quote(json.dumps(wanted))}")
    assert answer.status == 200, answer.body
    return list(answer.json)


def _names(found: list[dict[str, Any]]) -> list[str]:
    return [name.removeprefix("/") for summary in found for name in summary["Names"]]


@pytest.fixture(name="many")
def _many(client: docker.DockerClient, busybox: str, api: Any, until: Any) -> dict[str, Any]:
    """One of each kind, created in the order of their names."""

    def create(name: str, command: list[str] | None = None, labels: dict[str, str] | None = None, **options: Any) -> Any:
        labels = {TASK_LABEL: "", **(labels or {})}
        return client.containers.create(busybox, command or ["sleep", "600"], name=name, labels=labels, **options)

    made = {
        "l1-up": create("l1-up", ["sh", "-c", "sleep 600", "it's", "a\tb"], {"team": "red"}),
        "l2-ports": create("l2-ports", ports={"80/tcp": ("127.0.0.1", None), "81/udp": None}),
        "l3-host": create("l3-host", network_mode="host"),
        "l4-mounts": create("l4-mounts", volumes=["list-volume:/v"], tmpfs={"/t": ""}, network_mode="none"),
        "l5-exited": create("l5-exited", ["sh", "-c", "exit 3"]),
        "l6-done": create("l6-done", ["true"], {"team": "blue"}),
        "l7-created": create("l7-created"),
    }
    for name, container in made.items():
        if name != "l7-created":
            container.start()
    for name in ("l5-exited", "l6-done"):
        made[name].wait()
    until(lambda: len(_list(api, status=["exited"])) == 2)
    return made


RUNNING = ["l4-mounts", "l3-host", "l2-ports", "l1-up"]
ALL = ["l7-created", "l6-done", "l5-exited", *RUNNING]


def test_lists_filters_and_order(many: dict[str, Any], api: Any, client: docker.DockerClient, busybox: str) -> None:
    up = many["l1-up"]
    host_port = client.api.inspect_container("l2-ports")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    bridge_id = client.networks.get("bridge").id
    image_id = client.images.get(busybox).id
    cases: list[tuple[str, dict[str, Any], list[str]]] = [
        ("", {}, RUNNING),
        ("all=1", {}, ALL),
        ("all=0", {}, RUNNING),
        ("limit=2", {}, ALL[:2]),
        ("limit=0", {}, RUNNING),
        ("limit=-1", {}, RUNNING),
        ("all=1&limit=100", {}, ALL),
        ("limit=1", {"status": ["running"]}, RUNNING[:1]),
        ("", {"status": ["exited"]}, ["l6-done", "l5-exited"]),
        ("", {"status": ["created", "running"]}, ["l7-created", *RUNNING]),
        ("", {"exited": ["3"]}, []),
        ("all=1", {"exited": ["3"]}, ["l5-exited"]),
        ("all=1", {"exited": ["0", "3"]}, ["l6-done", "l5-exited"]),
        ("all=1", {"ancestor": ["busybox"]}, ALL),
        ("all=1", {"ancestor": [busybox]}, ALL),
        ("all=1", {"ancestor": [image_id]}, ALL),
        ("all=1", {"ancestor": [image_id[7:19]]}, ALL),
        ("all=1", {"ancestor": ["nothing", "busybox"]}, ALL),
        ("all=1", {"ancestor": ["nothing"]}, []),
        ("all=1", {"before": ["l3-host"]}, ["l2-ports", "l1-up"]),
        ("all=1", {"since": ["l3-host"]}, ALL[:4]),
        ("", {"since": ["l3-host"]}, ["l4-mounts"]),
        ("all=1", {"since": ["l1-up"], "before": ["l4-mounts"]}, ["l3-host", "l2-ports"]),
        ("all=1", {"id": [up.id]}, ["l1-up"]),
        ("all=1", {"id": [up.id[:12]]}, ["l1-up"]),
        ("all=1", {"id": [up.id[1:20]]}, []),
        ("all=1", {"name": ["l1"]}, ["l1-up"]),
        ("all=1", {"name": ["/l1-up"]}, ["l1-up"]),
        ("all=1", {"name": ["^l1-up$", "^/l3-host$"]}, ["l3-host", "l1-up"]),
        ("all=1", {"name": ["1-u"]}, ["l1-up"]),
        ("all=1", {"name": ["L1"]}, []),
        ("all=1", {"name": ["["]}, []),
        ("all=1", {"label": ["team"]}, ["l6-done", "l1-up"]),
        ("all=1", {"label": ["team=red"]}, ["l1-up"]),
        ("all=1", {"label": ["team=red", "other"]}, []),
        ("all=1", {"network": ["host"]}, ["l3-host"]),
        ("all=1", {"network": ["none"]}, ["l4-mounts"]),
        ("all=1", {"network": ["bridge"]}, ["l7-created", "l6-done", "l5-exited", "l2-ports", "l1-up"]),
        ("all=1", {"network": [bridge_id]}, ["l6-done", "l5-exited", "l2-ports", "l1-up"]),
        ("all=1", {"network": [bridge_id[:12]]}, ["l6-done", "l5-exited", "l2-ports", "l1-up"]),
        ("all=1", {"network": ["brid"]}, []),
        ("all=1", {"volume": ["list-volume"]}, ["l4-mounts"]),
        ("all=1", {"volume": ["/v"]}, ["l4-mounts"]),
        ("all=1", {"volume": ["/t"]}, []),
        ("all=1", {"expose": ["80"]}, ["l2-ports"]),
        ("all=1", {"expose": ["70-90/tcp"]}, ["l2-ports"]),
        ("all=1", {"expose": ["81"]}, []),
        ("all=1", {"expose": ["81/udp"]}, ["l2-ports"]),
        ("all=1", {"publish": ["80"]}, []),
        ("all=1", {"publish": [host_port]}, ["l2-ports"]),
        ("all=1", {"publish": ["1024-65535/tcp"]}, ["l2-ports"]),
        ("all=1", {"health": ["none"]}, ALL),
        ("all=1", {"health": ["healthy"]}, []),
        ("all=1", {"is-task": ["true"]}, []),
        ("all=1", {"is-task": ["false"]}, ALL),
        ("all=1", {"isolation": ["default"]}, ALL),
    ]
    wrong = {
        f"{query} {filters}": (found, names)
        for query, filters, names in cases
        if (found := _names(_list(api, query, **filters))) != names
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("filters", "status", "message"),
    [
        ({"colour": ["red"]}, 400, "invalid filter 'colour'"),
        ({"until": ["1h"]}, 400, "invalid filter 'until'"),
        ({"status": ["happy"]}, 400, "must be one of created, running, paused, restarting, removing, exited, dead"),
        ({"health": ["fine"]}, 400, "must be one of none, starting, healthy, unhealthy"),
        ({"exited": ["x"]}, 400, "invalid filter 'exited=x'"),
        ({"is-task": ["maybe"]}, 400, "invalid filter 'is-task=[maybe]'"),
        ({"before": ["nobody"]}, 404, "No such container: nobody"),
        ({"since": ["nobody"]}, 404, "No such container: nobody"),
        ("x", 400, "invalid filter"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(api: Any, filters: Any, status: int, message: str) -> None:
    answer = api("GET", f"/containers/json?all=1&filters={quote(json.dumps(filters))}")
    assert answer.status == status
    assert message in answer.message


@pytest.mark.kitepy
@pytest.mark.parametrize(
    "query", ["limit=x", "filters=%7B%22expose%22%3A%5B%22x%22%5D%7D", "filters=%7B%22publish%22%3A%5B%229-1%22%5D%7D"]
)
def test_numbers_that_are_none_are_refused(api: Any, query: str) -> None:
    assert api("GET", f"/containers/json?{query}").status == 400


def test_a_summary_has_what_a_user_asks_of_a_container(
    many: dict[str, Any], api: Any, contract: ApiContract, busybox: str
) -> None:
    answer = api("GET", "/containers/json?all=1")
    contract.check("GET", "/containers/json", 200, answer.json)
    by_name = {summary["Names"][0]: summary for summary in answer.json}
    up = by_name["/l1-up"]
    assert up["Id"] == many["l1-up"].id
    assert up["Image"] == busybox
    assert up["Command"] == "sh -c 'sleep 600' it's a\tb"
    assert up["State"] == "running"
    assert up["Status"].startswith(("Up ", "Less"))
    assert up["Labels"] == {TASK_LABEL: "", "team": "red"}
    assert up["HostConfig"] == {"NetworkMode": "bridge"}
    network = up["NetworkSettings"]["Networks"]["bridge"]
    assert network["IPAddress"]
    assert len(network["NetworkID"]) == len(network["EndpointID"]) == 64
    assert "SizeRw" not in up
    assert "SizeRootFs" not in up
    created = by_name["/l7-created"]
    assert (created["State"], created["Status"], created["Ports"]) == ("created", "Created", [])
    assert created["NetworkSettings"]["Networks"]["bridge"]["NetworkID"] == ""
    exited = by_name["/l5-exited"]
    assert exited["State"] == "exited"
    assert exited["Status"].startswith("Exited (3) ")
    assert exited["Status"].endswith(" ago")
    (mount,) = by_name["/l4-mounts"]["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"], mount["RW"]) == ("volume", "list-volume", "/v", True)
    ports = {(port["PrivatePort"], port["Type"]): port for port in by_name["/l2-ports"]["Ports"]}
    assert ports[80, "tcp"]["IP"] == "127.0.0.1"
    assert ports[80, "tcp"]["PublicPort"] > 1023


def test_sizes_are_told_on_demand(client: docker.DockerClient, busybox: str, run: Any, api: Any, until: Any) -> None:
    container = run("head -c 100000 /dev/zero > /written; sleep 600", labels={TASK_LABEL: ""})
    image = client.images.get(busybox)

    def sizes() -> Any:
        (summary,) = _list(api, "all=1&size=1")
        return summary if summary.get("SizeRw", 0) >= 100_000 else None

    found = until(sizes)
    assert 100_000 <= found["SizeRw"] < 200_000
    assert found["SizeRootFs"] == found["SizeRw"] + image.attrs["Size"]
    inspected = api("GET", f"/containers/{container.id}/json?size=1").json
    assert (inspected["SizeRw"], inspected["SizeRootFs"]) == (found["SizeRw"], found["SizeRootFs"])


def test_an_image_that_lost_its_name_is_shown_by_its_id(client: docker.DockerClient, busybox: str, api: Any) -> None:
    image = client.images.get(busybox)
    image.tag("list-image", "one")
    container = client.containers.create("list-image:one", ["true"], labels={TASK_LABEL: ""})
    assert _list(api)[0]["Image"] == "list-image:one"
    client.images.remove("list-image:one")
    (summary,) = _list(api)
    assert (summary["Id"], summary["Image"], summary["ImageID"]) == (container.id, image.id, image.id)


def test_health_is_part_of_the_status(run: Any, api: Any, until: Any) -> None:
    run("sleep 600", labels={TASK_LABEL: ""}, healthcheck={"test": ["CMD", "true"], "interval": 200_000_000})
    until(lambda: _list(api, health=["healthy"]))
    (summary,) = _list(api)
    assert summary["Status"].endswith(" (healthy)")


def test_a_new_name_shows_at_once(run: Any, api: Any) -> None:
    container = run("sleep 600", name="list-before", labels={TASK_LABEL: ""})
    assert _names(_list(api)) == ["list-before"]
    container.rename("list-after")
    assert _names(_list(api)) == ["list-after"]
    assert _names(_list(api, name=["list-before"])) == []
    container.kill()
    container.wait()
    assert _names(_list(api, "")) == []
