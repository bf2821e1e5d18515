"""What the app makes of names, of progress messages, of failures of registries, and of what it remembers of pulls."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitepy.gui.models.discover import (
    Change,
    Hit,
    ImageConfig,
    LocalImage,
    PullPreview,
    RepositoryView,
    Search,
    Source,
    SourcePhase,
    Tag,
    TagsPage,
    answered,
    changes,
    preferred_tag,
    with_page,
)
from kitepy.gui.models.pull import Pull, PullPhase, failed, finished, from_memory, paused, resumed, to_memory
from kitepy.gui.models.reference import Reference, clean_query, parse_reference, registry_host, split_query
from kitepy.gui.models.registry import EngineRegistries, Keeper, Login, Registries, put_together, trouble_with_host
from kitepy.gui.models.transfer import LayerPhase, Transfer, TransferMessage, advance, foreseen, progress_words, with_sizes
from kitepy.gui.models.trouble import Cause, EnginePlaces, Remedy, explain, refused_login


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "familiar"),
    [
        ("nginx", "docker.io", "library/nginx", "", "nginx"),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", "nginx:1.27"),
        ("docker.io/library/nginx", "docker.io", "library/nginx", "", "nginx"),
        ("index.docker.io/team/app:x", "docker.io", "team/app", "x", "team/app:x"),
        ("localhost/app", "localhost", "app", "", "localhost/app"),
        ("localhost:5000/a/b/c:1", "localhost:5000", "a/b/c", "1", "localhost:5000/a/b/c:1"),
        ("[::1]:5000/a", "[::1]:5000", "a", "", "[::1]:5000/a"),
        ("team/app", "docker.io", "team/app", "", "team/app"),
    ],
)
def test_names_are_taken_apart_as_the_engine_does_it(text, registry, repository, tag, familiar) -> None:
    parsed = parse_reference(text)
    assert parsed == Reference(registry, repository, tag)
    assert parsed.familiar == familiar
    assert parsed.pulled == (familiar if tag else f"{familiar}:latest")


@pytest.mark.parametrize(
    "text", ["", "Nginx", "a//b", "a:b:c", "-a", "a@sha256:12", "ab" * 130, "f" * 64, "x y", "http://a/b", "a/../b", "a:.x", "ü"]
)
def test_what_is_no_name_is_not_taken_for_one(text: str) -> None:
    assert parse_reference(text) is None


def test_a_digest_takes_the_place_of_a_tag() -> None:
    digest = "sha256:" + "ab" * 32
    parsed = parse_reference(f"ghcr.io/team/app:1@{digest}")
    assert parsed == Reference("ghcr.io", "team/app", "", digest)
    assert parsed.pulled == f"ghcr.io/team/app@{digest}"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("hub.docker.com", "docker.io"),
        (" Localhost:5000 ", "localhost:5000"),
        ("bad host", ""),
        ("", ""),
        ("a_b", ""),
        ("x@y", ""),
    ],
)
def test_a_registry_is_understood_however_it_is_written(text: str, host: str) -> None:
    assert registry_host(text) == host
    assert bool(trouble_with_host(text, ())) == (not host)


def test_a_pasted_command_means_the_image_it_names() -> None:
    assert clean_query(" sudo docker pull nginx:1.27 ") == "nginx:1.27"
    assert clean_query("docker run ghcr.io/a/b") == "ghcr.io/a/b"
    assert clean_query("docker registry") == "docker registry"


def test_a_query_with_a_host_asks_that_registry_alone() -> None:
    assert split_query("localhost:5000/we") == ("localhost:5000", "we")
    assert split_query("https://ghcr.io/") == ("ghcr.io", "")
    assert split_query("library/nginx") == ("", "library/nginx")


def follow(*messages: tuple[str, str, int, int], start: Transfer | None = None, step_s: float = 1.0) -> Transfer:
    transfer = start or Transfer()
    for number, (status, layer, current, total) in enumerate(messages):
        transfer = advance(transfer, TransferMessage(status, layer, current, total), number * step_s)
    return transfer


def test_a_pull_is_followed_from_the_first_message_to_the_last() -> None:
    begun = follow(
        ("Pulling from library/web", "latest", 0, 0),
        ("Pulling fs layer", "aaaaaaaaaaaa", 0, 0),
        ("Pulling fs layer", "bbbbbbbbbbbb", 0, 0),
        ("Already exists", "cccccccccccc", 0, 0),
        ("Waiting", "bbbbbbbbbbbb", 0, 0),
        ("Downloading", "aaaaaaaaaaaa", 250, 1000),
    )
    assert [layer.id[0] for layer in begun.layers] == ["a", "b", "c"]
    assert (begun.done_bytes, begun.total_bytes, begun.total_is_certain, begun.percent) == (250, 1000, False, 25)
    later = follow(
        ("Download complete", "aaaaaaaaaaaa", 0, 0),
        ("Downloading", "bbbbbbbbbbbb", 1500, 3000),
        ("Extracting", "aaaaaaaaaaaa", 500, 1000),
        start=begun,
    )
    assert (later.done_bytes, later.total_bytes, later.total_is_certain, later.percent) == (2500, 4000, True, 62)
    assert [layer.words for layer in later.layers] == ["Unpacking 50%", "Downloading 1.5 kB of 3.0 kB", "Already there"]
    all_here = follow(("Verifying Checksum", "bbbbbbbbbbbb", 0, 0), ("Download complete", "bbbbbbbbbbbb", 0, 0), start=later)
    assert all_here.percent == 99  # unpacking comes after the last byte
    assert "unpacking" in progress_words(all_here, 9)
    done = follow(
        ("Pull complete", "aaaaaaaaaaaa", 0, 0),
        ("Pull complete", "bbbbbbbbbbbb", 0, 0),
        ("Digest: sha256:1234", "", 0, 0),
        ("Status: Downloaded newer image for web:latest", "", 0, 0),
        start=all_here,
    )
    assert (done.percent, done.digest) == (100, "sha256:1234")
    assert done.status.startswith("Status: Downloaded")


def test_a_push_is_followed_by_the_same_values() -> None:
    pushed = follow(
        ("The push refers to repository [localhost:5000/web]", "", 0, 0),
        ("Preparing", "aaaaaaaaaaaa", 0, 0),
        ("Preparing", "bbbbbbbbbbbb", 0, 0),
        ("Layer already exists", "bbbbbbbbbbbb", 0, 0),
        ("Pushing", "aaaaaaaaaaaa", 30, 100),
    )
    assert pushed.percent == 30
    assert pushed.layers[0].words == "Pushing 30 B of 100 B"
    assert follow(("Pushed", "aaaaaaaaaaaa", 0, 0), start=pushed).percent == 100
    mounted = follow(("Mounted from library/base", "bbbbbbbbbbbb", 0, 0), start=pushed)
    assert mounted.layers[1].words == "Mounted from library/base"


def test_what_was_foreseen_makes_the_total_stand_from_the_start() -> None:
    transfer = foreseen((("sha256:" + "a" * 64, 1000, False), ("sha256:" + "b" * 64, 500, True)))
    assert (transfer.total_bytes, transfer.percent, transfer.total_is_certain) == (1000, 0, True)
    moved = follow(("Downloading", "a" * 12, 100, 1000), ("Downloading", "a" * 12, 300, 1000), start=transfer)
    assert moved.rate_bytes_s(1.0) == pytest.approx(200)
    assert moved.remaining_s(1.0) == pytest.approx(3.5)
    assert progress_words(moved, 1.0) == "300 B of 1.0 kB · 200 B/s · 4 s left"
    # Nothing has come for a while: the rate falls, and nobody is promised an end.
    assert moved.rate_bytes_s(5.0) == pytest.approx(40)
    assert moved.remaining_s(60.0) is None


def test_sizes_that_become_known_later_complete_the_total() -> None:
    begun = follow(("Pulling fs layer", "a" * 12, 0, 0), ("Downloading", "b" * 12, 5, 10), ("Waiting", "d" * 12, 0, 0))
    assert not begun.total_is_certain
    expected = foreseen((("a" * 64, 100, False), ("b" * 64, 999, False), ("c" * 64, 7, True), ("d" * 64, 50, False)))
    known = with_sizes(begun, expected)
    assert (known.done_bytes, known.total_bytes, known.total_is_certain) == (5, 160, True)
    assert [layer.id[0] for layer in known.layers] == ["a", "b", "d", "c"]


def test_a_login_that_was_tried_is_not_told_to_log_in() -> None:
    assert refused_login("unauthorized: authentication required", "r.example", "ada").cause is Cause.BAD_LOGIN
    assert refused_login("connection refused", "r.example", "ada").cause is Cause.UNREACHABLE


def test_a_layer_that_begins_anew_makes_no_negative_rate() -> None:
    transfer = follow(
        ("Downloading", "a" * 12, 900, 1000), ("Downloading", "a" * 12, 10, 1000), ("Downloading", "a" * 12, 20, 1000)
    )
    assert transfer.done_bytes == 20
    assert transfer.rate_bytes_s(2.0) == pytest.approx(10)


def test_a_registry_that_asks_to_wait_is_waited_for_in_sight() -> None:
    transfer = follow(("Rate limited by localhost:5000, trying again in 12 s", "", 0, 0))
    assert transfer.wait_until_s == 12
    assert progress_words(transfer, 4.0) == "Goes on in 8 s: the registry allows no more for now"
    layers = follow(("Pulling fs layer", "a" * 12, 0, 0), ("Retrying in 5 seconds", "a" * 12, 0, 0))
    assert layers.layers[0].phase is LayerPhase.RETRYING
    assert layers.wait_until_s == 6
    assert layers.layers[0].words == "Retrying in 5 seconds"
    going_on = advance(layers, TransferMessage("Downloading", "a" * 12, 1, 10), 7)
    assert going_on.wait_until_s is None
    assert going_on.layers[0].words == "Downloading 1 B of 10 B"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Downloading", "Extracting", "Pull complete", "Waiting", "Pushing", "Retrying in 9 s", "x", ""]),
            st.sampled_from(["", "a", "b", "latest"]),
            st.integers(-5, 10**15),
            st.integers(-5, 10**15),
        ),
        max_size=30,
    )
)
def test_no_order_of_messages_makes_nonsense_of_a_transfer(messages) -> None:
    transfer = follow(*messages, step_s=0.3)
    assert transfer.done_bytes >= 0
    assert transfer.percent is None or 0 <= transfer.percent <= 100
    assert all(0.0 <= layer.share <= 1.0 and 0.0 <= layer.unpacked <= 1.0 for layer in transfer.layers)
    assert progress_words(transfer, 100.0)


def test_more_layers_than_any_image_has_are_not_kept() -> None:
    transfer = Transfer()
    for number in range(1100):
        transfer = advance(transfer, TransferMessage("Waiting", f"{number:012x}"), 0)
    assert len(transfer.layers) == 1000


@pytest.mark.parametrize(
    ("message", "subject", "user", "cause", "says", "remedy"),
    [
        (
            "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested access to "
            "the resource is denied",
            "nope:latest", "", Cause.DENIED, "check the name, or log in", Remedy.LOG_IN,
        ),
        ("pull access denied for team/x, repository does not exist", "team/x", "ada", Cause.DENIED, "ada may not", Remedy.SEARCH),
        ("no basic auth credentials", "localhost:5000/x:1", "", Cause.DENIED, "log in", Remedy.LOG_IN),
        (
            "manifest for nginx:9.9 not found: manifest unknown: manifest unknown",
            "nginx:9.9", "", Cause.UNKNOWN_TAG, "nginx has no tag 9.9", Remedy.SHOW_TAGS,
        ),
        ("name unknown: repository name not known to registry", "r.example/x", "", Cause.UNKNOWN_NAME, "written", Remedy.SEARCH),
        ("toomanyrequests: You have reached your pull rate limit.", "nginx", "", Cause.LIMIT, "logged in may", Remedy.LOG_IN),
        ("toomanyrequests: slow down, try again in 31 s", "nginx", "ada", Cause.LIMIT, "31 seconds", Remedy.RETRY),
        (
            'Get "https://reg.example/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
            "reg.example/x", "", Cause.CERTIFICATE, "authority that isn't known", Remedy.RETRY,
        ),
        ("x509: certificate has expired or is not yet valid", "reg.example/x", "", Cause.CERTIFICATE, "clock", Remedy.RETRY),
        ("x509: certificate is valid for a.b, not reg.example", "reg.example/x", "", Cause.CERTIFICATE, "another", Remedy.RETRY),
        ("http: server gave HTTP response to HTTPS client", "reg.example/x", "", Cause.PLAIN_HTTP, "insecure-registry reg.ex",
         Remedy.RETRY),
        ("dial tcp: lookup registry-1.docker.io: no such host", "nginx", "", Cause.NO_NETWORK, "on this machine", Remedy.RETRY),
        ("dial tcp: lookup reg.exampel: no such host", "reg.exampel/x", "", Cause.UNREACHABLE, "how it is written", Remedy.RETRY),
        ("connect: network is unreachable", "nginx", "", Cause.NO_NETWORK, "no network", Remedy.RETRY),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", "localhost:5000", "", Cause.UNREACHABLE, "answer", Remedy.RETRY),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "nginx", "", Cause.PLATFORM, "isn't made for",
         Remedy.SHOW_TAGS),
        ("write /x: no space left on device", "nginx", "", Cause.DISK, "kept", Remedy.SHOW_IMAGES),
        ("filesystem layer verification failed for digest sha256:1", "nginx", "", Cause.DAMAGED, "Nothing of it", Remedy.RETRY),
        ("unauthorized: incorrect username or password", "docker.io", "ada", Cause.BAD_LOGIN, "of ada", Remedy.LOG_IN),
        ("invalid registry endpoint https://r.example/v1/: connection refused. If this private registry supports only HTTPS "
         "with an unknown CA certificate, …", "r.example/x", "", Cause.UNREACHABLE, "answer", Remedy.RETRY),
        ("something new", "nginx", "", Cause.OTHER, "something new", Remedy.RETRY),
    ],
)  # fmt: skip
def test_failures_are_told_in_the_user_s_terms_with_the_next_step(message, subject, user, cause, says, remedy) -> None:
    host_only = subject in ("docker.io", "localhost:5000")
    trouble = explain(message, subject if host_only else parse_reference(subject), user)
    assert trouble.cause is cause
    assert says in trouble.sentence
    assert remedy in trouble.remedies
    assert trouble.original == message


def test_an_unknown_authority_says_where_its_certificate_belongs() -> None:
    trouble = explain(
        "x509: certificate signed by unknown authority",
        "reg.example:5000",
        places=EnginePlaces("/home/ada/.config/docker/certs.d"),
    )
    assert trouble.command == "/home/ada/.config/docker/certs.d/reg.example:5000/ca.crt"


def test_unfinished_pulls_come_back_paused_with_what_they_had() -> None:
    transfer = follow(
        ("Downloading", "a" * 12, 400, 1000), ("Pull complete", "b" * 12, 0, 0), start=foreseen((("b" * 64, 50, False),))
    )
    running = Pull("pull-1", "nginx:latest", "linux/arm64", True, transfer=transfer)
    over = finished(Pull("pull-2", "busybox:latest"))
    broken = failed(Pull("pull-3", "postgres:16"), explain("connection reset", Reference("docker.io", "library/postgres", "16")))
    hopeless = failed(Pull("pull-4", "nope:1"), explain("manifest unknown", Reference("docker.io", "library/nope", "1")))
    idle = failed(finished(replace(running, reference="idle:1")), explain("port is taken", "docker.io"))
    back = from_memory(to_memory([running, over, broken, hopeless, idle]))
    assert [(pull.reference, pull.platform, pull.run, pull.phase) for pull in back] == [
        ("nginx:latest", "linux/arm64", True, PullPhase.PAUSED),
        ("postgres:16", "", False, PullPhase.PAUSED),
    ]
    assert (back[0].transfer.done_bytes, back[0].transfer.total_bytes) == (450, 1050)
    assert [pull.interrupted for pull in back] == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, null, {}]",
        '{"a": 1}',
        '[{"reference": "B AD"}]',
        '[{"reference": 5}]',
        "[[[[",
        '[{"reference":"a","layers":[1,[2]]}]',
    ],
)
def test_a_memory_that_was_tampered_with_does_no_harm(text: str) -> None:
    assert all(pull.reference == "a" and not pull.transfer.layers for pull in from_memory(text))


def test_only_so_many_pulls_are_remembered_and_none_twice() -> None:
    entries = [{"reference": f"a{number % 80}"} for number in range(300)]
    assert len(from_memory(json.dumps(entries))) == 50


def test_a_pull_that_was_paused_goes_on_without_its_old_rate() -> None:
    transfer = follow(("Downloading", "a" * 12, 100, 1000), ("Rate limited, trying again in 100 s", "", 0, 0))
    stopped = paused(Pull("p", "nginx:latest", transfer=transfer))
    assert (stopped.phase, stopped.transfer.wait_until_s, stopped.resumable) == (PullPhase.PAUSED, None, True)
    again = resumed(stopped, 50)
    assert (again.phase, again.transfer.done_bytes, again.transfer.rate_bytes_s(51)) == (PullPhase.PULLING, 100, 0)


def test_results_of_all_registries_are_ranked_and_late_answers_dropped() -> None:
    search = Search("nginx", (Source("docker.io"), Source("localhost:5000")))
    search = answered(
        search,
        "nginx",
        "docker.io",
        [
            Hit("docker.io", "jc21/nginx-proxy", stars=9000),
            Hit("docker.io", "someone/nginx", stars=10),
            Hit("docker.io", "library/nginx", stars=20000, official=True),
        ],
    )
    assert search.searching
    assert answered(search, "ngin", "localhost:5000", [Hit("localhost:5000", "old")]) == search
    search = answered(search, "nginx", "localhost:5000", [Hit("localhost:5000", "team/nginx")])
    assert [hit.repository for hit in search.hits] == ["library/nginx", "team/nginx", "someone/nginx", "jc21/nginx-proxy"]
    assert not search.searching


def test_being_offline_is_said_once_and_only_when_nobody_answered() -> None:
    away = explain("network is unreachable", "docker.io")
    search = Search("x", (Source("docker.io"), Source("localhost:5000")))
    search = answered(search, "x", "docker.io", trouble=away)
    assert not search.offline
    assert answered(search, "x", "localhost:5000", trouble=explain("connection refused", "localhost:5000")).offline
    assert not answered(search, "x", "localhost:5000", [Hit("localhost:5000", "x")]).offline
    assert [source.phase for source in search.sources] == [SourcePhase.FAILED, SourcePhase.SEARCHING]


@pytest.mark.parametrize(
    ("query", "exact"),
    [("nginx", ""), ("nginx:1.27", "nginx:1.27"), ("ghcr.io/a/b", "ghcr.io/a/b"), ("team/app", "team/app"), ("two words", "")],
)
def test_a_name_that_was_typed_whole_can_be_used_without_a_search(query: str, exact: str) -> None:
    found = Search(query).exact
    assert (found.familiar if found else "") == exact


def test_differences_to_the_local_image_are_named() -> None:
    before = ImageConfig("root", ("80/tcp",), ("A=1", "B=2", "P=same"), (), ("run",))
    after = ImageConfig("app", ("8080/tcp",), ("A=3", "C=", "P=same"), (), ("run", "-x"))
    assert changes(before, after) == (
        Change("User", "root", "app"),
        Change("Command", "run", "run -x"),
        Change("Ports", "80/tcp", "8080/tcp"),
        Change("A", "1", "3"),
        Change("B", "2", ""),
        Change("C", "", "empty"),
    )
    assert changes(ImageConfig(), ImageConfig("root")) == ()


def test_a_preview_knows_what_is_here_already() -> None:
    local = LocalImage("sha256:aa", digests=("sha256:index",))
    assert PullPreview("x", "sha256:index", "sha256:other", local=local).is_here
    assert PullPreview("x", "sha256:new", "sha256:aa", local=local).is_here
    assert not PullPreview("x", "sha256:new", "sha256:bb", local=local).is_here
    assert [PullPreview("x", config=ImageConfig(user)).runs_as_root for user in ("", "0:0", "root", "1000", "app")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_pages_of_tags_are_put_together_without_repeating_one() -> None:
    view = with_page(RepositoryView(), TagsPage((Tag("a"), Tag("b"), Tag("a")), "b"), first=True)
    assert ([tag.name for tag in view.tags], view.next) == (["a", "b"], "b")
    view = with_page(view, TagsPage((Tag("b"), Tag("latest"))), first=False)
    assert ([tag.name for tag in view.tags], view.next) == (["a", "b", "latest"], "")
    assert (preferred_tag(view.tags), preferred_tag(view.tags, "b"), preferred_tag((), "x")) == ("latest", "b", "x")


def test_registries_come_from_what_was_added_and_from_logins() -> None:
    logins = [Login("https://index.docker.io/v1/", "ada", Keeper.DOCKER), Login("ghcr.io", "ada", Keeper.KEYRING)]
    known = put_together(
        Registries(), ["localhost:5000", "bad host"], logins, EngineRegistries(("reg.example",), ("https://mirror",))
    ).known
    assert [(each.host, each.account, each.insecure, each.added) for each in known] == [
        ("docker.io", "ada", False, False),
        ("ghcr.io", "ada", False, False),
        ("localhost:5000", "", True, True),
    ]
    assert known[0].mirrors == ("https://mirror",)
    assert not known[0].can_go
