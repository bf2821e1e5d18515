"""From facts of a machine to findings: what blocks, what degrades, and the exact command for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kitepy.engine.rootless.checks import check
from kitepy.engine.rootless.facts import CgroupFacts, Facts, IdFile, NamespaceProbe, Node, RuntimeDirectory, Tool
from kitepy.engine.rootless.findings import Finding, Severity, can_run
from kitepy.engine.rootless.root_checks import check_for_root

GOOD = Facts(
    user="ada",
    uid=1000,
    gids=frozenset({1000}),
    python="/usr/bin/python3.12",
    newuidmap=Tool("/usr/bin/newuidmap"),
    newgidmap=Tool("/usr/bin/newgidmap"),
    subuid=IdFile("ada:100000:65536\n"),
    subgid=IdFile("ada:100000:65536\n"),
    pasta=Tool("/usr/bin/pasta", version="2024_02"),
    cgroups=CgroupFacts(2, frozenset({"cpu", "memory", "pids"})),
    first_user_port=80,
    runtime_directory=RuntimeDirectory("/run/user/1000", "", persists=True),
    data_root="/home/ada/.local/share/kitepy",
)


def found(facts: Facts, check_id: str) -> Finding:
    (finding,) = [finding for finding in check(facts) if finding.id == check_id]
    return finding


def command(finding: Finding) -> str:
    return finding.fixes[0].command


def test_a_good_machine_has_nothing_to_say_but_that_it_is_fine() -> None:
    assert {finding.severity for finding in check(GOOD)} == {Severity.FINE}
    assert can_run(check(GOOD))


def test_whatever_is_not_fine_says_what_it_means_and_what_to_do() -> None:
    bad = Facts(user="ada", uid=1000, ping_groups=(1, 0), tun=Node.DENIED, kernel=(4, 19), subuid=IdFile(None), free_bytes=0)
    poor = [finding for finding in check(bad) if finding.severity is not Severity.FINE]
    assert len(poor) >= 7
    for finding in poor:
        assert finding.meaning.endswith("."), finding
        assert finding.summary.endswith("."), finding
        assert finding.fixes, finding
        assert all(fix.command for fix in finding.fixes), finding


def test_an_old_kernel_is_told_from_which_version_on_it_works() -> None:
    finding = found(replace(GOOD, kernel=(5, 4)), "kernel")
    assert finding.severity is Severity.BLOCKS
    assert "5.4" in finding.summary
    assert "5.12" in finding.summary


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (replace(GOOD, max_user_namespaces=0), "user.max_user_namespaces=28633"),
        (replace(GOOD, userns_clone=0), "kernel.unprivileged_userns_clone=1"),
        (
            replace(GOOD, apparmor_restricts=True),
            'profile kitepy-engine "/usr/bin/python3.12" flags=(unconfined) {\n  userns,\n}',
        ),
    ],
)
def test_the_switch_that_forbids_user_namespaces_is_named_with_its_command(facts: Facts, expected: str) -> None:
    finding = found(replace(facts, namespaces=NamespaceProbe(user="Operation not permitted")), "user-namespaces")
    assert finding.severity is Severity.BLOCKS
    assert expected in command(finding)


def test_ubuntu_s_restriction_shows_where_the_namespace_is_made_but_gives_no_rights() -> None:
    probe = NamespaceProbe(user="", others="Permission denied", proc=None, overlay=None, bridge=None, rules=None)
    finding = found(replace(GOOD, apparmor_restricts=True, namespaces=probe), "user-namespaces")
    assert "AppArmor" in finding.summary
    assert finding.fixes[0].command.endswith("sudo apparmor_parser -r /etc/apparmor.d/kitepy-engine")
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in finding.fixes[1].command
    assert "every program" in finding.fixes[1].about


def test_a_switch_that_does_not_hinder_is_no_finding() -> None:
    assert found(replace(GOOD, apparmor_restricts=True), "user-namespaces").severity is Severity.FINE


def test_a_namespace_refused_for_no_known_reason_still_blocks() -> None:
    finding = found(replace(GOOD, namespaces=NamespaceProbe(user="Operation not permitted")), "user-namespaces")
    assert finding.severity is Severity.BLOCKS
    assert "Operation not permitted" in finding.summary


@pytest.mark.parametrize(
    ("tool", "expected"),
    [("apt", "sudo apt-get install -y uidmap"), ("dnf", "sudo dnf install -y shadow-utils"), ("", "# install newuidmap with")],
)
def test_missing_id_tools_are_installed_by_the_distribution_s_own_tool(tool: str, expected: str) -> None:
    finding = found(replace(GOOD, newuidmap=None, package_tool=tool), "id-tools")
    assert finding.severity is Severity.BLOCKS
    assert command(finding).startswith(expected)


def test_an_id_tool_without_its_rights_gets_them_back() -> None:
    finding = found(replace(GOOD, newgidmap=Tool("/usr/bin/newgidmap", privileged=False)), "id-tools")
    assert finding.severity is Severity.BLOCKS
    assert command(finding) == "sudo chmod u+s /usr/bin/newgidmap"


def test_an_account_without_ids_gets_the_first_range_that_nobody_has_in_either_file() -> None:
    facts = replace(GOOD, subuid=IdFile("bob:100000:65536\n"), subgid=IdFile("bob:165536:65536\n"))
    finding = found(facts, "subordinate-ids")
    assert finding.severity is Severity.BLOCKS
    assert command(finding) == "sudo usermod --add-subuids 231072-296607 --add-subgids 231072-296607 ada"


def test_a_file_that_is_not_there_is_made_first_since_usermod_would_refuse() -> None:
    finding = found(replace(GOOD, subuid=IdFile(None), subgid=IdFile(None)), "subordinate-ids")
    assert command(finding).splitlines() == [
        "sudo touch /etc/subuid /etc/subgid",
        "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada",
    ]


def test_an_account_of_a_directory_service_is_written_into_the_files_since_usermod_does_not_know_it() -> None:
    finding = found(replace(GOOD, in_passwd=False, subuid=IdFile("")), "subordinate-ids")
    assert command(finding) == "echo 'ada:165536:65536' | sudo tee -a /etc/subuid"


def test_ids_by_number_and_in_several_ranges_all_count() -> None:
    text = IdFile("1000:200000:30000\nada:300000:35536\n")
    finding = found(replace(GOOD, subuid=text, subgid=text), "subordinate-ids")
    assert finding.severity is Severity.FINE
    assert "65,536" in finding.summary


def test_too_few_ids_degrade_and_more_are_added_in_the_file_that_lacks_them() -> None:
    finding = found(replace(GOOD, subgid=IdFile("ada:100000:1000\n")), "subordinate-ids")
    assert finding.severity is Severity.DEGRADES
    assert "1,000" in finding.summary
    assert command(finding) == "sudo usermod --add-subgids 165536-231071 ada"


def test_ids_that_somebody_else_has_too_are_exchanged() -> None:
    text = IdFile("ada:100000:65536\nbob:150000:65536\n")
    finding = found(replace(GOOD, subuid=text), "subordinate-ids")
    assert finding.severity is Severity.DEGRADES
    assert "bob" in finding.summary
    assert command(finding).splitlines() == [
        "sudo usermod --del-subuids 100000-165535 ada",
        "sudo usermod --add-subuids 215536-281071 --add-subgids 215536-281071 ada",
    ]


def test_tools_that_refuse_although_all_looks_right_are_quoted() -> None:
    facts = replace(GOOD, namespaces=NamespaceProbe(ids="newuidmap: write to uid_map failed: Operation not permitted"))
    assert "write to uid_map failed" in found(facts, "id-maps").summary
    assert not can_run(check(facts))
    without = replace(facts, newuidmap=None)
    assert "id-maps" not in {finding.id for finding in check(without)}, "the missing tool has said it already"


def test_inside_another_container_a_hidden_proc_is_recognised() -> None:
    facts = replace(GOOD, namespaces=NamespaceProbe(proc="Operation not permitted"))
    assert "another container" in found(facts, "proc").meaning
    assert not can_run(check(facts))


def test_a_home_directory_that_can_t_hold_layers_is_told_by_its_file_system() -> None:
    facts = replace(GOOD, file_system="nfs4", user_xattrs=False, namespaces=NamespaceProbe(overlay="Invalid argument"))
    finding = found(facts, "overlay")
    assert finding.severity is Severity.BLOCKS
    assert "nfs4, which keeps no extended attributes" in finding.summary
    assert "ln -s /var/lib/kitepy-home-1000 '/home/ada/.local/share/kitepy'" in command(finding)


def test_where_the_kernel_refuses_overlay_fuse_overlayfs_helps() -> None:
    facts = replace(GOOD, kernel=(5, 4), namespaces=NamespaceProbe(overlay="Operation not permitted"))
    finding = found(facts, "overlay")
    assert finding.severity is Severity.BLOCKS
    assert "sudo apt-get install -y fuse-overlayfs" in command(finding)
    finding = found(replace(facts, fuse_overlay=Tool("/usr/bin/fuse-overlayfs", version="1.10")), "overlay")
    assert finding.severity is Severity.DEGRADES
    assert "fuse-overlayfs" in finding.meaning


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (NamespaceProbe(rules="No such file or directory"), "sudo modprobe -a nf_tables nft_chain_nat"),
        (NamespaceProbe(bridge="Operation not supported", rules=None), "sudo modprobe -a bridge veth"),
        (NamespaceProbe(rules_library=False), "sudo apt-get install -y libnftables1"),
    ],
)
def test_a_network_that_can_t_be_made_names_the_module_or_library(probe: NamespaceProbe, expected: str) -> None:
    finding = found(replace(GOOD, namespaces=probe), "network")
    assert finding.severity is Severity.BLOCKS
    assert expected in command(finding)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (replace(GOOD, pasta=None), "sudo apt-get install -y passt"),
        (replace(GOOD, tun=Node.MISSING), "sudo modprobe tun"),
        (replace(GOOD, tun=Node.DENIED), "sudo chmod 0666 /dev/net/tun"),
        (replace(GOOD, tun=Node.DENIED), 'KERNEL=="tun", MODE="0666"'),
    ],
)
def test_without_a_way_out_containers_still_run(facts: Facts, expected: str) -> None:
    finding = found(facts, "uplink")
    assert finding.severity is Severity.DEGRADES
    assert expected in command(finding)
    assert can_run(check(facts))


def test_slirp4netns_will_do() -> None:
    finding = found(replace(GOOD, pasta=None, slirp=Tool("/usr/bin/slirp4netns", version="1.2.0")), "uplink")
    assert finding.severity is Severity.FINE
    assert "slirp4netns 1.2.0" in finding.summary


def test_ping_needs_one_of_the_user_s_groups_in_the_range() -> None:
    assert found(replace(GOOD, ping_groups=(100, 2000)), "ping").severity is Severity.FINE
    finding = found(replace(GOOD, ping_groups=(1, 0)), "ping")
    assert finding.severity is Severity.DEGRADES
    assert "net.ipv4.ping_group_range=0 2147483647" in command(finding)


def test_low_ports_are_a_hint_since_every_desktop_has_them_so() -> None:
    finding = found(replace(GOOD, first_user_port=1024), "low-ports")
    assert finding.severity is Severity.HINT
    assert "net.ipv4.ip_unprivileged_port_start=80" in command(finding)


@pytest.mark.parametrize(
    ("cgroups", "severity", "words"),
    [
        (CgroupFacts(1, frozenset({"memory", "cpu", "pids"})), Severity.DEGRADES, "version 1"),
        (CgroupFacts(0), Severity.DEGRADES, "no control groups"),
        (CgroupFacts(2), Severity.DEGRADES, "CPU and memory and process"),
        (CgroupFacts(2, frozenset({"memory", "pids"})), Severity.HINT, "control of CPU use"),
    ],
)
def test_limits_that_can_t_be_set_are_told(cgroups: CgroupFacts, severity: Severity, words: str) -> None:
    finding = found(replace(GOOD, cgroups=cgroups), "limits")
    assert finding.severity is severity
    assert words in finding.summary
    if cgroups.version == 2:
        assert "Delegate=cpu cpuset io memory pids" in command(finding)
        assert "user@.service.d" in command(finding)


def test_a_runtime_directory_of_somebody_else_and_a_missing_lingering_are_told() -> None:
    other = replace(GOOD, runtime_directory=RuntimeDirectory("/run/user/0", "/run/user/0 belongs to root"))
    assert found(other, "runtime-directory").severity is Severity.DEGRADES
    leaving = replace(GOOD, runtime_directory=RuntimeDirectory("/run/user/1000", "", persists=False))
    finding = found(leaving, "runtime-directory")
    assert finding.severity is Severity.HINT
    assert command(finding) == "sudo loginctl enable-linger ada"


def test_a_full_disk_is_told_before_a_build_fails() -> None:
    finding = found(replace(GOOD, free_bytes=1 << 29), "space")
    assert finding.severity is Severity.DEGRADES
    assert "0.5 GiB" in finding.summary


def test_root_is_asked_for_less() -> None:
    root = replace(GOOD, user="root", uid=0, newuidmap=None, newgidmap=None, subuid=IdFile(None), pasta=None, tun=Node.MISSING)
    assert {finding.severity for finding in check_for_root(root)} == {Severity.FINE}
    without = replace(root, namespaces=NamespaceProbe(rules="No such file or directory"))
    assert not can_run(check_for_root(without))
    assert "nf_tables" in next(finding for finding in check_for_root(without) if finding.id == "network").fixes[0].command
