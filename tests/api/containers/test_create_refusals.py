"""What a create request is refused for, with the status and the words that clients know."""

from __future__ import annotations

from typing import Any

import pytest
from support.creating import DELIBERATE, status_for

pytestmark = pytest.mark.usefixtures("busybox")


def _host(**options: Any) -> dict[str, Any]:
    return {"HostConfig": options}


def _mount(**mount: Any) -> dict[str, Any]:
    return _host(Mounts=[mount])


def _endpoint(name: str = "bridge", **settings: Any) -> dict[str, Any]:
    return {"NetworkingConfig": {"EndpointsConfig": {name: settings}}}


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("no command", {"Image": ""}, 400, "no command specified"),
    ("an image that isn't there", {"Image": "not-there"}, 404, "No such image: not-there"),
    ("a working directory", {"WorkingDir": "x"}, 400, "the working directory 'x' is invalid, it needs to be an absolute path"),
    ("a blank in a host name", {"Hostname": "a b"}, 400, "invalid hostname format"),
    ("a long host name", {"Hostname": "a" * 65}, 400, "invalid hostname format"),
    ("a zero byte in a variable", {"Env": ["A=\0"]}, 400, "NUL"),
    ("a variable without a name", {"Env": ["=x"]}, 400, "invalid environment variable: =x"),
    ("a volume at the root", {"Volumes": {"/": {}}}, 400, "destination can't be '/'"),
    ("a probe's interval", {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 1}}, 400, "Interval in Healthcheck cannot be less"),
    (
        "a probe's retries",
        {"Healthcheck": {"Test": ["CMD", "a"], "Retries": -1}},
        400,
        "Retries in Healthcheck cannot be",
    ),
    # limits
    ("little memory", _host(Memory=1), 400, "Minimum memory limit allowed is 6MB"),
    ("negative memory", _host(Memory=-1), 400, "Minimum memory limit allowed is 6MB"),
    ("little reservation", _host(MemoryReservation=1), 400, "Minimum memory reservation allowed is 6MB"),
    ("swap alone", _host(MemorySwap=2**27), 400, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    ("swap below memory", _host(Memory=2**26, MemorySwap=2**25), 400, "Minimum memoryswap limit should be larger than memory"),
    ("swappiness", _host(MemorySwappiness=101), 400, "Invalid value: 101, valid memory swappiness range is 0-100"),
    ("shares", _host(CpuShares=-1), 400, "invalid CPU shares (-1): value must be a positive integer"),
    ("nano CPUs and a period", _host(NanoCpus=10**9, CpuPeriod=10**5), 400, "Nano CPUs and CPU Period cannot both be set"),
    ("nano CPUs and a quota", _host(NanoCpus=10**9, CpuQuota=5000), 400, "Nano CPUs and CPU Quota cannot both be set"),
    ("a period", _host(CpuPeriod=1), 400, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
    ("a quota", _host(CpuQuota=1), 400, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ("CPU numbers", _host(CpusetCpus="1-0"), 400, "Invalid value 1-0 for cpuset cpus"),
    ("large CPU numbers", _host(CpusetCpus="100000"), 400, "maximum is 8192"),
    ("Windows' input and output", _host(IOMaximumIOps=1), 400, "QoS maximum IOPs configuration is not supported on linux"),
    ("a score", _host(OomScoreAdj=1001), 400, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
    ("shared memory", _host(ShmSize=-1), 400, "SHM size can not be less than 0"),
    # modes
    ("a PID mode", _host(PidMode="mine"), 400, "invalid PID mode: mine"),
    ("an IPC mode", _host(IpcMode="mine"), 400, "invalid IPC mode: mine"),
    ("a UTS mode", _host(UTSMode="mine"), 400, "invalid UTS mode: mine"),
    ("a cgroup mode", _host(CgroupnsMode="mine"), 400, "invalid cgroup namespace mode: mine"),
    ("another's PIDs", _host(PidMode="container:nobody"), 400, "No such container: nobody"),
    ("another's IPC", _host(IpcMode="container:nobody"), 400, "No such container: nobody"),
    ("nobody's network", _host(NetworkMode="container:"), 400, "invalid container format container:<name|id>"),
    ("a name on another's network", {"Hostname": "x", **_host(NetworkMode="container:a")}, 400, "hostname and the network mode"),
    ("resolvers on another's network", _host(NetworkMode="container:a", Dns=["1.1.1.1"]), 400, "dns and the network mode"),
    ("a name of the host's", {"Hostname": "x", **_host(UTSMode="host")}, 400, "hostname and the UTS mode"),
    ("links on the host's network", _host(NetworkMode="host", Links=["a"]), 400, "host type networking can't be used with links"),
    # other options of the host
    ("a runtime", _host(Runtime="kata"), 400, "unknown or invalid runtime name: kata"),
    ("an isolation", _host(Isolation="hyperv"), 400, "invalid isolation (hyperv): linux only supports 'default'"),
    ("a storage option", _host(StorageOpt={"x": "1"}), 400, "Unknown option x"),
    ("a size of the root", _host(StorageOpt={"size": "1g"}), 501, "--storage-opt is supported only for overlay over xfs"),
    ("a capability", _host(CapAdd=["FOO"]), 400, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
    ("a dropped capability", _host(CapDrop=["FOO"]), 400, 'invalid CapDrop: unknown capability: "CAP_FOO"'),
    ("a security option", _host(SecurityOpt=["foo=bar"]), 400, 'invalid --security-opt 2: "foo=bar"'),
    ("a seccomp profile", _host(SecurityOpt=["seccomp=x"]), 400, "Decoding seccomp profile failed"),
    ("a policy", _host(RestartPolicy={"Name": "often"}), 400, "invalid restart policy: unknown policy 'often'"),
    (
        "a policy's count",
        _host(RestartPolicy={"Name": "always", "MaximumRetryCount": 1}),
        400,
        "only be used with 'on-failure'",
    ),
    (
        "removal and restarts",
        _host(AutoRemove=True, RestartPolicy={"Name": "always"}),
        400,
        "can't create 'AutoRemove'",
    ),
    ("an annotation", _host(Annotations={"": "x"}), 400, "the empty string is not permitted as an annotation key"),
    ("an added host", _host(ExtraHosts=["a"]), 400, 'bad format for add-host: "a"'),
    ("an added host's address", _host(ExtraHosts=["a:x"]), 400, 'invalid IP address in add-host: "x"'),
    ("a server that is no address", _host(Dns=["x"]), 400, "x is not an ip address"),
    ("a comment in a resolver option", _host(DnsOptions=["a #b"]), 400, "is not a valid resolver option"),
    ("a bound port", _host(PortBindings={"80/foo": [{}]}), 400, "invalid port specification"),
    ("a port's host port", _host(PortBindings={"80/tcp": [{"HostPort": "x"}]}), 400, "invalid port specification"),
    # mounts
    ("a bind's mode", _host(Binds=["/tmp:/t:foo"]), 400, "invalid mode: foo"),
    ("a bind's path", _host(Binds=["/tmp:t"]), 400, "invalid mount path: 't' mount path must be absolute"),
    ("a volume's name", _host(Binds=["v!:/t"]), 400, 'create v!: "v!" includes invalid characters for a local volume name'),
    ("a volume's short name", _host(Binds=["v:/t"]), 400, "volume name is too short, names should be at least two alphanumeric"),
    ("two mounts at one place", _host(Binds=["/tmp:/t"], Tmpfs={"/t": ""}), 400, "Duplicate mount point: /t"),
    ("a tmpfs at a relative path", _host(Tmpfs={"t": ""}), 400, "invalid mount path: 't' mount path must be absolute"),
    ("an unknown tmpfs option", _host(Tmpfs={"/t": "foo"}), 400, 'invalid tmpfs option "foo"'),
    ("volumes of nobody", _host(VolumesFrom=["nobody"]), 400, "No such container: nobody"),
    ("volumes in a mode", _host(VolumesFrom=["a:foo"]), 400, "invalid mode: foo"),
    ("volumes of nothing", _host(VolumesFrom=[""]), 400, "volumes-from specification cannot be an empty string"),
    ("a volume driver", _host(VolumeDriver="foo", Binds=["vv1:/t"]), 404, 'plugin "foo" not found'),
    ("a mount's type", _mount(Type="foo", Target="/t"), 400, 'invalid mount config for type "foo": mount type unknown'),
    ("a mount's target", _mount(Type="bind", Source="/tmp"), 400, "field Target must not be empty"),
    ("a mount's source", _mount(Type="bind", Target="/t"), 400, "field Source must not be empty"),
    ("a source that isn't there", _mount(Type="bind", Source="/not/there", Target="/t"), 400, "bind source path does not exist"),
    (
        "options of another type",
        _mount(Type="bind", Source="/tmp", Target="/t", TmpfsOptions={}),
        400,
        "TmpfsOptions must not",
    ),
    (
        "a propagation",
        _mount(Type="bind", Source="/tmp", Target="/t", BindOptions={"Propagation": "x"}),
        400,
        "mode: x",
    ),
    ("a part of no volume", _mount(Type="volume", Target="/t", VolumeOptions={"Subpath": "a"}), 400, "must not set Subpath when"),
    (
        "a part outside",
        _mount(Type="volume", Source="vv", Target="/t", VolumeOptions={"Subpath": "../a"}),
        400,
        "relative path",
    ),
    ("an anonymous read-only volume", _mount(Type="volume", Target="/t", ReadOnly=True), 400, "must not set ReadOnly mode when"),
    ("a tmpfs with a source", _mount(Type="tmpfs", Source="x", Target="/t"), 400, "field Source must not be specified"),
    ("a tmpfs option", _mount(Type="tmpfs", Target="/t", TmpfsOptions={"Options": [["uid", "1"]]}), 400, "invalid option: uid"),
    ("a negative size of a tmpfs", _mount(Type="tmpfs", Target="/t", TmpfsOptions={"SizeBytes": -1}), 400, "not be negative"),
    # networks
    (
        "an address on the bridge",
        _endpoint(IPAMConfig={"IPv4Address": "172.17.0.9"}),
        400,
        "on user defined networks only",
    ),
    ("a wrong address", _endpoint(IPAMConfig={"IPv4Address": "x"}), 400, "invalid IPv4 address: x"),
    ("a link-local address", _endpoint(IPAMConfig={"LinkLocalIPs": ["x"]}), 400, "invalid link-local IP address: x"),
    (
        "a name on the bridge",
        _endpoint(Aliases=["a"]),
        400,
        "network-scoped alias is supported only for",
    ),
    ("a MAC address", {"MacAddress": "x"}, 400, "invalid MAC address x"),
    ("an endpoint's MAC address", _endpoint(MacAddress="02:42:ac:11:00"), 400, "invalid MAC address 02:42:ac:11:00"),
    (
        "two MAC addresses",
        {"MacAddress": "02:42:ac:11:00:09", **_endpoint(MacAddress="02:42:ac:11:00:10")},
        400,
        "the container-wide MAC address must match the endpoint-specific MAC address",
    ),
    ("an empty endpoint", {"NetworkingConfig": {"EndpointsConfig": {"bridge": None}}}, 400, "EndpointsConfig is nil"),
]


@pytest.mark.parametrize(("case", "body", "status", "words"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(api: Any, case: str, body: dict[str, Any], status: int, words: str) -> None:
    answer = api("POST", "/containers/create", {"Image": "busybox", **body})
    if answer.status == 201:
        api("DELETE", f"/containers/{answer.json['Id']}?v=1")
    expected = status_for(case, status)
    assert answer.status == expected, answer.body
    if expected == status:
        assert words in answer.message


def test_every_deliberate_difference_is_a_case_here() -> None:
    assert set(DELIBERATE) <= {case for case, *_ in REFUSED}


@pytest.mark.parametrize(
    ("platform", "status", "words"),
    [
        ("linux/arm64", 404, "was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)"),
        ("linux/arm/v7", 404, "does not match the specified platform (linux/arm/v7)"),
        ("windows/amd64", 404, "does not match the specified platform (windows/amd64)"),
        ("foo", 400, '"foo": unknown operating system or architecture'),
        ("a/b/c/d", 400, "cannot parse platform specifier"),
        ("!!", 400, '"!!"'),
    ],
)
def test_an_image_of_another_platform_is_refused(api: Any, busybox: str, platform: str, status: int, words: str) -> None:
    answer = api("POST", f"/containers/create?platform={platform}", {"Image": busybox})
    assert (answer.status, words in answer.message) == (status, True), answer.body


@pytest.mark.parametrize("platform", ["linux/amd64", "linux", "LINUX/x86_64", ""])
def test_the_machines_own_platform_has_several_spellings(api: Any, busybox: str, platform: str) -> None:
    answer = api("POST", f"/containers/create?platform={platform}", {"Image": busybox})
    assert answer.status == 201, answer.body
    api("DELETE", f"/containers/{answer.json['Id']}")
