"""The smaller list of checks for an engine that root starts; pure, as ``checks``."""

from __future__ import annotations

from kitepy.engine.rootless import remedies
from kitepy.engine.rootless.checks import OLDEST_KERNEL, space
from kitepy.engine.rootless.facts import Facts
from kitepy.engine.rootless.findings import Finding, Fix, Severity, fine


def check_for_root(facts: Facts) -> list[Finding]:
    """Kernel, overlay, network, control groups, room."""
    return [_kernel(facts), _overlay(facts), _network(facts), _limits(facts), space(facts)]


def _kernel(facts: Facts) -> Finding:
    version = ".".join(map(str, facts.kernel))
    if facts.kernel >= OLDEST_KERNEL:
        return fine("kernel", f"Linux {version}.")
    return Finding(
        "kernel",
        Severity.BLOCKS,
        f"This machine's Linux {version} is too old; Kitepy needs {'.'.join(map(str, OLDEST_KERNEL))} or newer.",
        "System calls are missing that containers are set up with, among them the one for mapped mounts.",
        (Fix("uname -r", "Upgrade the distribution, or install a newer kernel of it, and restart the machine."),),
    )


def _overlay(facts: Facts) -> Finding:
    complaint = facts.data_root_complaint or facts.namespaces.overlay or facts.namespaces.others
    if not complaint:
        return fine("overlay", f"Layers can be stacked in {facts.data_root} ({facts.file_system}).")
    return Finding(
        "overlay",
        Severity.BLOCKS,
        f"Layers can't be stacked in {facts.data_root}, {facts.file_system} ({complaint}).",
        "Images consist of layers on top of each other; without that no container can run.",
        (remedies.modules("overlay"), Fix("findmnt -T /var/lib", "Or choose a place on ext4, xfs or btrfs: --data-root.")),
    )


def _network(facts: Facts) -> Finding:
    probe = facts.namespaces
    meaning = "Each container is connected to a bridge and published by rules. Without them the engine can't start."
    if not probe.rules_library:
        fix = remedies.install("libnftables", facts.package_tool)
        return Finding("network", Severity.BLOCKS, "The library libnftables is not installed.", meaning, (fix,))
    if probe.bridge or probe.rules:
        fix = remedies.modules("bridge", "veth", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct")
        text = f"The kernel makes no bridge or takes no nftables rules ({probe.bridge or probe.rules})."
        return Finding("network", Severity.BLOCKS, text, meaning, (fix,))
    return fine("network", "Bridges and nftables rules work.")


def _limits(facts: Facts) -> Finding:
    missing = {"cpu", "memory", "pids"} - facts.cgroups.controllers
    if facts.cgroups.version and not missing:
        return fine("limits", f"Memory, CPU and process limits work (control groups version {facts.cgroups.version}).")
    what = f"the controllers {', '.join(sorted(missing))}" if facts.cgroups.version else "any control groups"
    return Finding(
        "limits",
        Severity.DEGRADES,
        f"This machine is started without {what}.",
        "Containers run, but limits that need them are refused.",
        (Fix("cat /proc/cgroups /proc/cmdline", "Memory: remove cgroup_disable=memory from the kernel's command line."),),
    )
