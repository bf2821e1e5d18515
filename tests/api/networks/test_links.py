"""``--link`` on the default bridge, as Docker has it."""

from __future__ import annotations

from typing import Any

import pytest
from api.containers.conftest import Events, RawApi
from api.networks.conftest import Lab

EXPOSED = {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}, "53/udp": {}}}


def _linked(*links: str) -> dict[str, Any]:
    return {"HostConfig": {"Links": list(links)}}


def _names(api: RawApi, container_id: str) -> list[str]:
    found = [summary for summary in api("GET", "/containers/json?all=1").json if summary["Id"] == container_id]
    return list(found[0]["Names"])


def test_a_linked_container_is_known_by_its_alias(lab: Lab, api: RawApi) -> None:
    db = lab.start("db", lab.serve(80, "eighty"), Hostname="dbhost", **EXPOSED)
    inspected = lab.inspect(db)
    address, db_id = lab.address(db), inspected["Id"]
    web = lab.start("web", **_linked(f"{db}:data", f"/{db}:/x/other", db, f"{db_id[:12]}:by-id", f"{db}:data"))

    wanted = {f"/{db}:/{web}/{alias}" for alias in ("data", "other", db, "by-id")}
    assert set(lab.inspect(web)["HostConfig"]["Links"]) == wanted
    assert _names(api, db_id) == sorted([f"/{db}", *(f"/{web}/{alias}" for alias in ("data", "other", db, "by-id"))])
    assert _names(api, lab.inspect(web)["Id"]) == [f"/{web}"]
    assert set(lab.hosts(web)[:-1]) == {
        f"{address} data dbhost {db}",
        f"{address} other dbhost {db}",
        f"{address} {db} dbhost",
        f"{address} by-id dbhost {db}",
    }
    lab.eventually_reaches(web, "data", 80, "eighty")
    # The link's name is the container's, wherever one is asked for.
    assert lab.inspect(f"{web}/data")["Id"] == db_id
    assert api("POST", f"/containers/{web}/data/restart?t=0").status == 204


@pytest.mark.kitepy
def test_variables_tell_of_linked_containers(lab: Lab) -> None:
    """Docker 28.4 and later do so only with DOCKER_KEEP_DEPRECATED_LEGACY_LINKS_ENV_VARS=1."""
    db = lab.start("db", Env=["SECRET=x y", "PATH=/bin", "HOME=/h"], **EXPOSED)
    address = lab.address(db)
    web = lab.start("web", "env >/told; exec sleep 600", Env=["OUR_DB_NAME=mine"], **_linked(f"{db}:our-db"))
    told = {line for line in lab.sh(web, "cat /told").splitlines() if line.startswith("OUR_DB")}
    url = f"tcp://{address}"
    ports = {
        f"OUR_DB_PORT_{port}_{kind}{end}={value}"
        for port, kind, protocol in ((80, "TCP", "tcp"), (81, "TCP", "tcp"), (53, "UDP", "udp"))
        for end, value in (
            ("", f"{protocol}://{address}:{port}"),
            ("_ADDR", address),
            ("_PORT", port),
            ("_PROTO", protocol),
        )
    }
    assert told == ports | {
        f"OUR_DB_PORT={url}:80",
        f"OUR_DB_PORT_80_TCP_START={url}:80",
        "OUR_DB_PORT_80_TCP_PORT_START=80",
        f"OUR_DB_PORT_80_TCP_END={url}:81",
        "OUR_DB_PORT_80_TCP_PORT_END=81",
        "OUR_DB_NAME=mine",  # the user's own wins
        "OUR_DB_ENV_SECRET=x y",
    }
    assert f"OUR_DB_PORT={url}:80" in lab.sh(web, "env").splitlines(), "exec has them, too"


def test_links_follow_a_container_that_restarts(lab: Lab, api: RawApi, events: Events) -> None:
    db = lab.start("db", **EXPOSED)
    db_id = lab.inspect(db)["Id"]
    web = lab.start("web", **_linked(f"{db}:data"))
    before = lab.address(db)
    assert lab.hosts(web)[0] == f"{before} data {db_id[:12]} {db}"
    lab.stop(db)
    lab.start("other")  # may get the address
    assert api("POST", f"/containers/{db}/start").status == 204
    assert lab.hosts(web)[0] == f"{lab.address(db)} data {db_id[:12]} {db}"
    assert len(lab.hosts(web)) == 2

    renamed = lab.name("renamed")
    assert api("POST", f"/containers/{db}/rename?name={renamed}").status == 204
    assert lab.inspect(web)["HostConfig"]["Links"] == [f"/{renamed}:/{web}/data"]
    assert _names(api, db_id) == sorted([f"/{renamed}", f"/{web}/data"])
    try:
        assert api("POST", f"/containers/{web}/restart?t=0").status == 204
        sharing = lab.start("sharing", HostConfig={"NetworkMode": f"container:{web}"})
        assert lab.hosts(sharing)[0] == f"{lab.address(renamed)} data {db_id[:12]} {renamed}"
    finally:
        assert api("DELETE", f"/containers/{renamed}?force=1").status == 204
    assert "link" not in events.actions(db_id)


def test_a_link_is_removed_without_the_container(lab: Lab, api: RawApi) -> None:
    db = lab.start("db", **EXPOSED)
    web = lab.start("web", **_linked(f"{db}:one"))
    db_id = lab.inspect(db)["Id"]
    for name in (f"{web}/nothing", f"{db}x/one"):
        answer = api("DELETE", f"/containers/{name}?link=1")
        assert (answer.status, answer.message) == (404, f"No such container: {name}")
    assert api("DELETE", f"/containers/{web}?link=1").status in (409, 500)
    assert api("DELETE", f"/containers/{web}/one?link=1").status == 204
    assert not lab.inspect(web)["HostConfig"]["Links"]
    assert len(lab.hosts(web)) == 1
    assert _names(api, db_id) == [f"/{db}"]
    assert lab.inspect(db)["State"]["Running"]


def test_what_can_not_be_linked_is_refused(lab: Lab, api: RawApi) -> None:
    db = lab.start("db")
    host, none = lab.name("host"), lab.name("none")
    assert lab.create("host", HostConfig={"NetworkMode": "host"}).status == 201
    lab.start("none", HostConfig={"NetworkMode": "none"})
    shared = lab.start("shared", HostConfig={"NetworkMode": f"container:{db}"})
    together = "This would result in undefined behavior"
    no_host = f"conflicting options: host type networking can't be used with links. {together}"
    for links, mode, status, words in (
        (["nobody:x"], "bridge", 400, "could not get container for nobody: No such container: nobody"),
        ([":x"], "bridge", 400, 'could not get container for : invalid name or ID supplied: ""'),
        (["a:b:c"], "bridge", 500, "bad format for links: a:b:c"),
        ([""], "bridge", 500, "empty string specified for links"),
        ([f"{host}:x"], "bridge", 400, no_host),
        ([f"{db}:x"], "host", 400, no_host),
        (
            [f"{db}:x"],
            f"container:{db}",
            400,
            f"conflicting options: container type network can't be used with links. {together}",
        ),
    ):
        answer = lab.create("web", HostConfig={"Links": links, "NetworkMode": mode})
        assert (answer.status, answer.message) == (status, words), links
        assert api("GET", f"/containers/{lab.name('web')}/json").status == 404

    # Where another's network is shared, the link leads there; without the bridge it has no effect.
    web = lab.start("web", **_linked(f"{shared}:x"))
    assert lab.inspect(web)["HostConfig"]["Links"] == [f"/{db}:/{web}/x"]
    alone = lab.start("alone", HostConfig={"NetworkMode": "none", "Links": [f"{db}:x"]})
    assert lab.hosts(alone) == []

    for target, words in (
        (none, f"container {lab.inspect(none)['Id']} not attached to default bridge network"),
        (host, None),
    ):
        if words:
            assert lab.create("late", **_linked(f"{target}:x")).status == 201
            answer = api("POST", f"/containers/{lab.name('late')}/start")
            assert (answer.status, answer.message) == (500, words)


def test_a_linked_container_has_to_run(lab: Lab, api: RawApi) -> None:
    db, web = lab.name("db"), lab.name("web")
    assert lab.create("db").status == 201
    assert lab.create("web", **_linked(f"{db}:data")).status == 201
    words = f"Cannot link to a non running container: /{db} AS /{web}/data"
    answer = api("POST", f"/containers/{web}/start")
    assert (answer.status, answer.message) == (500, words)
    state = lab.inspect(web)["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, words)
    for name in (db, web):
        assert api("POST", f"/containers/{name}/start").status == 204
    lab.stop(db)
    answer = api("POST", f"/containers/{web}/restart?t=0")
    assert (answer.status, answer.message) == (500, f"Cannot restart container {web}: {words}")
    assert api("DELETE", f"/containers/{db}").status == 204
    assert lab.inspect(web)["HostConfig"]["Links"] == [f"/{db}:/{web}/data"]
    assert api("POST", f"/containers/{web}/start").message == words, "another of that name would not be meant either"


@pytest.mark.kitepy
def test_an_alias_is_one_word(lab: Lab) -> None:
    """With Docker it can be further names, and lines, of /etc/hosts."""
    db = lab.start("db")
    for alias in ("x\n10.9.9.9 bank.example", "x y", "x#", "../x"):
        assert lab.create("web", **_linked(f"{db}:{alias}")).status == 400


@pytest.mark.kitepy
def test_exec_works_while_a_linked_container_does_not_run(lab: Lab, api: RawApi) -> None:
    """Docker refuses it, and leaves a removed container's name in the file."""
    db = lab.start("db")
    web = lab.start("web", **_linked(f"{db}:data"))
    lab.sh(web, "echo '10.9.9.9 own' >>/etc/hosts")
    lab.stop(db)
    assert [line.split()[1] for line in lab.hosts(web)] == ["data", lab.inspect(web)["Id"][:12], "own"]
    assert api("DELETE", f"/containers/{db}").status == 204
    assert [line.split()[1] for line in lab.hosts(web)] == [lab.inspect(web)["Id"][:12], "own"]
