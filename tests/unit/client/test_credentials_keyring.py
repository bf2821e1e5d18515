"""Logins in a real Secret Service: gnome-keyring on a session bus of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.docker_registry import tool

SESSION = """
eval "$(printf password | gnome-keyring-daemon --unlock --components=secrets 2>/dev/null | sed 's/^/export /')"
"$PYTHON" -c "$SAVE" || exit 1
"$PYTHON" -c "$READ" || exit 2
dbus-send --session --print-reply --dest=org.freedesktop.secrets /org/freedesktop/secrets org.freedesktop.Secret.Service.Lock \
    array:objpath:/org/freedesktop/secrets/aliases/default > /dev/null || exit 3
"$PYTHON" -c "$LOCKED"
"""
SAVE = """
from kitepy.client.credentials import *
store = CredentialStore()
assert store.places("quay.io")[0] == Choice(Place.SECRET_SERVICE), store.places("quay.io")
assert store.save("quay.io", RegistryCredentials("ada", "p:é")).login.place is Place.SECRET_SERVICE
assert store.save("b.example", RegistryCredentials("ada", "", "a-token")).login.place is Place.SECRET_SERVICE
assert store.save("c.example", RegistryCredentials("", "", "a-token")).login.place is Place.SECRET_SERVICE
assert store.save("quay.io", RegistryCredentials("bob", "token:x")).login.place is Place.SECRET_SERVICE
"""
READ = """
from kitepy.client.credentials import *
store = CredentialStore()
assert store.find("quay.io").credentials == RegistryCredentials("bob", "token:x")
assert store.find("b.example").credentials == RegistryCredentials("ada", "", "a-token")
assert store.find("c.example").credentials == RegistryCredentials("", "", "a-token")
assert store.erase("b.example") == ()
assert store.find("b.example").credentials is None
assert [(entry.host, entry.username) for entry in store.logins().entries] == [("c.example", ""), ("quay.io", "bob")]
"""
LOCKED = """
from kitepy.client.credentials import *
found = CredentialStore().find("quay.io")
assert found.credentials is None and "can't be read" in found.notes[0], found
"""


def test_logins_last_in_the_desktop_s_keyring_and_a_locked_one_is_told(tmp_path: Path) -> None:
    for program in ("dbus-run-session", "dbus-send", "gnome-keyring-daemon"):
        tool(program)
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ["PYTHONPATH"],
        "PYTHON": sys.executable,
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(run),
        "SAVE": SAVE,
        "READ": READ,
        "LOCKED": LOCKED,
    }
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", SESSION], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".keyring" for file in files)
    assert not any(b"a-token" in file.read_bytes() for file in files)
