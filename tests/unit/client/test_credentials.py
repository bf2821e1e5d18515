"""Logins at registries: where they are found, kept and forgotten, and what broken or hostile keepers do."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from base64 import b64encode, urlsafe_b64decode
from pathlib import Path

import pytest

from kitepy.client.credentials import CredentialStore, Place, RegistryCredentials, registry_of
from kitepy.client.docker_config import host_of
from kitepy.client.errors import Invalid, ServerFailure
from kitepy.client.secret_service import SecretService

HUB = "https://index.docker.io/v1/"
ADA = RegistryCredentials("ada", "pass:word é")
TOKEN = RegistryCredentials("ada", "", "refresh-me")

HELPER = f"""#!{sys.executable} -SE
import json, os, sys
file = os.environ["KEPT"]
kept = json.load(open(file)) if os.path.exists(file) else {{}}
verb, request = sys.argv[1], sys.stdin.read()
if verb == "store":
    document = json.loads(request)
    kept[document["ServerURL"]] = [document["Username"], document["Secret"]]
elif verb == "list":
    print(json.dumps({{server: user for server, (user, _) in kept.items()}}))
elif request.strip() not in kept:
    print("credentials not found in native keychain")
    sys.exit(1)
elif verb == "get":
    user, secret = kept[request.strip()]
    print(json.dumps({{"ServerURL": request.strip(), "Username": user, "Secret": secret}}))
else:
    del kept[request.strip()]
json.dump(kept, open(file, "w"))
"""


class Home:
    """A user's home directory with programs in PATH, and what is kept in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = directory / "bin"
        self.programs.mkdir()
        self.kept = directory / "kept.json"
        self.config = directory / ".docker" / "config.json"
        self.environment = {"HOME": str(directory), "PATH": str(self.programs), "KEPT": str(self.kept)}

    def program(self, name: str, text: str = HELPER) -> None:
        file = self.programs / name
        file.write_text(text)
        file.chmod(0o755)

    def configure(self, **document: object) -> None:
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(json.dumps(document))

    def store(self, keyring: Keyring | None = None, timeout_s: float = 10) -> CredentialStore:
        return CredentialStore(self.environment, SecretService(keyring or no_keyring, timeout_s), timeout_s)

    def everything(self) -> str:
        return "".join(file.read_text() for file in self.directory.rglob("*") if file.is_file() and file != self.kept)


class Keyring:
    """A keyring in memory, as the library's backends are."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], str] = {}
        self.broken = ""

    def __call__(self) -> Keyring:
        return self

    def get_password(self, service: str, username: str) -> str | None:
        if self.broken:
            raise RuntimeError(self.broken)
        return self.secrets.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.broken:
            raise RuntimeError(self.broken)
        self.secrets[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.secrets[service, username]


def no_keyring() -> object:
    raise RuntimeError("no session bus")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def basic(text: str) -> str:
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("", "docker.io"),
        (HUB, "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("Registry.Example:5000", "registry.example:5000"),
        ("https://registry.example/v2/", "registry.example"),
        ("http://[::1]:5000", "[::1]:5000"),
    ],
)
def test_every_spelling_of_a_registry_means_one_host(server: str, host: str) -> None:
    assert host_of(server) == host


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("busybox", "docker.io"),
        ("library/busybox:1", "docker.io"),
        ("docker.io/library/busybox", "docker.io"),
        ("localhost/a", "localhost"),
        ("127.0.0.1:5000/a/b@sha256:0", "127.0.0.1:5000"),
        ("quay.io/a", "quay.io"),
    ],
)
def test_the_name_of_an_image_tells_its_registry(image: str, host: str) -> None:
    assert registry_of(image) == host


def test_a_login_goes_to_the_keyring_and_nothing_of_it_into_a_file(home: Home) -> None:
    keyring = Keyring()
    saved = home.store(keyring).save("https://Registry.example/v2/", ADA)
    assert (saved.login.host, saved.login.place, saved.notes) == ("registry.example", Place.SECRET_SERVICE, ())
    again = home.store(keyring)
    assert again.find("registry.example").credentials == ADA
    assert [(entry.host, entry.username, entry.place) for entry in again.logins().entries] == [
        ("registry.example", "ada", Place.SECRET_SERVICE)
    ]
    assert not home.config.exists()
    assert "word" not in home.everything()
    assert again.erase("registry.example") == ()
    assert keyring.secrets == {}
    assert again.find("registry.example").credentials is None
    assert again.logins().entries == ()


def test_another_user_s_login_takes_the_first_one_s_place_in_the_keyring(home: Home) -> None:
    keyring = Keyring()
    store = home.store(keyring)
    store.save("docker.io", ADA)
    store.save("docker.io", RegistryCredentials("bob", "token:like"))
    assert store.find(HUB).credentials == RegistryCredentials("bob", "token:like")
    assert len(keyring.secrets) == 1
    store.save("docker.io", TOKEN)
    assert store.find("docker.io").credentials == TOKEN


def test_without_a_keyring_a_login_lives_as_long_as_the_program_and_says_why(home: Home) -> None:
    store = home.store()
    saved = store.save("quay.io", ADA)
    assert saved.login.place is Place.SESSION
    assert "no session bus" in saved.notes[0]
    assert store.find("quay.io").credentials == ADA
    assert home.store().find("quay.io").credentials is None
    assert home.everything() == ""
    with pytest.raises(ServerFailure, match="no session bus"):
        store.save("quay.io", ADA, Place.SECRET_SERVICE)
    choices = store.places("quay.io")
    assert [(choice.place, choice.is_available) for choice in choices] == [
        (Place.SESSION, True),
        (Place.SECRET_SERVICE, False),
    ]


def test_a_login_in_the_session_yields_to_one_that_lasts(home: Home) -> None:
    keyring = Keyring()
    store = home.store(keyring)
    store.save("quay.io", RegistryCredentials("bob", "x"), Place.SESSION)
    store.save("quay.io", ADA)
    assert [(entry.username, entry.place) for entry in store.logins().entries] == [("ada", Place.SECRET_SERVICE)]


def test_no_secret_goes_in_clear_into_docker_s_configuration(home: Home) -> None:
    with pytest.raises(ServerFailure, match="in clear"):
        home.store(Keyring()).save("quay.io", ADA, Place.DOCKER_CONFIG)
    assert home.everything() == ""


def test_logins_of_docker_s_command_line_are_honoured_in_all_their_forms(home: Home) -> None:
    home.configure(
        auths={
            HUB: {"auth": basic("ada:pass:word é")},
            "plain.example": {"username": "ada", "password": "p"},
            "https://token.example/v2/": {"auth": basic("ada:"), "identitytoken": "refresh-me"},
            "nul.example": {"auth": basic("ada:secret\0\0")},
            "empty.example": {},
        }
    )
    store = home.store()
    assert store.find("docker.io").credentials == ADA
    assert store.find("plain.example").credentials == RegistryCredentials("ada", "p")
    assert store.find("token.example").credentials == TOKEN
    assert store.find("nul.example").credentials == RegistryCredentials("ada", "secret")
    assert store.find("empty.example").credentials is None
    assert [(entry.host, entry.place) for entry in store.logins().entries] == [
        ("docker.io", Place.DOCKER_CONFIG),
        ("nul.example", Place.DOCKER_CONFIG),
        ("plain.example", Place.DOCKER_CONFIG),
        ("token.example", Place.DOCKER_CONFIG),
    ]


def test_a_login_in_the_environment_comes_before_docker_s_file(home: Home) -> None:
    home.configure(auths={"quay.io": {"auth": basic("file:x")}})
    home.environment["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {"quay.io": {"auth": basic("variable:x")}}})
    store = home.store()
    assert store.find("quay.io").credentials == RegistryCredentials("variable", "x")
    assert "DOCKER_AUTH_CONFIG" in store.erase("quay.io")[0]
    home.environment["DOCKER_AUTH_CONFIG"] = "{secret"
    assert store.find("quay.io").notes == ("DOCKER_AUTH_CONFIG is no JSON",)


def test_the_directory_that_the_environment_names_is_docker_s(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"auths": {"quay.io": {"auth": basic("ada:p")}}}))
    home.environment["DOCKER_CONFIG"] = str(other)
    assert home.store().find("quay.io").credentials == RegistryCredentials("ada", "p")


def test_a_helper_keeps_the_login_where_docker_s_command_line_finds_it(home: Home) -> None:
    home.program("docker-credential-vault")
    home.configure(credsStore="vault", HttpHeaders={"X": "y"}, psFormat="é")
    store = home.store(Keyring())
    assert store.places("docker.io")[0].helper == "vault"
    saved = store.save("docker.io", ADA)
    assert (saved.login.place, saved.login.helper, saved.notes) == (Place.HELPER, "vault", ())
    assert json.loads(home.kept.read_text()) == {HUB: ["ada", ADA.password]}
    document = json.loads(home.config.read_text())
    assert document == {"credsStore": "vault", "HttpHeaders": {"X": "y"}, "psFormat": "é", "auths": {HUB: {}}}
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o644  # as it was
    store.save("token.example", TOKEN)
    assert json.loads(home.kept.read_text())["token.example"] == ["<token>", "refresh-me"]
    again = home.store()
    assert again.find("docker.io").credentials == ADA
    assert again.find("token.example").credentials == RegistryCredentials("", "", "refresh-me")
    assert [(entry.host, entry.username, entry.place, entry.helper) for entry in again.logins().entries] == [
        ("docker.io", "ada", Place.HELPER, "vault"),
        ("token.example", "", Place.HELPER, "vault"),
    ]
    assert again.erase("docker.io") == ()
    assert set(json.loads(home.kept.read_text())) == {"token.example"}
    assert set(json.loads(home.config.read_text())["auths"]) == {"token.example"}


def test_a_registry_s_own_helper_comes_before_the_one_of_all(home: Home) -> None:
    home.program("docker-credential-vault")
    home.program("docker-credential-cloud", HELPER.replace('"KEPT"', '"CLOUD"'))
    home.environment["CLOUD"] = str(home.directory / "cloud.json")
    Path(home.environment["CLOUD"]).write_text(json.dumps({"cloud.example": ["robot", "s"]}))
    home.configure(credsStore="vault", credHelpers={"cloud.example": "cloud"})
    store = home.store()
    assert store.find("cloud.example").credentials == RegistryCredentials("robot", "s")
    assert store.save("other.example", ADA).login.helper == "vault"
    assert {(entry.host, entry.helper) for entry in store.logins().entries} == {
        ("cloud.example", "cloud"),
        ("other.example", "vault"),
    }


def test_where_nothing_is_configured_yet_the_usual_helper_is_taken_as_docker_login_does(home: Home) -> None:
    home.program("docker-credential-secretservice")
    store = home.store(Keyring())
    assert store.save("quay.io", ADA).login.helper == "secretservice"
    assert json.loads(home.config.read_text()) == {"auths": {"quay.io": {}}, "credsStore": "secretservice"}
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    assert home.store().find("quay.io").credentials == ADA


def test_docker_s_clear_login_is_left_alone_by_a_new_one_and_erased_by_a_logout(home: Home) -> None:
    home.program("docker-credential-secretservice")
    home.configure(auths={"quay.io": {"auth": basic("old:x")}, "b.example": {"auth": basic("b:x")}})
    keyring = Keyring()
    store = home.store(keyring)
    assert store.save("quay.io", ADA).login.place is Place.SECRET_SERVICE  # Docker keeps its logins in the file here
    assert store.find("quay.io").credentials == ADA
    assert store.erase("https://quay.io/v1/") == ()
    assert store.find("quay.io").credentials is None
    assert set(json.loads(home.config.read_text())["auths"]) == {"b.example"}


def test_a_configuration_that_is_a_link_stays_one(home: Home) -> None:
    home.configure(auths={"quay.io": {}})
    target = home.directory / "dotfiles.json"
    home.config.rename(target)
    home.config.symlink_to(target)
    home.store().erase("quay.io")
    assert home.config.is_symlink()
    assert json.loads(target.read_text()) == {"auths": {}}


HANGING = "#!/bin/sh\nwhile :; do read line < /dev/zero; done\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\necho not json secret\n", "no JSON object"),
        ("#!/bin/sh\necho '[1]'\n", "no JSON object"),
        ('#!/bin/sh\necho \'{"Username": 5, "Secret": []}\'\n', "no login"),
        ("#!/bin/sh\nwhile :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done\n", "without end"),
        ("#!/bin/sh\nexec 0<&-\necho the vault is locked\nexit 3\n", "failed: the vault is locked"),
        ("#!/bin/sh\nkill -9 $$\n", "failed: exit status -9"),
        ("#!/nowhere\n", "can't be started"),
        ("#!/bin/sh\nprintf '%0100000d' 0 | tr 0 '['\n", "no JSON object"),
    ],
)
def test_a_broken_helper_is_a_note_and_hides_no_login(home: Home, text: str, reason: str) -> None:
    home.environment["PATH"] += ":/usr/bin:/bin"
    home.program("docker-credential-broken", text)
    home.configure(credHelpers={"quay.io": "broken"}, auths={"quay.io": {"auth": basic("ada:p")}})
    found = home.store().find("quay.io")
    assert found.credentials == RegistryCredentials("ada", "p")
    assert reason in found.notes[0]
    assert "secret" not in found.notes[0]
    logins = home.store().logins()
    assert any(entry.place is Place.DOCKER_CONFIG for entry in logins.entries)


def test_a_helper_that_hangs_is_ended_with_what_it_started(home: Home) -> None:
    home.environment["PATH"] += ":/usr/bin:/bin"
    pid = home.directory / "pid"
    home.program("docker-credential-slow", f"#!/bin/sh\nsleep 1000 &\necho $! > {pid}\nwait\n")
    home.configure(credsStore="slow")
    found = home.store(timeout_s=0.3).find("quay.io")
    assert "did not answer within 0.3 seconds" in found.notes[0]
    child = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_helper_whose_child_keeps_its_output_open_is_not_waited_for(home: Home) -> None:
    home.environment["PATH"] += ":/usr/bin:/bin"
    home.program("docker-credential-fork", '#!/bin/sh\nsleep 1000 &\necho \'{"Username": "ada", "Secret": "p"}\'\n')
    home.configure(credsStore="fork")
    assert home.store(timeout_s=60).find("quay.io").credentials == RegistryCredentials("ada", "p")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "x" * 200, "a b", "-x", "a\0b"])
def test_a_helper_s_name_is_never_a_path(home: Home, name: str) -> None:
    home.program("evil", "#!/bin/sh\ntouch $HOME/ran\n")
    home.configure(credsStore=name, credHelpers={"b.example": name})
    store = home.store()
    for host in ("quay.io", "b.example"):
        found = store.find(host)
        assert found.credentials is None
        assert all("name of a credential helper" in note for note in found.notes)
    store.logins()
    assert not (home.directory / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"auths": [], "credsStore": {}, "credHelpers": 7}',
        b'{"auths": {"quay.io": [], "x": {"auth": 5}, "y": {"auth": "%%%"}, "z": {"auth": "YQ=="}, "": {"auth": null}}}',
        b'{"auths": {"quay.io": {"auth": "/////w=="}}}',
        b" " * (5 << 20),
    ],
)
def test_a_hostile_configuration_gives_no_login_and_hides_none(home: Home, content: bytes) -> None:
    home.config.parent.mkdir()
    home.config.write_bytes(content)
    keyring = Keyring()
    store = home.store(keyring)
    assert store.find("quay.io").credentials is None
    assert store.logins().entries == ()
    assert store.save("quay.io", ADA).login.place is Place.SECRET_SERVICE
    assert store.find("quay.io").credentials == ADA
    assert home.config.read_bytes() == content


def test_a_configuration_that_is_no_file_blocks_nobody(home: Home) -> None:
    home.config.parent.mkdir()
    os.mkfifo(home.config)
    store = home.store()
    assert "no regular file" in store.find("quay.io").notes[0]
    assert "no regular file" in store.erase("quay.io")[0]
    home.config.unlink()
    home.config.symlink_to(home.config)
    assert "can't be read" in store.find("quay.io").notes[0]


def test_a_file_that_can_t_be_parsed_is_not_overwritten(home: Home) -> None:
    home.program("docker-credential-secretservice")
    home.config.parent.mkdir()
    home.config.write_text('{"auths": {"quay.io": ')
    store = home.store()
    assert store.save("quay.io", ADA).login.place is Place.SESSION
    store.erase("quay.io")
    assert home.config.read_text() == '{"auths": {"quay.io": '


def test_a_spoilt_list_of_logins_is_a_note(home: Home) -> None:
    keyring = Keyring()
    store = home.store(keyring)
    store.save("quay.io", ADA)
    index = home.directory / ".config" / "kitepy" / "registry-logins.json"
    assert json.loads(index.read_text()) == {"logins": {"quay.io": "ada"}}
    index.write_text('{"logins": {"quay.io": 5, "b.example": "b"}}')
    assert [entry.host for entry in store.logins().entries] == ["b.example"]
    index.write_text("[")
    assert "registry-logins.json can't be read" in store.find("quay.io").notes[0]


def test_a_locked_keyring_is_a_note_and_the_login_stays_listed(home: Home) -> None:
    keyring = Keyring()
    store = home.store(keyring)
    store.save("quay.io", ADA)
    keyring.broken = "Prompt dismissed.."
    found = store.find("quay.io")
    assert found.credentials is None
    assert found.notes == ("the login at quay.io is in the keyring, which can't be read: Prompt dismissed",)
    assert store.find("other.example").notes == ()  # nobody asks the keyring for a login that it doesn't have
    assert [entry.host for entry in store.logins().entries] == ["quay.io"]
    assert "could not be removed" in store.erase("quay.io")[0]
    assert store.save("quay.io", RegistryCredentials("bob", "p")).login.place is Place.SESSION


def test_a_keyring_that_never_answers_is_given_up(home: Home) -> None:
    release = threading.Event()

    def hang() -> object:
        release.wait(60)
        raise AssertionError

    store = CredentialStore(home.environment, SecretService(hang, timeout_s=0.1))
    assert "did not answer within 0.1 seconds" in store.save("quay.io", ADA).notes[0]
    release.set()


@pytest.mark.parametrize(
    "host",
    ["a b", "..", "-x", "x:99999", "a\nb", "user@host", "x" * 400, "[::1", "ä.example"],
)
def test_what_is_no_registry_gets_no_login(home: Home, host: str) -> None:
    with pytest.raises(Invalid, match="no address of a registry"):
        home.store().save(host, ADA)


@pytest.mark.parametrize(
    "credentials",
    [
        RegistryCredentials(),
        RegistryCredentials("ada"),
        RegistryCredentials("", "p"),
        RegistryCredentials("a:b", "p"),
        RegistryCredentials("a\n", "p"),
        RegistryCredentials("ada", "p" * 20_000),
        RegistryCredentials("ada", "a\0b"),
    ],
)
def test_what_no_registry_can_take_is_refused(home: Home, credentials: RegistryCredentials) -> None:
    with pytest.raises(Invalid):
        home.store().save("quay.io", credentials)


def test_the_header_has_what_the_engine_wants_and_representations_have_no_secret(home: Home) -> None:
    assert json.loads(urlsafe_b64decode(ADA.header("docker.io"))) == {
        "username": "ada",
        "password": ADA.password,
        "serveraddress": HUB,
    }
    assert json.loads(urlsafe_b64decode(TOKEN.header("quay.io"))) == {
        "username": "ada",
        "identitytoken": "refresh-me",
        "serveraddress": "quay.io",
    }
    store = home.store()
    saved = store.save("quay.io", ADA)
    shown = repr((ADA, TOKEN, saved, store.find("quay.io"), store.logins(), store))
    assert "word" not in shown
    assert "refresh-me" not in shown
