"""Decides from facts what keeps an ordinary user's containers from running, what that means, and which exact commands help.

Pure: ``probes`` finds the facts, ``diagnosis`` prints the result. Each check gives one finding.
"""

from __future__ import annotations

from collections.abc import Callable

from kitepy.engine.rootless import remedies
from kitepy.engine.rootless.facts import Facts, Node
from kitepy.engine.rootless.findings import Finding, Fix, Severity, fine
from kitepy.engine.rootless.id_checks import subordinate_ids

OLDEST_KERNEL = (5, 12)
"""5.11 has overlay in a user namespace, 5.12 has mount_setattr(2)."""
_LITTLE_SPACE_BYTES = 2 << 30
_LIMITS = {"cpu": "CPU", "memory": "memory", "pids": "process"}


def check(facts: Facts) -> list[Finding]:
    """All checks in the order in which they build on each other; what can't be told yet is left out."""
    findings = [one(facts) for one in _CHECKS]
    return [finding for finding in findings if finding is not None]


def kernel(facts: Facts) -> Finding:
    """Which features this kernel has by its version."""
    version = ".".join(map(str, facts.kernel))
    if facts.kernel >= OLDEST_KERNEL:
        return fine("kernel", f"Linux {version}.")
    oldest = ".".join(map(str, OLDEST_KERNEL))
    return Finding(
        "kernel",
        Severity.BLOCKS,
        f"This machine's Linux {version} is too old; containers without administrator rights need {oldest} or newer.",
        "Its overlay file system can't be mounted by an ordinary user, so no image can be used.",
        (Fix("uname -r", "Upgrade the distribution, or install a newer kernel of it, and restart the machine."),),
    )


def user_namespaces(facts: Facts) -> Finding:
    """Whether this user may have namespaces of the own at all; names the switch that forbids it."""
    id_ = "user-namespaces"
    probe = facts.namespaces
    complaint = probe.user or probe.others or ""
    if not complaint:
        return fine(id_, "You may create user namespaces.")
    meaning = "A user namespace lets containers have a root of their own. Without one no container can run."
    if facts.max_user_namespaces == 0:
        fix = remedies.sysctl("user.max_user_namespaces=28633")
        return Finding(id_, Severity.BLOCKS, "This machine is set to allow no user namespaces at all.", meaning, (fix,))
    if facts.userns_clone == 0:
        fix = remedies.sysctl("kernel.unprivileged_userns_clone=1")
        text = "This kernel is set to keep user namespaces from ordinary users (kernel.unprivileged_userns_clone is 0)."
        return Finding(id_, Severity.BLOCKS, text, meaning, (fix,))
    if facts.apparmor_restricts:
        everybody = remedies.sysctl(
            "kernel.apparmor_restrict_unprivileged_userns=0",
            about="Or lift the restriction for every program. A flaw in the kernel is then easier to reach for all of them.",
        )
        text = "AppArmor keeps user namespaces from programs that have no profile, as Ubuntu does since 24.04."
        return Finding(id_, Severity.BLOCKS, text, meaning, (remedies.apparmor_profile(facts.python), everybody))
    look = Fix(
        "sysctl user.max_user_namespaces kernel.unprivileged_userns_clone; grep -s Seccomp: /proc/self/status",
        "If this is a container itself, it has to be started with user namespaces allowed; else a security module forbids them.",
    )
    return Finding(id_, Severity.BLOCKS, f"The kernel gives you no user namespace ({complaint}).", meaning, (look,))


def id_tools(facts: Facts) -> Finding:
    """newuidmap(1) and newgidmap(1), the two programs that may lend subordinate ids."""
    id_ = "id-tools"
    tools = {"newuidmap": facts.newuidmap, "newgidmap": facts.newgidmap}
    meaning = "They lend your account's ids to the users inside containers. Without them no container can run."
    if missing := [name for name, tool in tools.items() if tool is None]:
        fix = remedies.install("newuidmap", facts.package_tool)
        verb = "is" if len(missing) == 1 else "are"
        return Finding(id_, Severity.BLOCKS, f"{' and '.join(missing)} {verb} not installed.", meaning, (fix,))
    if powerless := [tool.path for tool in tools.values() if tool is not None and not tool.privileged]:
        fixes = (Fix(f"sudo chmod u+s {' '.join(powerless)}"), remedies.install("newuidmap", facts.package_tool, again=True))
        text = f"{' and '.join(powerless)} may not change ids: neither the setuid bit nor file capabilities are set."
        return Finding(id_, Severity.BLOCKS, text, meaning, fixes)
    return fine(id_, "newuidmap and newgidmap are installed.")


def id_maps(facts: Facts) -> Finding | None:
    """Whether the two really do what they are for; only worth a word when everything before is in order."""
    complaint = facts.namespaces.ids
    earlier = (user_namespaces(facts), id_tools(facts), subordinate_ids(facts))
    if not complaint or any(finding.severity is Severity.BLOCKS for finding in earlier):
        return None
    return Finding(
        "id-maps",
        Severity.BLOCKS,
        f"Your ids can't be lent to containers: {complaint}.",
        "No image can be unpacked and no container can run.",
        (Fix("grep . /etc/subuid /etc/subgid; ls -l /usr/bin/newuidmap /usr/bin/newgidmap; findmnt -T /usr/bin -o OPTIONS"),),
    )


def proc_mount(facts: Facts) -> Finding | None:
    """The kernel refuses a new /proc where parts of the existing one are covered: inside most containers."""
    if not facts.namespaces.proc:
        return None
    return Finding(
        "proc",
        Severity.BLOCKS,
        f"A container can't get a /proc of its own here ({facts.namespaces.proc}).",
        "Kitepy seems to run inside another container whose /proc is partly hidden. No container can run in it.",
        (
            Fix(
                "docker run --security-opt systempaths=unconfined --security-opt seccomp=unconfined …",
                "Start the outer container with its /proc unmasked, or run Kitepy on the machine itself.",
            ),
        ),
    )


def overlay(facts: Facts) -> Finding | None:
    """Whether layers can be stacked on the file system of the data root."""
    id_ = "overlay"
    if facts.data_root_complaint:
        return Finding(
            id_,
            Severity.BLOCKS,
            f"Nothing can be written to {facts.data_root}, where images and containers are kept: {facts.data_root_complaint}.",
            "No image can be stored.",
            (Fix(f"sudo install -d -o {facts.user} '{facts.data_root}'"),),
        )
    if facts.namespaces.overlay is None:
        return None
    if not facts.namespaces.overlay:
        return fine(id_, f"Layers can be stacked in {facts.data_root} ({facts.file_system}).")
    why = "" if facts.user_xattrs else ", which keeps no extended attributes of users"
    summary = (
        f"Layers can't be stacked on the file system of {facts.data_root}, {facts.file_system}{why} ({facts.namespaces.overlay})."
    )
    move = remedies.move_data_root(facts.data_root, facts.user, facts.uid)
    if facts.user_xattrs and facts.fuse is Node.USABLE and facts.fuse_overlay is not None:
        meaning = "fuse-overlayfs stacks them instead: containers run, but each starts later and a program serves its files."
        return Finding(id_, Severity.DEGRADES, summary, meaning, (move,))
    meaning = (
        "Images consist of layers on top of each other; without that no container can run. Network and encrypted home "
        "directories are the usual reason."
    )
    fixes = (remedies.install("fuse-overlayfs", facts.package_tool), move) if facts.user_xattrs else (move,)
    return Finding(id_, Severity.BLOCKS, summary, meaning, fixes)


def network(facts: Facts) -> Finding | None:
    """Bridges and packet filter rules in a network namespace of the own."""
    id_ = "network"
    probe = facts.namespaces
    meaning = "Each container is connected to a bridge and published by rules. Without them the engine can't start."
    if not probe.rules_library:
        fix = remedies.install("libnftables", facts.package_tool)
        return Finding(id_, Severity.BLOCKS, "The library libnftables is not installed.", meaning, (fix,))
    if probe.bridge is None:
        return None
    if probe.bridge:
        fix = remedies.modules("bridge", "veth")
        return Finding(id_, Severity.BLOCKS, f"The kernel makes no bridge for containers ({probe.bridge}).", meaning, (fix,))
    if probe.rules:
        fix = remedies.modules("nf_tables", "nft_chain_nat", "nft_masq", "nft_ct")
        return Finding(id_, Severity.BLOCKS, f"The kernel takes no nftables rules ({probe.rules}).", meaning, (fix,))
    return fine(id_, "Bridges and nftables rules work.")


def uplink(facts: Facts) -> Finding:
    """The way from containers to other machines: a program and the device that it needs."""
    id_ = "uplink"
    meaning = "Containers run and their published ports work, but they reach no other machine and no internet, nor do builds."
    if facts.pasta is None and facts.slirp is None:
        fix = remedies.install("pasta", facts.package_tool)
        return Finding(id_, Severity.DEGRADES, "Neither pasta nor slirp4netns is installed.", meaning, (fix,))
    if facts.tun is Node.MISSING:
        text = "The device /dev/net/tun is missing: the kernel's module tun isn't loaded."
        return Finding(id_, Severity.DEGRADES, text, meaning, (remedies.load_tun(),))
    if facts.tun is Node.DENIED:
        text = "You may not open the device /dev/net/tun."
        return Finding(id_, Severity.DEGRADES, text, meaning, (remedies.tun_for_everybody(),))
    name, tool = ("pasta", facts.pasta) if facts.pasta is not None else ("slirp4netns", facts.slirp)
    version = f" {tool.version}" if tool is not None and tool.version else ""
    return fine(id_, f"Containers reach other machines through {name}{version}.")


def ping(facts: Facts) -> Finding:
    """ICMP sockets of ordinary users, icmp(7): the program of the uplink needs one."""
    first, last = facts.ping_groups
    if any(first <= gid <= last for gid in facts.gids):
        return fine("ping", "Containers can ping other machines.")
    return Finding(
        "ping",
        Severity.DEGRADES,
        "You may not send pings without administrator rights (net.ipv4.ping_group_range).",
        "ping from a container to other machines gets no answer; everything else works.",
        (remedies.sysctl("net.ipv4.ping_group_range=0 2147483647"),),
    )


def low_ports(facts: Facts) -> Finding:
    """Ports that the kernel keeps for root on the host."""
    if facts.first_user_port <= 80:
        return fine("low-ports", f"Ports from {facts.first_user_port} on can be published.")
    return Finding(
        "low-ports",
        Severity.HINT,
        f"Ports below {facts.first_user_port} can't be published; the kernel keeps them for root.",
        "Publish another one, as in -p 8080:80.",
        (
            remedies.sysctl(
                "net.ipv4.ip_unprivileged_port_start=80", about="Or let every user of this machine listen from port 80 on."
            ),
        ),
    )


def limits(facts: Facts) -> Finding:
    """Control groups for the limits of containers."""
    id_ = "limits"
    if facts.cgroups.version != 2:
        fixes: tuple[Fix, ...] = ()
        if facts.systemd:
            fixes = (
                Fix(
                    "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub\n"
                    "sudo update-grub",
                    "Then restart the machine.",
                ),
            )
        return Finding(
            id_,
            Severity.DEGRADES,
            "This machine uses version 1 of control groups, which an ordinary user can't be given."
            if facts.cgroups.version
            else "This machine has no control groups mounted.",
            "Containers run without limits: --memory, --cpus and --pids-limit are refused.",
            fixes,
        )
    missing = [word for name, word in _LIMITS.items() if name not in facts.cgroups.controllers]
    if not missing:
        return fine(id_, "Memory, CPU and process limits work.")
    return Finding(
        id_,
        # Older systemd hands on memory and pids alone: nothing that would be worth a page at the first start.
        Severity.HINT if missing == ["CPU"] else Severity.DEGRADES,
        f"Your account isn't given the control of {' and '.join(missing)} use.",
        f"Containers run, but {' and '.join(missing)} limits are refused.",
        (remedies.delegate(),) if facts.systemd else (),
    )


def runtime_directory(facts: Facts) -> Finding:
    """Where sockets and the state of running containers are."""
    id_ = "runtime-directory"
    place = facts.runtime_directory
    if place.complaint:
        return Finding(
            id_,
            Severity.DEGRADES,
            f"XDG_RUNTIME_DIR can't be used: {place.complaint}.",
            "Kitepy keeps its sockets in your home directory instead; Docker's tools don't look there.",
            (Fix("unset XDG_RUNTIME_DIR", "Or log in as this user, instead of by su or sudo."),),
        )
    if place.persists is False:
        return Finding(
            id_,
            Severity.HINT,
            "Containers end when you log out.",
            "systemd ends what a user runs after the last log-out.",
            (Fix(f"sudo loginctl enable-linger {facts.user}", "Let them go on, and start with the machine if you like."),),
        )
    return fine(id_, f"Sockets are kept in {place.path}." if place.path else "Sockets are kept in your home directory.")


def space(facts: Facts) -> Finding:
    """Room for images."""
    free = f"{facts.free_bytes / (1 << 30):.1f} GiB"
    if facts.free_bytes >= _LITTLE_SPACE_BYTES:
        return fine("space", f"{free} are free for images and containers.")
    return Finding(
        "space",
        Severity.DEGRADES,
        f"Only {free} are free in {facts.data_root}.",
        "Many images need more than that; a build or a pull will fail half-way.",
        (Fix(f"df -h '{facts.data_root}'", "See what takes the space, and make some."),),
    )


_CHECKS: tuple[Callable[[Facts], Finding | None], ...] = (
    kernel,
    user_namespaces,
    id_tools,
    subordinate_ids,
    id_maps,
    proc_mount,
    overlay,
    network,
    uplink,
    ping,
    limits,
    low_ports,
    runtime_directory,
    space,
)
