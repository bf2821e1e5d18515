"""docker compose of today and docker-compose 1.29 run projects with networks, names, links and published ports."""

from __future__ import annotations

import docker
import pytest
from clients.test_compose import Compose, _compose, _mine, until  # noqa: F401  # the fixture compose
from support.listening import line_from

PROJECT = """
services:
  db:
    image: box
    command: ["sh", "-c", "while true; do echo db | nc -l -p 5432 >/dev/null; done"]
    networks: {back: {aliases: [database], ipv4_address: 10.233.0.50}}
    expose: ["5432"]
    stop_grace_period: 0s
  app:
    image: box
    init: true
    depends_on: [db]
    links: ["db:store"]
    command: ["sh", "-c", "while true; do echo app | nc -l -p 80 >/dev/null; done"]
    networks: [back, front]
    ports: ["127.0.0.1::80", "8081"]
    extra_hosts: ["printer:10.9.9.9"]
    stop_grace_period: 0s
  web:
    image: box
    command: ["sleep", "600"]
    networks: [front]
    stop_grace_period: 0s
  beside:
    image: box
    command: ["sleep", "600"]
    network_mode: "service:app"
    stop_grace_period: 0s
networks:
  front: {}
  back:
    internal: true
    driver: bridge
    driver_opts: {com.docker.network.driver.mtu: "1400"}
    labels: {tier: back}
    ipam: {config: [{subnet: 10.233.0.0/24, gateway: 10.233.0.1}]}
"""


@pytest.fixture(name="project")
def _project(compose: Compose) -> Compose:
    head = 'version: "2.4"\n' if compose.is_old else ""
    (compose.directory / "docker-compose.yml").write_text(head + PROJECT)
    return compose


def test_a_project_with_networks_goes_up_talks_and_goes_down(project: Compose, client: docker.DockerClient) -> None:
    project.run("up", "-d")
    (db,), (app,) = _mine(client, project, "db"), _mine(client, project, "app")
    front, back = f"{project.name}_front", f"{project.name}_back"
    assert sorted(app.attrs["NetworkSettings"]["Networks"]) == [back, front]
    in_back = db.attrs["NetworkSettings"]["Networks"][back]
    assert in_back["IPAddress"] == "10.233.0.50"
    assert {"db", "database"} <= set(in_back["Aliases"])
    network = client.networks.get(back)
    assert network.attrs["Internal"]
    assert network.attrs["Labels"]["tier"] == "back"
    assert network.attrs["Labels"]["com.docker.compose.network"] == "back"
    assert {container.name for container in network.containers} == {db.name, app.name}

    def inside(service: str, script: str) -> str:
        return str(_mine(client, project, service)[0].exec_run(["sh", "-c", script]).output.decode())

    # 1.29 asks for links in the first network only, which is not that of db.
    store = "database" if project.is_old else "store"
    for name in ("db", "database", store, db.name):
        assert "10.233.0.50" in inside("app", f"nslookup {name}"), name
    assert "10.233.0.50" not in inside("web", "nslookup db"), "web is not in that network"
    until(lambda: inside("app", f"nc -w 2 {store} 5432 </dev/null").strip() == "db")
    until(lambda: inside("web", "nc -w 2 app 80 </dev/null").strip() == "app")
    assert inside("web", "nc -w 1 10.233.0.50 5432 </dev/null 2>/dev/null") == ""
    assert "10.9.9.9\tprinter" in inside("app", "cat /etc/hosts")
    assert inside("beside", "hostname") == inside("app", "hostname")

    address, _, port = project.output("port", "app", "80").partition(":")
    assert address == "127.0.0.1"
    until(lambda: line_from(address, int(port)) == "app")
    assert project.output("port", "app", "8081").startswith("0.0.0.0:")

    done = project.run("run", "--rm", "-T", "--no-deps", "app", "nslookup", "db", check=False)
    assert "10.233.0.50" in done.stdout, "a command of its own is in the project's networks, too"

    if not project.is_old:  # which takes long to start, and does the same
        # A changed service is made anew and takes its place in the network.
        before = {container.id for container in _mine(client, project)}
        project.run("up", "-d")
        assert {container.id for container in _mine(client, project)} == before, "nothing changed"
        project.run("up", "-d", "--force-recreate", "--no-deps", "db")
        until(lambda: inside("app", f"nc -w 2 {store} 5432 </dev/null").strip() == "db")
        project.run("up", "-d", "--scale", "web=3", "web")
        addresses = {found.attrs["NetworkSettings"]["Networks"][front]["IPAddress"] for found in _mine(client, project, "web")}
        assert len(addresses) == 3
        until(lambda: all(found in inside("web", "nslookup web") for found in addresses))

    done = project.run("down", "-t", "0")
    assert not _mine(client, project, all=True), done.stderr
    assert not [network for network in client.networks.list() if network.name.startswith(project.name)]


@pytest.mark.parametrize("compose", ["now"], indirect=True)
def test_a_network_of_elsewhere_is_used_and_stays(project: Compose, client: docker.DockerClient) -> None:
    name = f"{project.name}outer"
    outer = client.networks.create(name, driver="bridge")
    try:
        (project.directory / "docker-compose.yml").write_text(
            ('version: "2.4"\n' if project.is_old else "")
            + "services:\n  one:\n    image: box\n    command: [sleep, '600']\n    stop_grace_period: 0s\n"
            + f"networks:\n  default:\n    name: {name}\n    external: true\n"
        )
        project.run("up", "-d")
        outer.reload()
        assert [container.name for container in outer.containers] == [_mine(client, project, "one")[0].name]
        project.run("down", "-t", "0")
        outer.reload()
        assert outer.containers == []
    finally:
        outer.remove()
