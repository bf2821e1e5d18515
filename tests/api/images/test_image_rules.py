"""Listing, describing, tagging, removing and pruning images: filters, rules, wording, events and their order, as dockerd."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from support.image_archives import OTHER, MadeImage, docker_archive_of, small_layer

OURS = "kitepy.test.rules"
"""A label that the tests' images have, so that those of others stay out of the answers."""
A, B, C = small_layer("a", 1000), small_layer("b", 2000), small_layer("c", 3000)
ONE = MadeImage([A], ["rules/one:1", "rules/one:2", "rules.example/one:1"], {"Labels": {OURS: "", "k": "v", "team": "a"}})
TWO = MadeImage([A, B], ["rules/two:latest"], {"Labels": {OURS: "", "k": "w"}}, "2021-01-01T00:00:00Z")
NAMELESS = MadeImage([C], None, {"Labels": {OURS: ""}}, "2022-01-01T00:00:00.123456789Z")


@pytest.fixture(name="load")
def _load(api: Any) -> Iterator[Callable[..., None]]:
    """Load images, which are gone after the test."""

    def load(*images: MadeImage) -> None:
        assert api("POST", "/images/load", archive=docker_archive_of(*images)).status == 200

    _remove(api)
    yield load
    _remove(api)


def _remove(api: Any) -> None:
    for container in api("GET", f"/containers/json?{_filtered(label=OURS)}&all=1").json:
        assert api("DELETE", f"/containers/{container['Id']}?force=1").status == 204
    while left := _listed(api, all=1):
        for image in left:
            api("DELETE", f"/images/{image['Id']}?force=1")


def _filtered(**filters: Any) -> str:
    given = {key.replace("_not", "!"): value if isinstance(value, list) else [value] for key, value in filters.items()}
    return urlencode({"filters": json.dumps(given)})


def _listed(api: Any, filters: dict[str, Any] | None = None, *, version: str = "1.51", **query: Any) -> list[dict[str, Any]]:
    wanted = {"label": [OURS], **(filters or {})}
    target = f"/images/json?{urlencode({**query, 'filters': json.dumps(wanted)})}"
    answer = api("GET", target, version=version)
    assert answer.status == 200, answer.body
    return list(answer.json)


def _ids(found: list[dict[str, Any]]) -> list[str]:
    names = {ONE.id: "one", TWO.id: "two", NAMELESS.id: "nameless"}
    return [names.get(image["Id"], image["Id"]) for image in found]


def _events(api: Any, since: float) -> list[tuple[str, str, str]]:
    """(action, id, name) of what was told about images."""
    until = time.time()
    answer = api("GET", f"/events?since={since:.9f}&until={until:.9f}&{_filtered(type='image')}")
    return [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"].get("name", "")) for event in answer.lines]


# --- list ---


CHOICES: list[tuple[dict[str, Any], str]] = [
    ({}, "nameless two one"),
    ({"reference": ["rules/*"]}, "two one"),
    ({"reference": ["rules/one"]}, "one"),
    ({"reference": ["rules/*:latest"]}, "two"),
    ({"reference": ["*"]}, ""),
    ({"reference": ["**/**"]}, "two one"),
    ({"reference": ["docker.io/rules/one"]}, ""),
    ({"reference": ["rules/on[a-f]:[3-9]"]}, ""),
    ({"reference": ["rules/on[a-f]:[^2]", "rules/two"]}, "two one"),
    ({"before": ["rules/two"]}, "one"),
    ({"before": ["rules/two", "rules/one:1"]}, ""),
    ({"since": ["rules/one:1"]}, "nameless two"),
    ({"since": ["rules/one:1", "rules/two"]}, "nameless"),
    ({"until": ["2021-06-01"]}, "two one"),
    ({"until": ["1h", "1600000000"]}, "one"),
    ({"label": [OURS, "k"]}, "two one"),
    ({"label": [OURS, "k=v", "team"]}, "one"),
    ({"label": [OURS, "k=v", "team=b"]}, ""),
    ({"dangling": ["true"]}, "nameless"),
    ({"dangling": ["0"]}, "two one"),
    ({"dangling": {"true": True}}, "nameless"),
]
"""Filters, and whom they choose."""


def test_each_filter_chooses_among_images(load: Any, api: Any) -> None:
    load(ONE, TWO, NAMELESS)
    for filters, expected in CHOICES:
        # An object of truths stands for a list, in all filters of a request or in none.
        ours = {"label": {OURS: True}} if isinstance(filters.get("dangling"), dict) else {}
        assert _ids(_listed(api, {**filters, **ours})) == expected.split(), filters


def test_only_the_references_that_a_filter_means_are_shown(load: Any, api: Any) -> None:
    load(ONE)
    (shown,) = _listed(api, {"reference": ["rules/one:2", "*.example/*"]})
    assert shown["RepoTags"] == ["rules/one:2", "rules.example/one:1"]
    assert shown["RepoDigests"] == []


REFUSED = [
    ('{"nope":["x"]}', 400, "invalid filter 'nope'"),
    ('{"label!":["x"]}', 400, "invalid filter 'label!'"),
    ('{"dangling":["maybe"]}', 400, "invalid filter 'dangling=[maybe]'"),
    ('{"dangling":[]}', 400, "invalid filter 'dangling'"),
    ('{"before":["rules/none"]}', 404, "No such image: rules/none:latest"),
    ('{"since":[""]}', 400, "invalid reference format"),
    ('{"until":["garbage"]}', 500, 'failed to parse value as time or duration: "garbage"'),
    ('{"reference":["["]}', 500, "syntax error in pattern"),
    ("garbage", 400, "invalid filter"),
    ('{"label":"x"}', 400, "invalid filter"),
]


def test_a_filter_that_means_nothing_is_refused(load: Any, api: Any) -> None:
    load(ONE)
    for filters, status, message in REFUSED:
        answer = api("GET", f"/images/json?{urlencode({'filters': filters})}")
        assert (answer.status, answer.message) == (status, message), filters


def test_sizes_and_containers_are_counted_when_they_are_asked_for(load: Any, api: Any) -> None:
    load(ONE, TWO, NAMELESS)
    for name in ("rules-a", "rules-b"):
        assert api("POST", f"/containers/create?name={name}", {"Image": "rules/two", "Cmd": ["x"]}).status == 201
    plain, shared = _listed(api), _listed(api, **{"shared-size": 1})
    assert [(image["Size"], image["SharedSize"], image["Containers"]) for image in plain] == [
        (3000, -1, 0),
        (3000, -1, 2),
        (1000, -1, 0),
    ]
    assert [image["SharedSize"] for image in shared] == [0, 1000, 1000]
    usage = {image["Id"]: image for image in api("GET", "/system/df").json["Images"]}
    assert [(usage[image.id]["SharedSize"], usage[image.id]["Containers"]) for image in (ONE, TWO, NAMELESS)] == [
        (1000, 0),
        (1000, 2),
        (0, 0),
    ]
    assert (usage[NAMELESS.id]["RepoTags"], usage[NAMELESS.id]["RepoDigests"]) == (None, None)


def test_layers_that_images_share_are_on_the_disk_once(load: Any, api: Any) -> None:
    before = api("GET", "/system/df?type=image").json
    load(ONE, TWO, NAMELESS)
    after = api("GET", "/system/df?type=image").json
    assert after["LayersSize"] - before["LayersSize"] == 6000
    assert (after["Containers"], after["Volumes"], after["BuildCache"]) == (None, None, None)
    assert api("GET", "/system/df?type=image", version="1.41").json["Volumes"] is not None, "older versions always tell all"


def test_older_versions_list_images_in_their_way(load: Any, api: Any) -> None:
    load(TWO, NAMELESS)
    nameless, two = _listed(api, version="1.42")
    assert (nameless["RepoTags"], nameless["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])
    assert (two["RepoTags"], two["RepoDigests"]) == (["rules/two:latest"], None)
    assert (two["VirtualSize"], two["Containers"]) == (3000, -1)
    assert "VirtualSize" not in _listed(api, version="1.44")[0]
    assert _ids(_listed(api, version="1.40", filter="rules/two")) == ["two"]
    assert _ids(_listed(api, version="1.41", filter="rules/two")) == ["nameless", "two"]


# --- inspect and history ---


def test_an_image_is_described_with_what_its_configuration_says(load: Any, api: Any) -> None:
    config = {
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1_000_000_000, "Retries": 3},
        "Shell": ["/bin/sh", "-ec"],
        "StopSignal": "SIGINT",
        "OnBuild": ["RUN x"],
        "Volumes": {"/v": {}},
        "Entrypoint": [],
        "Hostname": "only of containers",
        "Labels": {OURS: ""},
    }
    fields = {"author": "me", "variant": "v1", "os.version": "10", "history": [{"comment": "why", "created_by": "x"}]}
    load(MadeImage([A], ["rules/full:1"], config, "2020-01-01T01:02:03.500+02:00", fields))
    found = api("GET", "/images/rules/full:1/json").json
    assert found["Config"] == {
        **{key: value for key, value in config.items() if key != "Hostname"},
        **{"Cmd": ["sh"], "User": "", "Env": None, "WorkingDir": "", "Entrypoint": None},
    }
    assert (found["Created"], found["Comment"], found["Author"]) == ("2020-01-01T01:02:03.5+02:00", "why", "me")
    assert (found["Variant"], found["OsVersion"]) == ("v1", "10")
    assert found["Metadata"]["LastTagTime"] == "0001-01-01T00:00:00Z"
    assert {"MergedDir", "UpperDir", "WorkDir"} <= set(found["GraphDriver"]["Data"])
    assert found["RepoDigests"] == []


def test_an_image_without_a_date_has_none(load: Any, api: Any) -> None:
    undated = MadeImage([A], ["rules/undated:1"], {"Labels": {OURS: ""}}, fields={"created": None})
    load(undated)
    assert "Created" not in api("GET", "/images/rules/undated:1/json").json
    assert api("GET", "/images/rules/undated:1/json", version="1.43").json["Created"] == "0001-01-01T00:00:00Z"
    assert _listed(api)[0]["Created"] == 0
    assert _listed(api, {"until": ["1h"]}) == []


def test_only_older_versions_tell_of_the_container_an_image_was_made_of(load: Any, api: Any) -> None:
    fields = {"container": "abc", "container_config": {"Hostname": "h", "Cmd": ["x"]}}
    load(MadeImage([A], ["rules/committed:1"], {"Labels": {OURS: ""}}, fields=fields))
    old, new = (api("GET", "/images/rules/committed:1/json", version=version).json for version in ("1.44", "1.45"))
    assert (old["Container"], old["ContainerConfig"]["Hostname"], old["ContainerConfig"]["Cmd"]) == ("abc", "h", ["x"])
    assert old["ContainerConfig"]["User"] == ""
    assert not {"Container", "ContainerConfig"} & set(new)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("rules/none", 404, "No such image: rules/none:latest"),
        ("0" * 64, 404, f"No such image: sha256:{'0' * 64}"),
        (f"rules/one@{ONE.id}", 404, f"No such image: rules/one@{ONE.id}"),
        ("rules/ONE", 400, "invalid reference format: repository name (rules/ONE) must be lowercase"),
        ("rules/one:1:2", 400, "invalid reference format"),
    ],
)
def test_what_names_no_image_is_told_as_docker_does(load: Any, api: Any, name: str, status: int, message: str) -> None:
    load(ONE)
    answer = api("GET", f"/images/{name}/json")
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize("call", ["json", "history", "get"])
def test_an_image_of_another_platform_is_not_the_wanted_one(load: Any, api: Any, call: str) -> None:
    load(TWO)
    native, other = ({"os": "linux", "architecture": name} for name in (json.loads(TWO.raw)["architecture"], OTHER))
    targets = [f"/images/rules/two/{call}?{urlencode({'platform': json.dumps(wanted)})}" for wanted in (native, other)]
    fits, fails = (api("GET", target) for target in targets)
    assert fits.status == 200
    assert fails.status == (500 if call == "get" else 404)
    assert fails.message == (
        f"no suitable export target found for platform linux/{OTHER}"
        if call == "get"
        else f"image with reference rules/two was found but its platform (linux/{native['architecture']}) "
        f"does not match the specified platform (linux/{OTHER})"
    )
    answer = api("GET", f"/images/rules/two/{call}?platform=linux/amd64")
    assert (answer.status, answer.message) == (
        400,
        "failed to parse platform: invalid character 'l' looking for beginning of value",
    )
    assert api("GET", f"/images/rules/two/{call}?platform=linux/amd64", version="1.47").status == 200


# --- tag ---


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("repo=UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("repo=x&tag=-", "invalid tag format"),
        (f"repo=x@sha256:{'a' * 64}", "cannot import digest reference"),
        ("repo=sha256&tag=1", "refusing to create an ambiguous tag using digest algorithm as name"),
    ],
)
def test_a_name_that_can_not_be_given_is_refused(load: Any, api: Any, query: str, message: str) -> None:
    load(TWO)
    answer = api("POST", f"/images/rules/two/tag?{query}")
    assert (answer.status, answer.message) == (400, message)
    assert api("POST", "/images/rules/two/tag").status == 200, "without a repository nothing happens"
    assert _listed(api)[0]["RepoTags"] == ["rules/two:latest"]


def test_a_tag_moves_and_its_time_is_kept(load: Any, api: Any) -> None:
    load(ONE, TWO)
    before = time.time()
    assert api("POST", "/images/rules/two/tag?repo=rules/one&tag=1").status == 201
    assert api("POST", "/images/rules/two/tag?repo=rules/new:3").status == 201
    one, two = (api("GET", f"/images/{image.id}/json").json for image in (ONE, TWO))
    assert one["RepoTags"] == ["rules/one:2", "rules.example/one:1"]
    assert two["RepoTags"] == ["rules/new:3", "rules/one:1", "rules/two:latest"]
    assert one["Metadata"]["LastTagTime"].startswith("0001")
    assert two["Metadata"]["LastTagTime"] > "2024"
    assert _events(api, before) == [("tag", TWO.id, "rules/one:1"), ("tag", TWO.id, "rules/new:3")]


# --- remove ---


def test_a_name_goes_first_and_the_image_with_its_last(load: Any, api: Any) -> None:
    load(ONE, TWO)
    before = time.time()
    answers = [api("DELETE", f"/images/{name}") for name in ("rules/one:1", "rules/one:1", ONE.short_id)]
    assert [answer.status for answer in answers] == [200, 404, 409]
    assert answers[0].json == [{"Untagged": "rules/one:1"}]
    assert answers[2].message == (
        f"conflict: unable to delete {ONE.short_id} (must be forced) - image is referenced in multiple repositories"
    )
    assert api("DELETE", f"/images/{ONE.short_id}?force=1").json == [
        {"Untagged": "rules/one:2"},
        {"Untagged": "rules.example/one:1"},
        {"Deleted": ONE.id},
    ]
    assert api("DELETE", "/images/rules/two").json == [
        {"Untagged": "rules/two:latest"},
        {"Deleted": TWO.id},
        {"Deleted": TWO.chain[1]},
        {"Deleted": TWO.chain[0]},
    ]
    assert [action for action, _, _ in _events(api, before)] == ["untag", "untag", "untag", "delete", "untag", "delete"]
    assert [name for _, _, name in _events(api, before)] == [ONE.id] * 4 + [TWO.id] * 2


def test_an_id_stands_for_one_tag_but_not_for_two(load: Any, api: Any) -> None:
    load(MadeImage([A], ["rules/one:1", "rules/one:2"], {"Labels": {OURS: ""}}), TWO)
    (one,) = (image["Id"] for image in _listed(api) if image["Id"] != TWO.id)
    assert api("DELETE", f"/images/{one}").status == 409
    assert api("DELETE", f"/images/{TWO.id}").json[0] == {"Untagged": "rules/two:latest"}


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("names", [1, 2, 0])
def test_an_image_that_a_container_has_is_protected(api: Any, busybox: str, running: bool, names: int) -> None:
    container = api("POST", "/containers/create", {"Image": busybox, "Cmd": ["sleep", "60"], "Labels": {OURS: ""}}).json["Id"]
    image = api("POST", f"/commit?container={container}&changes=LABEL%20{OURS}=", {}).json["Id"]
    api("DELETE", f"/containers/{container}?force=1")
    for number in range(names):
        assert api("POST", f"/images/{image}/tag?repo=rules/used&tag={number}").status == 201
    container = api("POST", "/containers/create", {"Image": image, "Cmd": ["sleep", "60"]}).json["Id"]
    if running:
        assert api("POST", f"/containers/{container}/start").status == 204
    short, user = image[7:19], container[:12]
    kind, hint = ("running", "cannot be forced") if running else ("stopped", "must be forced")

    by_id = api("DELETE", f"/images/{image}")
    assert by_id.status == 409
    assert by_id.message == f"conflict: unable to delete {short} " + (
        "(must be forced) - image is referenced in multiple repositories"
        if names == 2 and not running
        else f"({hint}) - image is being used by {kind} container {user}"
    )
    if names == 1:
        by_name = api("DELETE", "/images/rules/used:0")
        assert (by_name.status, by_name.message) == (
            409,
            f'conflict: unable to remove repository reference "rules/used:0" (must force) - container {user} '
            f"is using its referenced image {short}",
        )
        forced = api("DELETE", "/images/rules/used:0?force=1").json
        assert forced[0] == {"Untagged": "rules/used:0"}
        assert ({"Deleted": image} in forced) is not running
    elif names == 2:
        assert api("DELETE", "/images/rules/used:0").json == [{"Untagged": "rules/used:0"}]
    else:
        assert api("DELETE", f"/images/{image}?force=1").status == (409 if running else 200)


@pytest.fixture(name="family")
def _family(load: Any, api: Any) -> tuple[str, str, str]:
    """Ids of a named image, an image made of it and one made of that, which has no name."""
    load(MadeImage([A], ["rules/base:1"], {"Labels": {OURS: ""}, "Cmd": ["x"]}))
    ids = [_listed(api)[0]["Id"]]
    for repository in ("&repo=rules/child&tag=1", ""):
        container = api("POST", "/containers/create", {"Image": ids[-1], "Cmd": ["x"]}).json["Id"]
        # A container's own layer must not be empty, or the image has no layer of its own.
        assert api("PUT", f"/containers/{container}/archive?path=/", archive=small_layer(f"f{len(ids)}")).status == 200
        ids.append(api("POST", f"/commit?container={container}{repository}", {}).json["Id"])
        assert api("DELETE", f"/containers/{container}").status == 204
    return ids[0], ids[1], ids[2]


def test_an_image_that_others_were_made_of_stays(family: tuple[str, str, str], api: Any) -> None:
    base, child, grandchild = family
    assert {image["Id"]: image["ParentId"] for image in _listed(api)} == {base: "", child: base, grandchild: child}
    for image in (base, child):
        answer = api("DELETE", f"/images/{image}?force=1")
        message = f"conflict: unable to delete {image[7:19]} (cannot be forced) - image has dependent child images"
        assert (answer.status, answer.message) == (409, message)
    # By name only the name goes; what has none and has children is no image of its own any more.
    assert api("DELETE", "/images/rules/base:1").json == [{"Untagged": "rules/base:1"}]
    assert {image["Id"] for image in _listed(api)} == {child, grandchild}
    assert {image["Id"] for image in _listed(api, all=1)} == {base, child, grandchild}
    assert {image["Id"] for image in _listed(api, {"dangling": ["true"]}, all=1)} == {grandchild}
    history = api("GET", f"/images/{grandchild}/history").json
    assert [(step["Id"], step["Tags"]) for step in history] == [(grandchild, None), (child, ["rules/child:1"]), (base, None)]


def test_parents_that_nobody_names_go_with_their_last_child(family: tuple[str, str, str], api: Any) -> None:
    base, child, grandchild = family
    chain = [api("GET", f"/images/{image}/json").json["RootFS"]["Layers"][-1] for image in family]
    assert api("DELETE", "/images/rules/child:1").json == [{"Untagged": "rules/child:1"}]
    before = time.time()
    records = api("DELETE", f"/images/{grandchild}").json
    assert [next(iter(record)) for record in records] == ["Deleted"] * 4
    assert [records[0]["Deleted"], records[2]["Deleted"]] == [grandchild, child], "each with its layer"
    assert _events(api, before) == [("delete", grandchild, grandchild), ("delete", child, child)]
    assert api("DELETE", "/images/rules/base:1").json[1:] == [{"Deleted": base}, {"Deleted": chain[0]}]


def test_parents_stay_when_the_client_wants_it(family: tuple[str, str, str], api: Any) -> None:
    base, child, grandchild = family
    api("DELETE", "/images/rules/child:1")
    assert api("DELETE", f"/images/{grandchild}?noprune=1").json[0] == {"Deleted": grandchild}
    assert {image["Id"] for image in _listed(api)} == {base, child}


# --- prune ---


@pytest.mark.parametrize(
    ("filters", "left", "reclaimed"),
    [
        ({}, "two one", 3000),
        ({"dangling": ["true"]}, "two one", 3000),
        ({"dangling": ["false"]}, "", 6000),
        ({"dangling": ["false"], "label": [OURS, "k=v"]}, "nameless two", 0),
        ({"dangling": ["false"], "label!": ["k=v"]}, "one", 5000),
        ({"dangling": ["false"], "label!": ["k=v", "team=b"]}, "", 6000),
        ({"dangling": ["false"], "until": ["2021-06-01"]}, "nameless", 3000),
        ({"until": ["2021-06-01"]}, "nameless two one", 0),
    ],
)
def test_unused_images_are_pruned(load: Any, api: Any, filters: dict[str, Any], left: str, reclaimed: int) -> None:
    load(ONE, TWO, NAMELESS)
    before = time.time()
    report = api("POST", f"/images/prune?{urlencode({'filters': json.dumps({'label': [OURS], **filters})})}").json
    assert _ids(_listed(api)) == left.split()
    assert report["SpaceReclaimed"] == reclaimed
    events = _events(api, before)
    assert events[-1] == ("prune", "", "")
    assert bool(report["ImagesDeleted"]) is (len(events) > 1)
    if "two" not in left:
        layers = [TWO.chain[1]] if "one" in left else TWO.chain
        assert all({"Deleted": layer} in report["ImagesDeleted"] for layer in layers)


@pytest.mark.parametrize(
    ("filters", "status", "message"),
    [
        ({"reference": ["x"]}, 400, "invalid filter 'reference'"),
        ({"dangling": ["maybe"]}, 400, "invalid filter 'dangling=[maybe]'"),
        ({"until": ["bad"]}, 500, 'failed to parse value as time or duration: "bad"'),
        ({"until": ["1h", "2h"]}, 500, "more than one until filter specified"),
    ],
)
def test_a_prune_that_is_not_understood_removes_nothing(
    load: Any, api: Any, filters: dict[str, Any], status: int, message: str
) -> None:
    load(NAMELESS)
    answer = api("POST", f"/images/prune?{urlencode({'filters': json.dumps(filters)})}")
    assert (answer.status, answer.message) == (status, message)
    assert _ids(_listed(api)) == ["nameless"]


def test_a_prune_spares_what_containers_have_but_not_its_second_name(load: Any, api: Any) -> None:
    load(ONE, TWO)
    for image in (ONE.id, TWO.id):
        assert api("POST", "/containers/create", {"Image": image, "Cmd": ["x"]}).status == 201
    api("POST", f"/images/prune?{_filtered(dangling='false', label=OURS)}")
    two, one = _listed(api)
    assert two["RepoTags"] == ["rules/two:latest"]
    assert len(one["RepoTags"]) == 1, "names are removed until the last, which the container protects"
