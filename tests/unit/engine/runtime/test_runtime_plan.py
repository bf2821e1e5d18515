"""From OCI documents to operations, without touching anything."""

from __future__ import annotations

import pytest
from support.runtime_lab import Document, make_document

from kitepy.engine.kernel import mounts
from kitepy.engine.runtime.mount_operations import (
    AttachBind,
    BindRoot,
    IsolateMounts,
    MaskPath,
    MountFilesystem,
    MountOverlay,
    OpenBind,
    PivotRoot,
    ProtectPath,
)
from kitepy.engine.runtime.operations import EnterUserNamespace, JoinCgroup, Unshare
from kitepy.engine.runtime.plan import (
    DEFAULT_DEVICE_RULES,
    Launch,
    cgroup_path,
    effective_resources,
    make_plan,
    overlay_options,
    simplify,
    split_options,
)

OVERLAY = {"base": "/data", "lower": ["layers/2/diff", "layers/1/diff"], "upper": "c/upper", "work": "c/work", "volatile": False}


def _launch(**changes: object) -> Launch:
    values: dict[str, object] = {"container_id": "abc", "bundle": "/run/abc", "overlay": OVERLAY, **changes}
    return Launch(**values)  # type: ignore[arg-type]  # the values are checked by the tests


def test_a_plan_reads_as_a_list_of_steps() -> None:
    text = make_plan(make_document(["true"]), _launch()).describe()
    assert text[:5] == [
        "NewKeyring name='_ses.abc'",
        "Unshare mount uts ipc network",
        "SetHostName name='lab'",
        "IsolateMounts",
        text[4],
    ]
    assert text[4].startswith("MountOverlay ")
    assert text[5:7] == ["JoinCgroup path='/kitepy/abc'", "Unshare cgroup"]
    assert text[-1] == "MaskPath path='/sys/devices/virtual/powercap'"


def test_sources_are_opened_before_and_attached_after_the_tree_is_isolated() -> None:
    document = make_document(["true"])
    document["mounts"].append({"destination": "/v", "type": "bind", "source": "/srv", "options": ["rbind", "ro", "rslave"]})
    kinds = [type(operation) for operation in make_plan(document, _launch()).operations]
    order = [kinds.index(kind) for kind in (OpenBind, IsolateMounts, MountOverlay, AttachBind, PivotRoot, ProtectPath, MaskPath)]
    assert order == sorted(order)


def test_bind_options_become_attributes_and_propagation() -> None:
    document = make_document(["true"])
    document["mounts"] = [{"destination": "/v", "type": "bind", "source": "/srv", "options": ["rbind", "ro", "nosuid", "rslave"]}]
    attached = next(o for o in make_plan(document, _launch()).operations if isinstance(o, AttachBind))
    assert (attached.add, attached.propagation, attached.propagation_recursive) == (
        mounts.ATTR_RDONLY | mounts.ATTR_NOSUID,
        mounts.MS_SLAVE,
        True,
    )


def test_an_unknown_bind_option_is_refused() -> None:
    document = make_document(["true"])
    document["mounts"] = [{"destination": "/v", "type": "bind", "source": "/srv", "options": ["bind", "size=5"]}]
    with pytest.raises(ValueError, match="unknown option 'size'"):
        make_plan(document, _launch())


def test_options_split_into_attributes_and_data() -> None:
    assert split_options(["nosuid", "ro", "rw", "size=64k", "newinstance", "rprivate"]) == (
        mounts.ATTR_NOSUID,
        mounts.ATTR_RDONLY,
        [("size", "64k"), ("newinstance", None)],
    )


def test_overlay_names_stay_relative_and_128_fit_a_page() -> None:
    assert overlay_options(OVERLAY) == (
        "lowerdir=layers/2/diff:layers/1/diff,upperdir=c/upper,workdir=c/work,index=off,metacopy=off,redirect_dir=off"
    )
    container = "containers/" + "f" * 64
    many = {
        "lower": [f"layers/{10_000_000 + number}/diff" for number in range(128)],
        "upper": f"{container}/upper",
        "work": f"{container}/work",
        "volatile": True,
    }
    assert len(overlay_options(many)) < 4096


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ({**OVERLAY, "lower": []}, BindRoot("/data/c/upper", "/run/abc/rootfs", False)),
        ({**OVERLAY, "lower": ["layers/1/diff"], "upper": None}, BindRoot("/data/layers/1/diff", "/run/abc/rootfs", True)),
        (None, BindRoot("/run/abc/rootfs", "/run/abc/rootfs", False)),
    ],
)
def test_what_overlay_cannot_mount_is_bound(overlay: dict[str, object] | None, expected: BindRoot) -> None:
    assert expected in make_plan(make_document(["true"]), _launch(overlay=overlay)).operations


def test_a_given_network_namespace_replaces_a_new_one() -> None:
    plan = make_plan(make_document(["true"]), _launch(has_netns_fd=True))
    text = plan.describe()
    assert "JoinNamespace flag=1073741824 path=None" in text
    assert "Unshare mount uts ipc" in text


def test_who_shares_the_hosts_control_groups_view_is_in_its_own_group_before_that_is_opened() -> None:
    document = make_document(["true"])
    document["linux"]["namespaces"] = [entry for entry in document["linux"]["namespaces"] if entry["type"] != "cgroup"]
    kinds = [
        type(operation) for operation in make_plan(document, _launch(hierarchies={"pids": "/sys/fs/cgroup/pids"})).operations
    ]
    assert kinds[0] is JoinCgroup
    assert kinds.count(JoinCgroup) == 1
    assert kinds.index(JoinCgroup) < kinds.index(OpenBind)


def test_the_pid_namespace_is_for_the_monitor() -> None:
    document = make_document(["true"])
    assert make_plan(document, _launch()).pid_namespace == ""
    document["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}]
    assert make_plan(document, _launch()).pid_namespace == "/proc/7/ns/pid"
    document["linux"]["namespaces"] = [{"type": "mount"}]
    assert make_plan(document, _launch()).pid_namespace is None


@pytest.mark.parametrize("kind", ["user", "nonesuch"])
def test_namespaces_we_cannot_make_are_refused(kind: str) -> None:
    document = make_document(["true"])
    document["linux"]["namespaces"].append({"type": kind})
    with pytest.raises(ValueError, match=kind):
        make_plan(document, _launch())


def test_cgroup_version_1_mounts_each_hierarchy_and_links_the_merged_ones() -> None:
    hierarchies = {"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "pids": "/sys/fs/cgroup/pids"}
    plan = make_plan(make_document(["true"]), _launch(hierarchies=hierarchies))
    places = [
        operation.target for operation in plan.operations if isinstance(operation, MountFilesystem) and operation.kind == "cgroup"
    ]
    assert places == ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/pids"]
    text = plan.describe()
    assert "MakeLink target='cpu,cpuacct' path='/sys/fs/cgroup/cpu'" in text
    assert "SetReadonly path='/sys/fs/cgroup'" in text


def test_device_rules_are_completed_unless_everything_is_allowed() -> None:
    assert effective_resources({})["devices"] == [{"allow": False, "access": "rwm"}, *DEFAULT_DEVICE_RULES]
    own = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    assert effective_resources({"devices": [own]})["devices"] == [{"allow": False, "access": "rwm"}, own, *DEFAULT_DEVICE_RULES]
    docker = [{"allow": False, "access": "rwm"}, own]
    assert effective_resources({"devices": docker})["devices"] == [*docker, *DEFAULT_DEVICE_RULES]
    privileged = [{"allow": True, "access": "rwm"}]
    assert effective_resources({"devices": privileged})["devices"] == privileged


def test_the_cgroup_path_cannot_climb() -> None:
    assert cgroup_path({"linux": {"cgroupsPath": "/kitepy/x"}}, "abc") == "/kitepy/x"
    assert cgroup_path({"linux": {"cgroupsPath": "/kitepy/../x"}}, "abc") == "/kitepy/abc"
    assert cgroup_path({}, "abc") == "/kitepy/abc"


def test_simplifying_drops_what_has_no_effect() -> None:
    steps = [Unshare(0), ProtectPath("/a"), MaskPath("/a"), ProtectPath("/b"), ProtectPath("/b")]
    assert simplify(steps) == [MaskPath("/a"), ProtectPath("/b")]


def _in_user_namespace(**linux: object) -> Document:
    document = make_document(["true"])
    rows = [{"containerID": 0, "hostID": 200_000, "size": 1_000}]
    document["linux"]["namespaces"].append({"type": "user"})
    document["linux"] |= {"uidMappings": rows, "gidMappings": rows, **linux}
    return document


def test_what_needs_the_hosts_root_is_done_before_the_user_namespace_is_entered() -> None:
    document = _in_user_namespace()
    document["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]
    document["mounts"] += [
        {"destination": "/v", "type": "bind", "source": "/srv", "options": ["rbind"]},
        {"destination": "/w", "type": "bind", "source": "/data/volumes/w", "options": ["bind", "idmap"]},
    ]
    plan = make_plan(document, _launch(has_netns_fd=True))
    names = [type(operation).__name__ for operation in plan.operations]
    before, after = names[: names.index("EnterUserNamespace")], names[names.index("EnterUserNamespace") + 1 :]
    assert before == [
        "JoinCgroup",
        "RaiseLimits",
        "JoinNamespace",
        "Unshare",
        "OpenBind",
        "OpenMappedBind",
        "IsolateMounts",
        "MapIds",
        "MountMappedOverlay",
    ]
    assert after[:5] == ["Unshare", "RaiseRoot", "BecomeNamespaceRoot", "NewKeyring", "SetHostName"]
    assert plan.user_namespace is not None
    assert plan.user_namespace.root == (200_000, 200_000)


def test_ids_of_a_mount_are_mapped_in_a_user_namespace_only() -> None:
    document = make_document(["true"])
    document["mounts"].append({"destination": "/v", "type": "bind", "source": "/srv", "options": ["bind", "idmap"]})
    with pytest.raises(ValueError, match="mapping its ids needs a user namespace"):
        make_plan(document, _launch())


def test_process_1_is_born_where_a_new_pid_namespace_belongs_to_the_user_namespace() -> None:
    plan = make_plan(_in_user_namespace(), _launch())
    assert EnterUserNamespace(True) in plan.operations
    document = _in_user_namespace()
    namespaces = document["linux"]["namespaces"]
    namespaces.remove({"type": "pid"})
    namespaces.append({"type": "pid", "path": "/proc/7/ns/pid"})
    assert EnterUserNamespace(False) in make_plan(document, _launch()).operations


def test_a_map_without_root_is_refused() -> None:
    for rows in ([], [{"containerID": 1, "hostID": 5, "size": 5}]):
        with pytest.raises(ValueError, match="mappings that hold the id 0"):
            make_plan(_in_user_namespace(uidMappings=rows), _launch())
