"""What a create request becomes, and what is refused."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.container_config import (
    ContainerConfig,
    HealthConfig,
    HostConfig,
    LogConfig,
    PortBinding,
    RestartPolicy,
)
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.model.network import PortRequest
from kitepy.engine.model.oci import HealthCheck, ImageConfig
from kitepy.engine.services import container_request as rules
from kitepy.engine.services import request_networking as networks

MEGA = 1024 * 1024


# --- image and request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_entrypoint", "image_cmd", "entrypoint", "cmd", "argv"),
    [
        (None, ("sh",), None, None, ["sh"]),
        (None, ("sh",), None, ["ls"], ["ls"]),
        (None, ("sh",), None, [], ["sh"]),
        (("app",), None, None, None, ["app"]),
        (("app",), ("-v",), None, None, ["app", "-v"]),
        (("app",), ("-v",), None, ["-h"], ["app", "-h"]),
        (("app",), ("-v",), ["other"], None, ["other"]),
        (("app",), ("-v",), ["other"], ["-x"], ["other", "-x"]),
        (("app",), ("-v",), [], None, ["-v"]),
        (("app",), ("-v",), [""], ["ls"], ["ls"]),
        (None, None, None, ["ls"], ["ls"]),
        (None, None, ["ls"], None, ["ls"]),
    ],
)
def test_entrypoint_and_command_follow_dockers_matrix(
    image_entrypoint: tuple[str, ...] | None,
    image_cmd: tuple[str, ...] | None,
    entrypoint: list[str] | None,
    cmd: list[str] | None,
    argv: list[str],
) -> None:
    image = ImageConfig(entrypoint=image_entrypoint, cmd=image_cmd)
    merged = rules.merge_image(ContainerConfig(entrypoint=entrypoint, cmd=cmd), image)
    assert [*(merged.entrypoint or ()), *(merged.cmd or ())] == argv


def test_a_new_entrypoint_drops_the_images_command() -> None:
    merged = rules.merge_image(ContainerConfig(entrypoint=["other"]), ImageConfig(entrypoint=("app",), cmd=("-v",)))
    assert merged.cmd is None


def test_the_users_variables_come_first_and_hide_those_of_the_image() -> None:
    merged = rules.merge_image(ContainerConfig(env=["A=1", "B"]), ImageConfig(env=("A=0", "B=2", "C=3")))
    assert merged.env == ["A=1", "B", "C=3"]


def test_labels_ports_and_volumes_are_united_and_the_request_wins() -> None:
    image = ImageConfig(labels={"a": "image", "b": "image"}, exposed_ports=("80/tcp",), volumes=("/data",))
    merged = rules.merge_image(ContainerConfig(labels={"a": "user"}, exposed_ports={"90/udp": {}}, volumes={"/more": {}}), image)
    assert merged.labels == {"a": "user", "b": "image"}
    assert list(merged.exposed_ports or ()) == ["80/tcp", "90/udp"]
    assert list(merged.volumes or ()) == ["/data", "/more"]


def test_plain_settings_come_from_the_image_unless_the_user_has_others() -> None:
    # The shell's name is only data here.
    image = ImageConfig(user="app", working_dir="/srv", stop_signal="SIGINT", shell=("/bin/bash", "-c"))  # noqa: S604
    merged = rules.merge_image(ContainerConfig(), image)
    assert (merged.user, merged.working_dir, merged.stop_signal, merged.shell) == ("app", "/srv", "SIGINT", ["/bin/bash", "-c"])
    wanted = ContainerConfig(user="0", working_dir="/", stop_signal="9", shell=["sh"], on_build=["RUN x"])  # noqa: S604  # data
    merged = rules.merge_image(wanted, image)
    assert (merged.user, merged.working_dir, merged.stop_signal, merged.shell) == ("0", "/", "9", ["sh"])
    assert merged.on_build == ["RUN x"]


def test_a_health_check_inherits_field_by_field() -> None:
    image = ImageConfig(healthcheck=HealthCheck(("CMD", "probe"), interval_ns=5, timeout_ns=6, start_period_ns=7, retries=8))
    merged = rules.merge_image(ContainerConfig(healthcheck=HealthConfig(timeout=60, start_interval=9)), image).healthcheck
    assert merged == HealthConfig(test=["CMD", "probe"], interval=5, timeout=60, start_period=7, start_interval=9, retries=8)


def test_a_health_check_can_be_replaced_or_switched_off() -> None:
    image = ImageConfig(healthcheck=HealthCheck(("CMD", "probe"), interval_ns=5))
    own = rules.merge_image(ContainerConfig(healthcheck=HealthConfig(test=["CMD-SHELL", "x"])), image).healthcheck
    assert own == HealthConfig(test=["CMD-SHELL", "x"], interval=5)
    off = HealthConfig(test=["NONE"])
    merged = rules.merge_image(ContainerConfig(healthcheck=off), image).healthcheck
    assert merged == HealthConfig(test=["NONE"], interval=5)
    assert rules.merge_image(ContainerConfig(), ImageConfig()).healthcheck is None


# --- defaults --------------------------------------------------------------------------------------------------------


def test_defaults_are_those_that_inspect_shows() -> None:
    host = rules.fill_host_config(HostConfig())
    assert host.log_config == LogConfig(type="json-file", config={})
    assert host.restart_policy == RestartPolicy(name="no")
    assert (host.network_mode, host.ipc_mode, host.cgroupns_mode) == ("bridge", "private", "private")
    assert host.shm_size == 64 * MEGA
    assert "/proc/kcore" in (host.masked_paths or ())
    assert "/proc/sysrq-trigger" in (host.readonly_paths or ())


def test_the_swappiness_that_means_not_given_is_not_kept() -> None:
    assert rules.fill_host_config(HostConfig(memory_swappiness=-1)).memory_swappiness is None


def test_lists_that_nobody_sent_stay_null() -> None:
    host = rules.fill_host_config(HostConfig())
    assert host.dns is None
    assert host.devices is None
    assert host.port_bindings is None


@pytest.mark.parametrize("host", [HostConfig(privileged=True), HostConfig(security_opt=["systempaths=unconfined"])])
def test_nothing_is_masked_for_those_who_asked_for_that(host: HostConfig) -> None:
    filled = rules.fill_host_config(host)
    assert not filled.masked_paths
    assert not filled.readonly_paths


def test_own_mask_lists_are_kept() -> None:
    filled = rules.fill_host_config(HostConfig(masked_paths=["/proc/x"], readonly_paths=[]))
    assert filled.masked_paths == ["/proc/x"]
    assert filled.readonly_paths == []


def test_a_memory_limit_allows_the_same_amount_of_swap() -> None:
    assert rules.fill_host_config(HostConfig(memory=64 * MEGA)).memory_swap == 128 * MEGA
    assert rules.fill_host_config(HostConfig(memory=64 * MEGA, memory_swap=-1)).memory_swap == -1
    assert rules.fill_host_config(HostConfig()).memory_swap == 0


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ContainerConfig(), "no command specified"),
        (ContainerConfig(cmd=["a\0b"]), "NUL"),
        (ContainerConfig(cmd=["a"], env=["A=\0"]), "NUL"),
        (ContainerConfig(cmd=["a"], env=["=x"]), "invalid environment variable"),
        (
            ContainerConfig(cmd=["a"], working_dir="tmp"),
            "the working directory 'tmp' is invalid, it needs to be an absolute path",
        ),
        (ContainerConfig(cmd=["a"], hostname="x y"), "invalid hostname format: x y"),
        (ContainerConfig(cmd=["a"], hostname="x" * 65), "invalid hostname format"),
        (ContainerConfig(cmd=["a"], healthcheck=HealthConfig(interval=5)), "Interval in Healthcheck cannot be less than 1ms"),
        (ContainerConfig(cmd=["a"], healthcheck=HealthConfig(start_period=-1)), "StartPeriod in Healthcheck"),
        (ContainerConfig(cmd=["a"], healthcheck=HealthConfig(retries=-1)), "Retries in Healthcheck cannot be negative"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(config: ContainerConfig, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        rules.check_config(config)
    assert words in str(raised.value)


@pytest.mark.parametrize("hostname", ["", "box", "box.example.org", "a-b_c", "1", "-x", "é", "x" * 64])
def test_ordinary_hostnames_pass(hostname: str) -> None:
    rules.check_config(ContainerConfig(cmd=["a"], hostname=hostname))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HostConfig(memory=MEGA), "Minimum memory limit allowed is 6MB"),
        (HostConfig(memory=-1), "Minimum memory limit allowed is 6MB"),
        (HostConfig(memory_reservation=1), "Minimum memory reservation allowed is 6MB"),
        (HostConfig(memory=64 * MEGA, memory_swap=32 * MEGA), "Minimum memoryswap limit should be larger than memory limit"),
        (HostConfig(memory_swap=32 * MEGA), "You should always set the Memory limit when using Memoryswap limit"),
        (HostConfig(memory=64 * MEGA, memory_reservation=65 * MEGA), "can not be less than memory reservation"),
        (HostConfig(memory_swappiness=101), "valid memory swappiness range is 0-100"),
        (HostConfig(nano_cpus=-1), "range of CPUs is from 0.01"),
        (HostConfig(nano_cpus=1, cpu_quota=5000), "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (HostConfig(nano_cpus=1, cpu_period=5000), "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (HostConfig(cpu_shares=-1), "invalid CPU shares (-1): value must be a positive integer"),
        (HostConfig(cpu_realtime_period=5, cpu_realtime_runtime=6), "runtime cannot be higher than cpu real-time period"),
        (HostConfig(cpu_period=10), "CPU cfs period can not be less than 1ms"),
        (HostConfig(cpu_quota=10), "CPU cfs quota can not be less than 1ms"),
        (HostConfig(blkio_weight=5), "Range of blkio weight is from 10 to 1000"),
        (HostConfig(oom_score_adj=1001), "range for oom score adj is [-1000, 1000]"),
        (HostConfig(shm_size=-1), "SHM size can not be less than 0"),
        (HostConfig(cpuset_cpus="a"), "Invalid value a for cpuset cpus"),
        (HostConfig(cpuset_mems="0-"), "for cpuset mems"),
        (HostConfig(restart_policy=RestartPolicy(name="often")), "unknown policy 'often'"),
        (HostConfig(restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=-1)), "cannot be negative"),
        (HostConfig(restart_policy=RestartPolicy(name="always", maximum_retry_count=1)), "can only be used with 'on-failure'"),
        (
            HostConfig(restart_policy=RestartPolicy(name="always"), auto_remove=True),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (HostConfig(cap_drop=["X"]), 'invalid CapDrop: unknown capability: "CAP_X"'),
        (HostConfig(cap_add=["NONSENSE"]), 'invalid CapAdd: unknown capability: "CAP_NONSENSE"'),
        (HostConfig(security_opt=["what"]), 'invalid --security-opt 1: "what"'),
        (HostConfig(security_opt=["seccomp={"]), "Decoding seccomp profile failed"),
        (HostConfig(log_config=LogConfig(type="json-file", config={"x": "1"})), "unknown log opt 'x' for json-file log driver"),
        (HostConfig(port_bindings={"80": [PortBinding(host_port="x")]}), 'invalid port specification: "x"'),
        (HostConfig(sysctls={"a b": "1"}), "invalid sysctl name"),
        (HostConfig(extra_hosts=["nonsense"]), 'bad format for add-host: "nonsense"'),
        (HostConfig(runtime="runsc"), "unknown or invalid runtime name: runsc"),
        (HostConfig(isolation="hyperv"), "invalid isolation (hyperv): linux only supports 'default'"),
        (HostConfig(storage_opt={"x": "1"}), "Unknown option x"),
        (HostConfig(annotations={"": "x"}), "the empty string is not permitted as an annotation key"),
        (HostConfig(io_maximum_iops=1), "QoS maximum IOPs configuration is not supported on linux"),
        (HostConfig(io_maximum_bandwidth=1), "QoS maximum bandwidth configuration is not supported on linux"),
        (HostConfig(cgroup_parent="/a\nb"), "invalid cgroup parent"),
        (HostConfig(pid_mode="container:"), "invalid PID mode"),
        (HostConfig(pid_mode="mine"), "invalid PID mode: mine"),
        (HostConfig(uts_mode="mine"), "invalid UTS mode: mine"),
        (HostConfig(ipc_mode="mine"), "invalid IPC mode: mine"),
        (HostConfig(cgroupns_mode="mine"), "invalid cgroup namespace mode: mine"),
    ],
)
def test_a_host_configuration_that_makes_no_sense_is_refused(host: HostConfig, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        rules.check_host_config(rules.fill_host_config(host))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HostConfig(storage_opt={"size": "1g"}), "--storage-opt is supported only for overlay over xfs"),
        (HostConfig(log_config=LogConfig(type="journald")), "log driver 'journald'"),
    ],
)
def test_what_is_not_built_yet_is_refused_instead_of_ignored(host: HostConfig, words: str) -> None:
    with pytest.raises(Unsupported) as raised:
        rules.check_host_config(rules.fill_host_config(host))
    assert words in str(raised.value)[0].lower() + str(raised.value)[1:] or words in str(raised.value)


def test_the_defaults_pass_without_a_warning() -> None:
    filled = rules.fill_host_config(HostConfig())
    assert rules.check_host_config(filled) == (filled, [])


def test_a_useless_oom_setting_is_warned_about() -> None:
    _, (warning,) = rules.check_host_config(rules.fill_host_config(HostConfig(oom_kill_disable=True)))
    assert "OOM killer is disabled" in warning


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("", "bridge", ""),
        ("default", "bridge", ""),
        ("bridge", "bridge", ""),
        ("host", "host", ""),
        ("none", "none", ""),
        ("container:web", "container", "web"),
        ("front", "named", "front"),
    ],
)
def test_network_modes(text: str, kind: str, target: str) -> None:
    assert networks.parse_network_mode(text) == networks.NetworkMode(kind, target)


def test_sharing_a_network_needs_a_container() -> None:
    with pytest.raises(InvalidParameter, match="invalid container format container:<name"):
        networks.parse_network_mode("container:")


@pytest.mark.parametrize(
    ("config", "host", "words"),
    [
        (ContainerConfig(hostname="x"), HostConfig(), "hostname and the network mode"),
        (ContainerConfig(), HostConfig(publish_all_ports=True), "port publishing and the container type network mode"),
        (ContainerConfig(), HostConfig(port_bindings={"80": [PortBinding()]}), "port publishing"),
        (ContainerConfig(), HostConfig(extra_hosts=["a:1.2.3.4"]), "custom host-to-IP mapping"),
        (ContainerConfig(exposed_ports={"80/tcp": {}}), HostConfig(), "port exposing"),
    ],
)
def test_a_shared_network_has_no_name_or_ports_of_its_own(config: ContainerConfig, host: HostConfig, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        networks.check_network_combination(config, msgspec.structs.replace(host, network_mode="container:web"))
    assert str(raised.value).startswith("conflicting options: ")
    assert words in str(raised.value)


def test_the_hosts_name_cannot_be_changed() -> None:
    with pytest.raises(InvalidParameter, match="hostname and the UTS mode"):
        networks.check_network_combination(ContainerConfig(hostname="x"), HostConfig(uts_mode="host"))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a:1.2.3.4", ("a", "1.2.3.4")),
        ("a:::1", ("a", "::1")),
        ("a:host-gateway", ("a", "host-gateway")),
    ],
)
def test_extra_hosts(text: str, parsed: tuple[str, str]) -> None:
    assert networks.parse_extra_host(text) == parsed


@pytest.mark.parametrize("text", ["", "a", ":1.2.3.4", "a=1.2.3.4", "a\nb:1.2.3.4"])
def test_malformed_extra_hosts_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="bad format for add-host"):
        networks.parse_extra_host(text)


# --- ports -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 65535), st.sampled_from(["", "/tcp", "/udp", "/sctp", "/TCP"]))
def test_a_port_is_a_number_and_a_protocol(number: int, suffix: str) -> None:
    assert networks.parse_port(f"{number}{suffix}") == (number, suffix.lower().strip("/") or "tcp")


@given(st.text() | st.from_regex(r"[-+_ 0-9٣²]{1,8}(/[a-z]{0,4})?", fullmatch=True) | st.just("9" * 5000))
def test_any_text_is_a_port_or_refused(text: str) -> None:
    try:
        number, protocol = networks.parse_port(text)
    except InvalidParameter:
        return
    assert 0 < number < 65536
    assert protocol in networks.PROTOCOLS
    assert text.partition("/")[0].lstrip("0") == str(number)


@given(st.integers(1, 65535), st.integers(1, 65535))
def test_a_host_port_is_one_or_a_range(first: int, last: int) -> None:
    assert networks.parse_host_port(str(first)) == (first, first)
    if first <= last:
        assert networks.parse_host_port(f"{first}-{last}") == (first, last)
    else:
        with pytest.raises(InvalidParameter):
            networks.parse_host_port(f"{first}-{last}")


@given(st.text() | st.from_regex(r"[-+_ 0-9٣²]{1,12}", fullmatch=True) | st.just("9" * 5000))
def test_any_text_is_a_host_port_or_refused(text: str) -> None:
    try:
        found = networks.parse_host_port(text)
    except InvalidParameter:
        return
    if found is not None:
        assert 0 < found[0] <= found[1] < 65536
        assert set(text) <= set("0123456789-")


def test_any_free_port_is_meant_by_nothing_and_zero() -> None:
    assert networks.parse_host_port("") is None
    assert networks.parse_host_port("0") is None


def test_each_binding_is_published_and_all_exposed_ports_on_demand() -> None:
    host = HostConfig(
        port_bindings={"80/tcp": [PortBinding(host_port="8080"), PortBinding(host_ip="127.0.0.1", host_port="8081-8090")]},
        publish_all_ports=True,
    )
    assert networks.requested_ports({"80/tcp": {}, "53/udp": {}}, host) == (
        PortRequest(container_port=80, protocol="tcp", host_ip="", host_port=(8080, 8080)),
        PortRequest(container_port=80, protocol="tcp", host_ip="127.0.0.1", host_port=(8081, 8090)),
        PortRequest(container_port=53, protocol="udp", host_ip="", host_port=None),
    )


def test_exposed_ports_alone_are_not_published() -> None:
    assert networks.requested_ports({"80/tcp": {}}, HostConfig(port_bindings={"81/tcp": None})) == ()
    # As with dockerd: what isn't exposed isn't published.
    assert networks.requested_ports({"81/tcp": {}}, HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="8080")]})) == ()


@given(st.builds(HostConfig, ipc_mode=st.text(max_size=20), pid_mode=st.text(max_size=20), cpuset_cpus=st.text(max_size=9)))
def test_any_words_pass_or_are_refused_as_errors_of_the_request(host: HostConfig) -> None:
    with contextlib.suppress(InvalidParameter, Unsupported):
        rules.check_host_config(rules.fill_host_config(host))


# --- what would forge entries in files of the container ----------------------------------------------------------------

_FORGERIES = ["a\n127.0.0.1 b", "a b", "a\tb", "a\rb", "a#b", "a\0b", "a\x1b[31m", "a\u2028b", "a\x0bb"]


@pytest.mark.parametrize("text", _FORGERIES)
def test_no_value_can_begin_another_line_or_entry(text: str) -> None:
    command = ["x"]
    for config in (ContainerConfig(cmd=command, hostname=text), ContainerConfig(cmd=command, domainname=text)):
        with pytest.raises(InvalidParameter):
            rules.check_config(config)
    hosts = [
        HostConfig(dns=[text]),
        HostConfig(dns=[f"fe80::1%{text}"]),
        HostConfig(dns_search=[text]),
        HostConfig(dns_options=[text]),
        HostConfig(extra_hosts=[f"{text}:10.0.0.1"]),
        HostConfig(extra_hosts=[f"a:10.0.0.1{text}"]),
        HostConfig(extra_hosts=[f"a:fe80::1%{text}"]),
    ]
    for host in hosts:
        with pytest.raises(InvalidParameter):
            rules.check_host_config(rules.fill_host_config(host))


def test_usual_resolver_settings_are_taken() -> None:
    host = HostConfig(
        dns=["10.0.0.1", "fe80::1%eth0"],
        dns_search=["example.com", "."],
        dns_options=["ndots:5", "use-vc", "timeout:1"],
        extra_hosts=["a.example:10.0.0.1", "b:::1", "host.docker.internal:host-gateway"],
    )
    _, warnings = rules.check_host_config(rules.fill_host_config(host))
    assert warnings == []
    rules.check_config(ContainerConfig(cmd=["x"], domainname="example.com"))
