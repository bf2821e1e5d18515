"""From an OCI ``config.json`` and the launch values to the list of operations that confine process 1. Pure: nothing is touched.

Order: control group and namespaces; sources of bind mounts, while the host's tree is visible; the root file system; mounts in the
document's order; devices and terminal; pivot; kernel parameters; read-only and masked paths. ``execute`` is in ``init.py``.
"""

from __future__ import annotations

import os
import stat

from kitepy.engine.kernel import mounts, overlay
from kitepy.engine.kernel.cgroups import PARENT
from kitepy.engine.kernel.fuse_overlay import options as fuse_options
from kitepy.engine.kernel.namespaces import CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, FLAG_BY_OCI_TYPE
from kitepy.engine.kernel.user_namespaces import IdMap
from kitepy.engine.runtime.device_operations import MakeDevice, OpenTerminal
from kitepy.engine.runtime.mount_operations import (
    AttachBind,
    BindRoot,
    IsolateMounts,
    MapIds,
    MaskPath,
    MountFilesystem,
    MountFuseOverlay,
    MountMappedOverlay,
    MountOverlay,
    OpenBind,
    OpenBindInside,
    OpenMappedBind,
    OpenPart,
    PivotRoot,
    ProtectPath,
    RaiseRoot,
    SetReadonly,
    SetRootPropagation,
)
from kitepy.engine.runtime.operations import (
    BecomeNamespaceRoot,
    EnterUserNamespace,
    JoinCgroup,
    JoinNamespace,
    MakeLink,
    MakeWorkingDirectory,
    NewKeyring,
    Operation,
    RaiseLimits,
    SetDomainName,
    SetHostName,
    SetOomScore,
    SetSysctl,
    Unshare,
)

Document = dict[str, object]

DEFAULT_DEVICES: tuple[Document, ...] = tuple(
    {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
    for path, major, minor in (
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    )
)
"""Nodes that every container with a /dev of its own has."""

DEFAULT_DEVICE_RULES: tuple[Document, ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (10, 200), (136, -1))
    ),
)
"""Any node may be made, only these may be used: null, zero, full, random, urandom, tty, console, ptmx, tun and terminals."""

_DENY_ALL: Document = {"allow": False, "access": "rwm"}
_DEVICE_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
_ATTRIBUTES = {
    # option: (attributes to add, attributes to clear)
    "ro": (mounts.ATTR_RDONLY, 0),
    "rw": (0, mounts.ATTR_RDONLY),
    "nosuid": (mounts.ATTR_NOSUID, 0),
    "suid": (0, mounts.ATTR_NOSUID),
    "nodev": (mounts.ATTR_NODEV, 0),
    "dev": (0, mounts.ATTR_NODEV),
    "noexec": (mounts.ATTR_NOEXEC, 0),
    "exec": (0, mounts.ATTR_NOEXEC),
    "noatime": (mounts.ATTR_NOATIME, 0),
    "strictatime": (mounts.ATTR_STRICTATIME, 0),
    "relatime": (0, mounts.ATTR_ATIME_MASK),
    "nodiratime": (mounts.ATTR_NODIRATIME, 0),
    "diratime": (0, mounts.ATTR_NODIRATIME),
}
_PROPAGATION = {
    "private": (mounts.MS_PRIVATE, False),
    "rprivate": (mounts.MS_PRIVATE, True),
    "slave": (mounts.MS_SLAVE, False),
    "rslave": (mounts.MS_SLAVE, True),
    "shared": (mounts.MS_SHARED, False),
    "rshared": (mounts.MS_SHARED, True),
    "unbindable": (mounts.MS_UNBINDABLE, False),
    "runbindable": (mounts.MS_UNBINDABLE, True),
}
PART = "part="
"""Mount option of ours: only this part of the source is mounted."""
INSIDE = "inside="
"""Mount option of ours: the source of the bind mount is a path in the mount namespace that follows."""
_NO_MEANING_HERE = frozenset({"defaults", "bind", "rbind", "async", "nosymfollow"})


class Launch:
    """What a plan needs beside the OCI document; a plain value that crosses process borders as JSON."""

    __slots__ = ("bundle", "container_id", "has_netns_fd", "hierarchies", "overlay")

    def __init__(
        self,
        container_id: str,
        bundle: str,
        overlay: Document | None,
        has_netns_fd: bool = False,
        hierarchies: dict[str, str] | None = None,
    ) -> None:
        self.container_id = container_id
        self.bundle = bundle
        self.overlay = overlay
        self.has_netns_fd = has_netns_fd
        self.hierarchies = hierarchies
        """Mount point by controller for cgroup v1, None for v2, empty without any: then an empty directory is shown."""


class UserNamespace:
    """The user namespace a container is to have: a new one, or the one at ``path``; the maps are known in both cases."""

    __slots__ = ("gids", "path", "uids")

    def __init__(self, uids: IdMap, gids: IdMap, path: str) -> None:
        self.uids = uids
        self.gids = gids
        self.path = path

    @property
    def root(self) -> tuple[int, int]:
        """What its root's user and group are called outside."""
        return _outside(self.uids, 0), _outside(self.gids, 0)


class Plan:
    """What is to be done by whom to start one container."""

    __slots__ = (
        "cgroup_path",
        "entered_namespaces",
        "fuse",
        "joins",
        "operations",
        "own_namespaces",
        "pid_namespace",
        "process",
        "resources",
        "seccomp_flags",
        "terminal",
        "user_namespace",
    )

    def __init__(self) -> None:
        self.cgroup_path = ""
        self.resources: Document = {}
        self.own_namespaces = 0
        """Flags of those that process 1 makes for itself, but for PID and user namespaces."""
        self.joins: list[JoinNamespace] = []
        self.entered_namespaces = 0
        """Flags of those that process 1 is in and the monitor isn't, but for PID and user namespaces. The others are the host's:
        they need not be joined again, and without root may not be."""
        self.pid_namespace: str | None = None
        """``""``: a new PID namespace, a path: that one, None: the host's. Decided before the fork, so the monitor does it."""
        self.fuse: tuple[str, str] | None = None
        """Base directory and options of the process that has to serve the root file system."""
        self.operations: list[Operation] = []
        self.process: Document = {}
        self.terminal = False
        self.user_namespace: UserNamespace | None = None
        self.seccomp_flags: list[str] = []

    def describe(self) -> list[str]:
        """The operations, one line each."""
        return [operation.describe() for operation in self.operations]


def make_plan(document: Document, launch: Launch) -> Plan:
    """Decide every step; raises ValueError when the document asks for something that does not exist."""
    plan = outline(document, launch)
    plan_operations(plan, document, launch)
    return plan


def outline(document: Document, launch: Launch) -> Plan:
    """A plan without its operations: all that the monitor itself has to know. Raises ValueError as ``make_plan`` does."""
    linux = _part(document, "linux")
    process = _part(document, "process")
    plan = Plan()
    plan.process = process
    plan.terminal = bool(process.get("terminal"))
    plan.cgroup_path = cgroup_path(document, launch.container_id)
    plan.resources = effective_resources(_part(linux, "resources"))
    plan.seccomp_flags = _texts(_part(linux, "seccomp").get("flags"))
    plan.user_namespace = _plan_user_namespace(linux)
    plan.own_namespaces, plan.joins, plan.pid_namespace = _plan_namespaces(linux, launch)
    plan.entered_namespaces = plan.own_namespaces
    for join in plan.joins:
        plan.entered_namespaces |= join.flag
    if _is_fuse(launch):
        plan.fuse = _plan_fuse(launch)
    return plan


def plan_operations(plan: Plan, document: Document, launch: Launch) -> None:
    """Complete an outline with the operations of process 1; raises ValueError as ``make_plan`` does."""
    linux = _part(document, "linux")
    process = plan.process
    own_flags, joins = plan.own_namespaces, plan.joins
    score = process.get("oomScoreAdj")
    operations: list[Operation] = [SetOomScore(score)] if isinstance(score, int) and score else []
    tree = _Tree()
    _plan_mounts(document, launch, own_flags, plan, tree)
    keyring = NewKeyring(f"_ses.{launch.container_id[:32]}")
    names = [
        kind(name)
        for kind, name in ((SetHostName, document.get("hostname")), (SetDomainName, document.get("domainname")))
        if isinstance(name, str) and name
    ]
    if plan.user_namespace is None:
        # A prepared process 1 may get here before its control group is made, and has enough to do until it must be in it.
        enter: list[Operation] = [JoinCgroup(plan.cgroup_path)]
        own_groups = own_flags & CLONE_NEWCGROUP
        operations += [
            *([] if own_groups else enter),
            keyring,
            *joins,
            Unshare(own_flags & ~CLONE_NEWCGROUP),
            *names,
            *tree.opening,
            IsolateMounts(),
            _plan_root(document, launch, plan),
            *([*enter, Unshare(own_groups)] if own_groups else []),
        ]
    else:
        operations.insert(0, JoinCgroup(plan.cgroup_path))
        limits = process.get("rlimits")
        # What needs the host's root comes first, in a mount namespace that is left behind with its rights.
        operations += [RaiseLimits(limits), *joins, Unshare(CLONE_NEWNS)] if limits else [*joins, Unshare(CLONE_NEWNS)]
        operations += [*tree.opening, IsolateMounts(), *_plan_mapped_root(document, launch, plan, plan.user_namespace)]
        operations += [
            EnterUserNamespace(plan.pid_namespace == ""),
            Unshare(own_flags),
            RaiseRoot(_root_target(document, launch)),
            BecomeNamespaceRoot(),
            keyring,
            *names,
        ]
    operations += [*tree.mounting, PivotRoot()]
    propagation = linux.get("rootfsPropagation")
    if isinstance(propagation, str) and propagation:
        flags, recursive = _known_propagation(propagation)
        operations.append(SetRootPropagation(flags | (mounts.MS_REC if recursive else 0)))
    operations += [SetSysctl(key, str(value)) for key, value in _part(linux, "sysctl").items()]
    operations += [ProtectPath(path) for path in _texts(linux.get("readonlyPaths"))]
    operations += [MaskPath(path) for path in _texts(linux.get("maskedPaths"))]
    if _part(document, "root").get("readonly"):
        operations.append(SetReadonly("/"))
    plan.operations = simplify(operations)


def cgroup_path(document: Document, container_id: str) -> str:
    """``linux.cgroupsPath`` when it is an absolute path, else the container's place below the engine's own group."""
    path = _part(document, "linux").get("cgroupsPath")
    if isinstance(path, str) and path.startswith("/") and ".." not in path.split("/"):
        return path.rstrip("/")
    return f"{PARENT}/{container_id}"


def effective_resources(resources: Document) -> Document:
    """The document's resources with complete device rules: refuse all, the document's own, then what every container needs.

    A first rule that allows everything (privileged containers) is taken as it is.
    """
    rules = resources.get("devices")
    own: list[Document] = [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
    everything = [rule for rule in own if rule.get("type") in (None, "", "a") and rule.get("major") is None]
    if everything and everything[-1].get("allow"):
        return {**resources, "devices": own}
    first = [] if everything else [_DENY_ALL]
    return {**resources, "devices": [*first, *own, *DEFAULT_DEVICE_RULES]}


def simplify(operations: list[Operation]) -> list[Operation]:
    """The same effect with fewer steps: no empty or repeated step, no protection of what is masked anyway."""
    masked = {operation.path for operation in operations if isinstance(operation, MaskPath)}
    seen: set[tuple[type[Operation], str]] = set()
    kept: list[Operation] = []
    for operation in operations:
        if isinstance(operation, Unshare) and not operation.flags:
            continue
        if isinstance(operation, ProtectPath | MaskPath):
            if isinstance(operation, ProtectPath) and operation.path in masked:
                continue
            key = (type(operation), operation.path)
            if key in seen:
                continue
            seen.add(key)
        kept.append(operation)
    return kept


def _plan_user_namespace(linux: Document) -> UserNamespace | None:
    entries = linux.get("namespaces")
    for entry in entries if isinstance(entries, list) else []:
        if entry.get("type") == "user":
            uids, gids = _id_map(linux, "uidMappings"), _id_map(linux, "gidMappings")
            return UserNamespace(uids, gids, entry.get("path") or "")
    return None


def _id_map(linux: Document, name: str) -> IdMap:
    rows = linux.get(name)
    found = IdMap(
        tuple((int(row["containerID"]), int(row["hostID"]), int(row["size"])) for row in rows) if isinstance(rows, list) else ()
    )
    _outside(found, 0)
    return found


def _outside(ids: IdMap, inside: int) -> int:
    found = ids.outside(inside)
    if found is None:
        raise ValueError(f"a user namespace needs mappings that hold the id {inside}")
    return found


def _plan_namespaces(linux: Document, launch: Launch) -> tuple[int, list[JoinNamespace], str | None]:
    own_flags = 0
    joins: list[JoinNamespace] = []
    pid_namespace: str | None = None
    entries = linux.get("namespaces")
    for entry in entries if isinstance(entries, list) else []:
        kind, path = entry.get("type"), entry.get("path") or ""
        if kind == "user":
            continue
        if kind not in FLAG_BY_OCI_TYPE:
            raise ValueError(f"unknown namespace type {kind!r}")
        flag = FLAG_BY_OCI_TYPE[kind]
        if flag == CLONE_NEWPID:
            pid_namespace = path
        elif flag == CLONE_NEWNET and launch.has_netns_fd:
            continue
        elif path:
            joins.append(JoinNamespace(flag, path))
        else:
            own_flags |= flag
    if launch.has_netns_fd:
        joins.append(JoinNamespace(CLONE_NEWNET, None))
    if not own_flags & CLONE_NEWNS:
        raise ValueError("a container needs a mount namespace of its own")
    return own_flags, joins, pid_namespace


class _Tree:
    """The mounts of a container: what must be held while the host's tree is visible, and what is mounted beneath the root."""

    def __init__(self) -> None:
        self.opening: list[Operation] = []
        self.mounting: list[Operation] = []


def _plan_mounts(document: Document, launch: Launch, own_flags: int, plan: Plan, tree: _Tree) -> None:
    own_dev = False
    entries = document.get("mounts")
    for slot, entry in enumerate(entries if isinstance(entries, list) else []):
        target = _absolute(entry["destination"])
        options = _texts(entry.get("options"))
        kind = str(entry.get("type") or "")
        if kind == "bind" or "bind" in options or "rbind" in options:
            inside = [option.removeprefix(INSIDE) for option in options if option.startswith(INSIDE)]
            if inside:
                tree.opening.append(OpenBindInside(slot, str(entry["source"]), inside[0]))
                others = [option for option in options if not option.startswith(INSIDE)]
                tree.mounting.append(_plan_bind(slot, target, others))
                continue
            parts = [option.removeprefix(PART) for option in options if option.startswith(PART)]
            options = [option for option in options if not option.startswith(PART)]
            mapped = "idmap" in options
            if mapped and plan.user_namespace is None:
                raise ValueError(f"mount {target}: mapping its ids needs a user namespace")
            if parts:
                tree.opening.append(OpenPart(slot, str(entry["source"]), parts[0], mapped))
            else:
                tree.opening.append((OpenMappedBind if mapped else OpenBind)(slot, str(entry["source"]), "rbind" in options))
            tree.mounting.append(_plan_bind(slot, target, [option for option in options if option != "idmap"]))
        elif kind == "cgroup":
            tree.mounting += _plan_cgroup(target, options, launch, own_flags, plan, tree.opening)
        else:
            attributes, _, data = split_options(options)
            tree.mounting.append(MountFilesystem(kind, str(entry.get("source") or kind), target, data, attributes))
            own_dev = own_dev or target == "/dev"
    linux = _part(document, "linux")
    devices = linux.get("devices")
    wanted = [*(DEFAULT_DEVICES if own_dev else ()), *(devices if isinstance(devices, list) else [])]
    tree.mounting += [_plan_device(device) for device in wanted]
    if own_dev:
        tree.mounting += [MakeLink(target, path) for target, path in _DEVICE_LINKS]
    process = plan.process
    if plan.terminal:
        size = _part(process, "consoleSize")
        uid = _part(process, "user").get("uid") or 0
        tree.mounting.append(OpenTerminal(size.get("height") or 0, size.get("width") or 0, uid, own_dev))
    cwd = process.get("cwd")
    if isinstance(cwd, str) and cwd.strip("/"):
        tree.mounting.append(MakeWorkingDirectory(_absolute(cwd)))


def _root_target(document: Document, launch: Launch) -> str:
    return os.path.join(launch.bundle, str(_part(document, "root").get("path") or "rootfs"))


def _plan_mapped_root(document: Document, launch: Launch, plan: Plan, user_namespace: UserNamespace) -> list[Operation]:
    root = _plan_root(document, launch, plan)
    if launch.overlay is None:
        return [root]  # a directory that was prepared by somebody else, ids and all
    if isinstance(root, MountOverlay):
        root = MountMappedOverlay(*root.values(), *user_namespace.root)
    return [MapIds(str(launch.overlay["base"])), root]


def _plan_root(document: Document, launch: Launch, plan: Plan) -> Operation:
    target = _root_target(document, launch)
    if launch.overlay is None:
        return BindRoot(target, target, False)
    base = str(launch.overlay["base"])
    lower = _texts(launch.overlay.get("lower"))
    upper = launch.overlay.get("upper")
    if not lower and upper:
        return BindRoot(os.path.join(base, str(upper)), target, False)  # overlay wants a lower layer; "FROM scratch" has none
    if len(lower) == 1 and not upper:
        return BindRoot(os.path.join(base, lower[0]), target, True)  # overlay refuses a single layer
    if plan.fuse is not None:
        return MountFuseOverlay(target, not upper)
    volatile_work = launch.overlay.get("work") if launch.overlay.get("volatile") else None
    return MountOverlay(target, base, overlay_options(launch.overlay), not upper, volatile_work)


def _is_fuse(launch: Launch) -> bool:
    """Whether a process has to serve the root file system: what is a single directory anyway is bound instead."""
    overlay = launch.overlay
    if overlay is None or overlay.get("flavour") != "fuse":
        return False
    lower = _texts(overlay.get("lower"))
    return bool(lower) and (len(lower) > 1 or bool(overlay.get("upper")))


def _plan_fuse(launch: Launch) -> tuple[str, str]:
    assert launch.overlay is not None
    upper = launch.overlay.get("upper")
    options = fuse_options(_texts(launch.overlay.get("lower")), str(upper) if upper else None, str(launch.overlay.get("work")))
    return str(launch.overlay["base"]), options


def overlay_options(document: Document) -> str:
    """The option string of an overlay mount."""
    upper, work = document.get("upper"), document.get("work")
    return overlay.options(
        _texts(document.get("lower")),
        str(upper) if upper else None,
        str(work),
        volatile=bool(document.get("volatile")),
        user_xattrs=document.get("flavour") == "user",
    )


def _plan_bind(slot: int, target: str, options: list[str]) -> AttachBind:
    add, clear, data = split_options(options)
    recursive_names = {
        "rro": mounts.ATTR_RDONLY,
        "rnosuid": mounts.ATTR_NOSUID,
        "rnodev": mounts.ATTR_NODEV,
        "rnoexec": mounts.ATTR_NOEXEC,
    }
    recursive = False
    for key, value in data:
        if value is None and key in recursive_names:
            add |= recursive_names[key]
            recursive = True
        else:
            raise ValueError(f"mount {target}: unknown option {key!r} for a bind mount")
    propagation, propagation_recursive = mounts.MS_PRIVATE, "rbind" in options
    for option in options:
        if option in _PROPAGATION:
            propagation, propagation_recursive = _PROPAGATION[option]
    return AttachBind(slot, target, add, clear, recursive, propagation, propagation_recursive)


def split_options(options: list[str]) -> tuple[int, int, list[tuple[str, str | None]]]:
    """(attributes to add, attributes to clear, the rest as options of the file system); the last of two opposites wins."""
    add = clear = 0
    data: list[tuple[str, str | None]] = []
    for option in options:
        if option in _ATTRIBUTES:
            sets, clears = _ATTRIBUTES[option]
            add = (add & ~clears) | sets
            clear = (clear & ~sets) | clears
        elif option in _PROPAGATION or option in _NO_MEANING_HERE or not option:
            continue
        else:
            key, separator, value = option.partition("=")
            data.append((key, value if separator else None))
    return add, clear, data


def _plan_cgroup(
    target: str, options: list[str], launch: Launch, own_flags: int, plan: Plan, opening: list[Operation]
) -> list[Operation]:
    attributes, _, _ = split_options(options)
    own_namespace = bool(own_flags & CLONE_NEWCGROUP)
    if launch.hierarchies is None:
        if not own_namespace:
            # The host's own mount: a new one would need rights over the host's groups, which no user namespace gives.
            opening.append(OpenBind(-1, "/sys/fs/cgroup", False))
            return [AttachBind(-1, target, attributes, 0, False, mounts.MS_PRIVATE, False)]
        return [MountFilesystem("cgroup2", "cgroup", target, [], attributes)]
    operations: list[Operation] = [MountFilesystem("tmpfs", "tmpfs", target, [("mode", "755")], attributes & ~mounts.ATTR_RDONLY)]
    controllers_at: dict[str, list[str]] = {}
    for controller, mount_point in launch.hierarchies.items():
        controllers_at.setdefault(mount_point, []).append(controller)
    for index, (mount_point, controllers) in enumerate(sorted(controllers_at.items())):
        place = f"{target}/{os.path.basename(mount_point)}"
        if own_namespace:
            data: list[tuple[str, str | None]] = []
            for controller in controllers:
                key, separator, value = controller.partition("=")
                data += [("none", None), (key, value)] if separator else [(key, None)]
            operations.append(MountFilesystem("cgroup", "cgroup", place, data, attributes))
        else:
            slot = -1 - index
            opening.append(OpenBind(slot, mount_point + plan.cgroup_path, False))
            operations.append(AttachBind(slot, place, attributes, 0, False, mounts.MS_PRIVATE, False))
        operations += [
            MakeLink(os.path.basename(mount_point), f"{target}/{name}")
            for name in controllers
            if f"{target}/{name}" != place and "=" not in name
        ]
    if attributes & mounts.ATTR_RDONLY:
        operations.append(SetReadonly(target))
    return operations


def _plan_device(device: Document) -> MakeDevice:
    kinds = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    kind = str(device.get("type"))
    if kind not in kinds:
        raise ValueError(f"device {device.get('path')}: unknown type {kind!r}")
    mode, major, minor = device.get("fileMode"), device.get("major") or 0, device.get("minor") or 0
    permissions = mode & 0o7777 if isinstance(mode, int) else 0o666
    assert isinstance(major, int)
    assert isinstance(minor, int)
    number = 0 if kind == "p" else os.makedev(major, minor)
    path = _absolute(device["path"])
    return MakeDevice(path, kinds[kind] | permissions, number, device.get("uid") or 0, device.get("gid") or 0)


def _absolute(path: object) -> str:
    return os.path.normpath("/" + str(path).lstrip("/"))


def _known_propagation(name: str) -> tuple[int, bool]:
    if name not in _PROPAGATION:
        raise ValueError(f"unknown mount propagation {name!r}")
    return _PROPAGATION[name]


def _part(document: Document, name: str) -> Document:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
