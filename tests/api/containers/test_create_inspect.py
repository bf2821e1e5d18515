"""What inspect shows of what create was asked for: defaults, normalised values, null against empty against absent."""

from __future__ import annotations

from typing import Any

import pytest
from support.creating import created, started

ABSENT = "<absent>"


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return ABSENT
        document = document[name]
    return document


def _host(**options: Any) -> dict[str, Any]:
    return {"HostConfig": options}


SHOWN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {},
        {
            "Config.Labels": {},
            "Config.OnBuild": None,
            "Config.Volumes": None,
            "Config.ExposedPorts": ABSENT,
            "Config.Healthcheck": ABSENT,
            "Config.StopSignal": ABSENT,
            "Config.StopTimeout": ABSENT,
            "Config.MacAddress": ABSENT,
            "HostConfig.ConsoleSize": [0, 0],
            "HostConfig.Init": ABSENT,
            "HostConfig.LogConfig": {"Type": "json-file", "Config": {}},
            "HostConfig.NetworkMode": "bridge",
            "HostConfig.RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "HostConfig.ShmSize": 64 * 2**20,
            "HostConfig.IpcMode": "private",
            "HostConfig.PidMode": "",
            "HostConfig.UsernsMode": "",
            "HostConfig.Binds": None,
            "HostConfig.Mounts": ABSENT,
            "HostConfig.Tmpfs": ABSENT,
            "HostConfig.Sysctls": ABSENT,
            "HostConfig.Annotations": ABSENT,
            "HostConfig.PidsLimit": None,
            "HostConfig.OomKillDisable": False,
            "HostConfig.MemorySwappiness": None,
            "HostConfig.ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "ExecIDs": None,
            "Mounts": [],
            "Platform": "linux",
            "ResolvConfPath": "",
            "HostnamePath": "",
            "HostsPath": "",
            "LogPath": "",
            "State.StartedAt": "0001-01-01T00:00:00Z",
            "State.Health": ABSENT,
            "NetworkSettings.SandboxKey": "",
            "NetworkSettings.Ports": {},
            "NetworkSettings.Networks.bridge.NetworkID": "",
        },
    ),
    ({"Healthcheck": {}}, {"Config.Healthcheck": {}}),
    ({"Healthcheck": {"Test": []}}, {"Config.Healthcheck": {}}),
    ({"OnBuild": ["RUN x"]}, {"Config.OnBuild": ["RUN x"]}),
    ({"StopTimeout": 0}, {"Config.StopTimeout": 0}),
    ({"StopTimeout": -5}, {"Config.StopTimeout": -5}),
    ({"WorkingDir": "/a/../b//c/"}, {"Config.WorkingDir": "/b/c"}),
    ({"Cmd": [""]}, {"Path": "", "Args": []}),
    ({"Cmd": "one two"}, {"Config.Cmd": ["one two"], "Path": "one two"}),
    ({"ExposedPorts": {"80": {}, "any-text": {}}}, {"Config.ExposedPorts": {"80": {}, "any-text": {}}}),
    ({"Hostname": "-UPPER_case.é"}, {"Config.Hostname": "-UPPER_case.é"}),
    (_host(PidsLimit=0), {"HostConfig.PidsLimit": None}),
    (_host(PidsLimit=-1), {"HostConfig.PidsLimit": None}),
    (_host(Memory=2**26), {"HostConfig.MemorySwap": 2**27}),
    (_host(Links=[]), {"HostConfig.Links": None}),
    (_host(Init=False), {"HostConfig.Init": False}),
    (_host(MaskedPaths=[], ReadonlyPaths=["/x"]), {"HostConfig.MaskedPaths": [], "HostConfig.ReadonlyPaths": ["/x"]}),
    (_host(ConsoleSize=[24]), {"HostConfig.ConsoleSize": [24, 0]}),
    (_host(ConsoleSize=[24, 80, 7]), {"HostConfig.ConsoleSize": [24, 80]}),
    (_host(PortBindings={"80/tcp": [None]}), {"HostConfig.PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": ""}]}}),
    (_host(NetworkMode="default"), {"HostConfig.NetworkMode": "bridge"}),
    (_host(NetworkMode="nowhere"), {"HostConfig.NetworkMode": "nowhere", "NetworkSettings.Networks.nowhere.IPAddress": ""}),
    (_host(NetworkMode="container:nobody"), {"NetworkSettings.Networks": {}}),
    (_host(IpcMode="host"), {"HostConfig.SecurityOpt": ["label=disable"]}),
    (_host(PidMode="host", SecurityOpt=["label=disable"]), {"HostConfig.SecurityOpt": ["label=disable"]}),
    (_host(Annotations={"a": "b"}), {"HostConfig.Annotations": {"a": "b"}}),
    (_host(CpuCount=1), {"HostConfig.CpuCount": 1}),
    (_host(Cgroup="x"), {"HostConfig.Cgroup": "x"}),
    (_host(CgroupParent="a/b"), {"HostConfig.CgroupParent": "a/b"}),
    (_host(Tmpfs={"/t": "size=1m"}), {"HostConfig.Tmpfs": {"/t": "size=1m"}, "Mounts": []}),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"GwPriority": 5, "DriverOpts": {"x": "y"}, "IPAMConfig": {}}}}},
        {
            "NetworkSettings.Networks.bridge.GwPriority": 5,
            "NetworkSettings.Networks.bridge.DriverOpts": {"x": "y"},
            "NetworkSettings.Networks.bridge.IPAMConfig": {},
        },
    ),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:42:AC:11:00:0A"}}}},
        {
            "Config.MacAddress": "02:42:AC:11:00:0A",
            "NetworkSettings.MacAddress": "02:42:AC:11:00:0A",
            "NetworkSettings.Networks.bridge.MacAddress": "02:42:AC:11:00:0A",
        },
    ),
    ({"NetworkingConfig": {"EndpointsConfig": {"none": {}}}}, {"NetworkSettings.Networks.none.IPAddress": ""}),
    ({"NetworkDisabled": True}, {"Config.NetworkDisabled": True, "NetworkSettings.Networks": {}}),
]


@pytest.mark.parametrize(("body", "shown"), SHOWN, ids=[str(row[0])[:70] for row in SHOWN])
def test_inspect_shows(api: Any, busybox: str, body: dict[str, Any], shown: dict[str, Any]) -> None:
    with created(api, {"Image": busybox, **body}) as made:
        assert {path: _at(made.document, path) for path in shown} == shown


@pytest.mark.needs("limits")  # a privileged container can't be made by an ordinary user's engine
def test_a_privileged_container_has_no_protected_paths(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, **_host(Privileged=True)}) as made:
        host = made.document["HostConfig"]
        assert (host["MaskedPaths"], host["ReadonlyPaths"], host["SecurityOpt"]) == (None, None, ["label=disable"])


def test_mounts_are_listed_but_for_the_short_form_of_tmpfs(api: Any, busybox: str) -> None:
    mounts = [
        {"Type": "tmpfs", "Target": "/a", "ReadOnly": True, "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o700}},
        {"Type": "volume", "Target": "/b"},
        {"Type": "bind", "Source": "/tmp", "Target": "/c", "ReadOnly": True},
    ]
    with created(api, {"Image": busybox, **_host(Mounts=mounts, Tmpfs={"/d": ""}, Binds=["/tmp:/e:ro"])}) as made:
        found = {mount["Destination"]: mount for mount in made.document["Mounts"]}
    assert sorted(found) == ["/a", "/b", "/c", "/e"]
    assert found["/a"] == {"Type": "tmpfs", "Source": "", "Destination": "/a", "Mode": "", "RW": False, "Propagation": ""}
    assert (found["/b"]["Driver"], found["/b"]["Mode"], found["/b"]["RW"]) == ("local", "z", True)
    assert found["/c"] == {
        **{"Type": "bind", "Source": "/tmp", "Destination": "/c", "Mode": "", "RW": False, "Propagation": "rprivate"}
    }
    assert found["/e"]["Mode"] == "ro"


def test_the_hosts_root_is_mounted_as_a_slave(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, **_host(Binds=["/:/host"])}) as made:
        assert made.document["Mounts"][0]["Propagation"] == "rslave"
    answer = api("POST", "/containers/create", {"Image": busybox, **_host(Binds=["/:/host:rprivate"])})
    assert answer.status == 400
    assert 'must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root' in answer.message


def test_a_container_of_no_image_can_be_made_but_not_run(api: Any) -> None:
    with created(api, {"Cmd": ["true"]}) as made:
        assert (made.document["Image"], made.document["Config"]["Image"]) == ("", "")
        answer = api("POST", f"/containers/{made.id}/start")
        assert answer.status == 400
        assert "executable file not found" in answer.message


def test_a_running_container_shows_its_files_and_its_network(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "Cmd": ["sleep", "60"]}) as made:
        shown = started(api, made)
        assert shown["LogPath"].endswith(f"{made.id}/{made.id}-json.log")
        for key, name in (("ResolvConfPath", "resolv.conf"), ("HostnamePath", "hostname"), ("HostsPath", "hosts")):
            assert shown[key].endswith(f"{made.id}/{name}")
        settings = shown["NetworkSettings"]
        bridge = settings["Networks"]["bridge"]
        assert len(bridge["NetworkID"]) == len(bridge["EndpointID"]) == len(settings["SandboxID"]) == 64
        for key in ("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress"):
            assert settings[key] == bridge[key] != ""
        assert settings["SandboxKey"]
        api("POST", f"/containers/{made.id}/kill")
        api("POST", f"/containers/{made.id}/wait")
        ended = api("GET", f"/containers/{made.id}/json").json
        assert ended["LogPath"] == shown["LogPath"]
        assert ended["NetworkSettings"]["Networks"]["bridge"]["NetworkID"] == bridge["NetworkID"]
        assert (ended["NetworkSettings"]["SandboxKey"], ended["NetworkSettings"]["IPAddress"]) == ("", "")


def test_a_start_that_failed_shows_how_far_it_came(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "Cmd": ["/not/there"]}) as made:
        assert api("POST", f"/containers/{made.id}/start").status == 400
        shown = api("GET", f"/containers/{made.id}/json").json
        assert (shown["State"]["ExitCode"], shown["State"]["Status"]) == (127, "created")
        assert shown["HostnamePath"].endswith("/hostname")
        assert shown["LogPath"].endswith("-json.log")
    with created(api, {"Image": busybox, "Cmd": ["true"], "User": "nobody-here"}) as made:
        assert api("POST", f"/containers/{made.id}/start").status in (400, 500)  # a peer says 500
        shown = api("GET", f"/containers/{made.id}/json").json
        assert (shown["LogPath"], shown["State"]["Status"]) == ("", "created")


@pytest.mark.parametrize("mac", ["02:42:ac:11:00:7a", "02-42-AC-11-00-7A", "0242.ac11.007a"])
def test_a_mac_address_is_that_of_the_interface(api: Any, busybox: str, mac: str) -> None:
    body = {"Image": busybox, "Cmd": ["sleep", "60"], "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": mac}}}}
    with created(api, body) as made:
        assert started(api, made)["NetworkSettings"]["MacAddress"] == "02:42:ac:11:00:7a"


def test_the_old_field_for_a_mac_address_is_warned_of(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "MacAddress": "02:42:ac:11:00:7b"}) as made:
        assert made.warnings == [
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
        ]
        assert made.document["NetworkSettings"]["Networks"]["bridge"]["MacAddress"] == "02:42:ac:11:00:7b"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (_host(NetworkMode="nowhere"), 404, "failed to set up container networking: network nowhere not found"),
        (
            _host(IpcMode="private", NetworkMode="container:nobody"),
            500,
            "joining network namespace of container: No such container",
        ),
        (
            {"NetworkingConfig": {"EndpointsConfig": {"host": {}}}},
            400,
            "cannot connect container to host network - container must be created in host network mode",
        ),
        (
            {"NetworkingConfig": {"EndpointsConfig": {"bridge": {}, "none": {}}}},
            400,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        (
            _host(DeviceRequests=[{"Capabilities": [["gpu"]]}]),
            400,
            'could not select device driver "" with capabilities: [[gpu]]',
        ),
    ],
)
def test_what_is_only_known_at_the_start_is_refused_there(
    api: Any, busybox: str, body: dict[str, Any], status: int, words: str
) -> None:
    with created(api, {"Image": busybox, "Cmd": ["sleep", "60"], **body}) as made:
        answer = api("POST", f"/containers/{made.id}/start")
        assert answer.status in (status, 500)  # a peer calls some of them its own fault
        assert words in answer.message


def test_published_ports_are_warned_of_on_the_hosts_network(api: Any, busybox: str) -> None:
    body = {"Image": busybox, **_host(NetworkMode="host", PortBindings={"80/tcp": [{"HostPort": "80"}]})}
    with created(api, body) as made:
        assert made.warnings == ["Published ports are discarded when using host network mode"]


def test_a_disabled_network_leaves_only_the_loopback(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "Cmd": ["sleep", "60"], "NetworkDisabled": True}) as made:
        shown = started(api, made)
        with open(f"/proc/{shown['State']['Pid']}/net/dev", encoding="ascii") as file:
            assert [line.split(":")[0].strip() for line in file if ":" in line] == ["lo"]
        assert shown["NetworkSettings"]["Networks"] == {}
        assert shown["NetworkSettings"]["IPAddress"] == ""
