"""The engine's JSON as the app's values."""

from kitepy.client import BuildFailed, BuildStep, BuildUpload
from kitepy.gui.gateway import translate
from kitepy.gui.models import build as model
from kitepy.gui.models.container import Port, Status
from kitepy.gui.models.preview import excerpt_of, title_of

LISTED = {
    "Id": "f" * 64,
    "Names": ["/web"],
    "Image": "hello-web",
    "State": "exited",
    "Status": "Exited (137) 3 minutes ago",
    "Created": 1700000000,
    "Ports": [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp"},
        {"PrivatePort": 443, "Type": "tcp"},
    ],
    "Labels": None,
}


def test_a_listed_container_is_read() -> None:
    container = translate.container_from_list(LISTED)
    assert (container.name, container.status, container.exit_code) == ("web", Status.EXITED, 137)
    assert container.ports == (Port(80, "tcp", "0.0.0.0", 32768), Port(443, "tcp"))


def test_missing_and_odd_fields_do_no_harm() -> None:
    container = translate.container_from_list({"Id": "1", "Names": [], "State": "sleepwalking", "Ports": None})
    assert (container.name, container.status, container.exit_code) == ("", Status.CREATED, None)


def test_an_inspected_container_is_read() -> None:
    details = translate.details_from_inspect(
        {
            "Id": "1",
            "Name": "/web",
            "Path": "sh",
            "Args": ["-c", "echo hi"],
            "State": {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "Error": "x"},
            "Config": {"Image": "i", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Tty": True},
            "NetworkSettings": {
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": None},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
            },
            "Mounts": [{"Type": "volume", "Name": "data", "Destination": "/data", "RW": False}],
        }
    )
    assert details.command == "sh -c 'echo hi'"
    assert details.out_of_memory
    assert details.has_tty
    assert details.address == "172.17.0.2"
    assert details.container.ports == (Port(80, "tcp", "0.0.0.0", 8080), Port(53, "udp"))
    assert (details.mounts[0].source, details.mounts[0].read_only) == ("data", True)


def test_an_image_without_a_name_goes_by_its_id() -> None:
    image = translate.image_from_list({"Id": "sha256:0123456789abcdef", "RepoTags": ["<none>:<none>"], "Containers": -1})
    assert image.tags == ()
    assert image.reference == "sha256:0123456789abcdef"
    assert image.title == "untagged 0123456789ab"
    assert image.containers == 0


def test_events_lose_the_command_behind_their_action() -> None:
    event = translate.event_from_message({"Type": "container", "Action": "exec_start: sh -c x", "Actor": {"ID": "1"}})
    assert (event.action, event.id) == ("exec_start", "1")


def test_build_events_are_the_app_s_own() -> None:
    assert translate.build_event(BuildUpload(1, 2)) == model.ContextSent(1, 2)
    assert translate.build_event(BuildStep(1, 2, "FROM x")) == model.StepStarted(1, 2, "FROM x")
    assert translate.build_event(BuildFailed("no", 3)) == model.BuildFailed("no")


def test_a_page_is_told_by_its_title_and_first_words() -> None:
    page = "<html><head><title> A &amp; B\n</title><style>p{}</style></head><body><script>x()</script><p>Hello <b>you</b></p>"
    assert title_of(page) == "A & B"
    assert excerpt_of(page, "text/html") == "Hello you"
    assert excerpt_of("\0\1", "image/png") == ""
    assert len(excerpt_of("word " * 200, "text/plain")) <= 240
