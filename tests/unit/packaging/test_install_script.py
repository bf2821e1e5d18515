"""``packaging/install.sh`` with programs that only write down how they were called: what it installs, and when it keeps still."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Installed: everything but two libraries, one of which goes by a newer name on this pretended release.
DPKG_QUERY = """#!/bin/sh
for name in libnftables1 libseccomp2 uidmap passt busybox-static iproute2 libgl1 libegl1 libdbus-1-3 libfontconfig1 \\
    libx11-xcb1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libbrotli1 libgssapi-krb5-2 \\
    libwayland-client0 libwayland-cursor0 fonts-dejavu-core $(cat "$CALLS.installed" 2>/dev/null); do echo "installed $name"; done
echo "config-files libglib2.0-0"
"""
APT_CACHE = """#!/bin/sh
case $2 in *t64) echo "  Candidate: 1.0" ;; *) echo "  Candidate: (none)" ;; esac
"""
RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'
SUDO = '#!/bin/sh\necho "sudo $1" >> "$CALLS"\nexec "$@"\n'
PYTHON = '#!/bin/sh\ncase "$*" in *"pip install"*) echo "python $*" >> "$CALLS" ;; esac\n'


class Machine:
    """A directory with the script and a path of pretended programs."""

    def __init__(self, root: Path) -> None:
        self.checkout = root / "checkout"
        self.bin = root / "bin"
        self.calls_file = root / "calls"
        (self.checkout / "packaging").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "packaging" / "install.sh", self.checkout / "packaging")
        for name in ("pyproject.toml", "constraints.txt"):
            (self.checkout / name).write_text(name)
        self.program(self.checkout / "packaging" / "clients.sh", RECORD)
        self.program(self.bin / "dpkg-query", DPKG_QUERY)
        self.program(self.bin / "apt-cache", APT_CACHE)
        self.program(self.bin / "apt-get", RECORD)
        self.program(self.bin / "sudo", SUDO)
        self.program(self.bin / "id", "#!/bin/sh\ncase $1 in -un) echo ada ;; *) echo 1000 ;; esac\n")
        self.program(self.bin / "usermod", RECORD)
        self.etc = root / "etc"
        self.etc.mkdir()
        (self.etc / "passwd").write_text("ada:x:1000:1000::/home/ada:/bin/sh\n")
        for name in ("subuid", "subgid"):
            (self.etc / name).write_text("ada:100000:65536\n")
        self.program(self.bin / "python3", PYTHON)
        for name in ("python", "kitepy"):
            self.program(self.checkout / ".venv" / "bin" / name, PYTHON)

    @staticmethod
    def program(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def install(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        places = {"CALLS": str(self.calls_file), "KITEPY_ETC": str(self.etc), "PATH": f"{self.bin}:/usr/bin:/bin"}
        system = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
        return subprocess.run(
            [str(self.checkout / "packaging" / "install.sh"), *arguments],
            env={**system, **places, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def calls(self) -> list[str]:
        """What was called since the last time."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return lines

    def have_everything(self) -> None:
        """Let nothing be missing any more."""
        Path(f"{self.calls_file}.installed").write_text("libglib2.0-0t64")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_only_what_is_missing_is_installed_by_the_name_that_this_release_has(machine: Machine) -> None:
    done = machine.install()
    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    installs = [call for call in calls if call.startswith("apt-get") and " install " in call]
    assert len(installs) == 1
    assert installs[0].endswith("install -y --no-install-recommends libglib2.0-0t64")
    assert "DPkg::Lock::Timeout=300" in installs[0]
    assert calls[0] == "sudo env", "an ordinary user's packages go through sudo"


def test_with_nothing_missing_and_nothing_changed_no_program_with_a_network_is_called(machine: Machine) -> None:
    machine.have_everything()
    assert machine.install().returncode == 0
    assert [call for call in machine.calls() if "pip install" in call]
    assert machine.install().returncode == 0
    assert machine.calls() == []


def test_a_changed_dependency_renews_the_environment_and_a_touched_file_does_not(machine: Machine) -> None:
    machine.have_everything()
    machine.install()
    machine.calls()
    (machine.checkout / "constraints.txt").touch()
    machine.install()
    assert machine.calls() == []
    (machine.checkout / "constraints.txt").write_text("other")
    machine.install()
    assert [call for call in machine.calls() if "-c constraints.txt -e ." in call]


def test_what_the_tests_need_holds_what_the_app_needs(machine: Machine) -> None:
    machine.have_everything()
    Path(f"{machine.calls_file}.installed").write_text(
        "libglib2.0-0t64 xvfb xdotool openbox trayer dbus dbus-x11 mmdebstrap nftables gcc libc6-dev"
    )
    machine.install("test")
    calls = machine.calls()
    assert [call for call in calls if call.endswith("-e .[test]")]
    assert "clients.sh " in calls
    machine.install()
    assert machine.calls() == []


def test_docker_s_clients_that_can_t_be_had_fail_the_tests_instead_of_leaving_some_out(machine: Machine) -> None:
    machine.have_everything()
    machine.program(machine.checkout / "packaging" / "clients.sh", "#!/bin/sh\necho no archive >&2\nexit 1\n")
    done = machine.install("test")
    assert done.returncode != 0
    assert "no archive" in done.stderr
    assert machine.install().returncode == 0, "the app itself needs none of them"


def test_without_sudo_the_command_for_root_is_given(machine: Machine, tmp_path: Path) -> None:
    (machine.bin / "sudo").unlink()
    # A path without the system's own sudo.
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "sed", "tr", "grep", "dirname", "env", "cat", "sha256sum", "cut", "basename"):
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    done = machine.install(PATH=f"{machine.bin}:{tools}")
    assert done.returncode != 0
    assert "Run as root: apt-get install --no-install-recommends libglib2.0-0" in done.stderr


def test_packages_can_be_left_to_the_user(machine: Machine) -> None:
    assert machine.install(KITEPY_SKIP_PACKAGES="1").returncode == 0
    assert not [call for call in machine.calls() if call.startswith(("apt-get", "sudo"))]


def test_an_unknown_group_is_refused(machine: Machine) -> None:
    done = machine.install("everything")
    assert done.returncode != 0
    assert "use app, demo, test or vm" in done.stderr


def test_an_account_without_ids_for_containers_is_given_a_range_that_nobody_has(machine: Machine) -> None:
    machine.have_everything()
    (machine.etc / "subuid").write_text("bob:165536:65536\neve:100000:65536\n")
    (machine.etc / "subgid").unlink()
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "usermod --add-subuids 231072-296607 --add-subgids 231072-296607 ada" in machine.calls()
    assert "sudo usermod --add-subuids 231072-296607" in done.stdout, "it is said before it is done"
    assert (machine.etc / "subgid").exists(), "usermod refuses a file that is not there"


def test_only_the_file_that_lacks_ids_gets_some_and_an_entry_by_number_counts(machine: Machine) -> None:
    machine.have_everything()
    (machine.etc / "subuid").write_text("1000:100000:65536\n")
    (machine.etc / "subgid").write_text("ada2:100000:65536\n")
    machine.install()
    assert [call for call in machine.calls() if call.startswith("usermod")] == ["usermod --add-subgids 165536-231071 ada"]


def test_an_account_of_a_directory_service_is_left_alone(machine: Machine) -> None:
    machine.have_everything()
    (machine.etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (machine.etc / "subuid").write_text("")
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "kitepy doctor" in done.stdout
    assert not [call for call in machine.calls() if call.startswith(("usermod", "sudo usermod"))]
