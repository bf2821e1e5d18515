"""The exact commands that put this machine right, as text; which of them is needed is decided by the checks."""

from __future__ import annotations

from kitepy.engine.rootless.findings import Fix

_PACKAGES = {
    "newuidmap": {"apt": "uidmap", "dnf": "shadow-utils", "pacman": "shadow", "zypper": "shadow"},
    "pasta": {"apt": "passt", "dnf": "passt", "pacman": "passt", "zypper": "passt"},
    "fuse-overlayfs": dict.fromkeys(("apt", "dnf", "pacman", "zypper"), "fuse-overlayfs"),
    "libnftables": {"apt": "libnftables1", "dnf": "nftables", "pacman": "nftables", "zypper": "libnftables1"},
}
_INSTALL = {
    "apt": "sudo apt-get install -y {}",
    "dnf": "sudo dnf install -y {}",
    "pacman": "sudo pacman -S --needed {}",
    "zypper": "sudo zypper install -y {}",
}


def install(what: str, tool: str, *, again: bool = False) -> Fix:
    """Install the package that brings ``what`` with the distribution's own tool."""
    if tool not in _INSTALL:
        return Fix(f"# install {what} with your distribution's tool; Debian's package is {_PACKAGES[what]['apt']}")
    command = _INSTALL[tool].format(_PACKAGES[what][tool])
    if again:
        command = command.replace("install -y", "reinstall -y" if tool == "dnf" else "install -y --reinstall")
        command = command.replace("install -y --reinstall", "install -f") if tool == "zypper" else command
        command = command.replace("--needed ", "")
    return Fix(command)


def sysctl(*settings: str, about: str = "", name: str = "60-kitepy") -> Fix:
    """Set values of sysctl(8) now and at each start of the machine."""
    quoted = " ".join(f"'{setting}'" for setting in settings)
    file = f"/etc/sysctl.d/{name}.conf"
    write = f"echo {quoted}" if len(settings) == 1 else f"printf '%s\\n' {quoted}"
    return Fix(f"{write} | sudo tee -a {file}\nsudo sysctl -p {file}", about)


def modules(*names: str) -> Fix:
    """Load kernel modules now and at each start; a user can't make the kernel load all of them."""
    lines = " ".join(names)
    return Fix(f"sudo modprobe -a {lines}\nprintf '%s\\n' {lines} | sudo tee /etc/modules-load.d/kitepy.conf")


def apparmor_profile(python: str) -> Fix:
    """A profile that lets one program use user namespaces, as Ubuntu's own for browsers do."""
    return Fix(
        "sudo tee /etc/apparmor.d/kitepy-engine >/dev/null <<'EOF'\n"
        "abi <abi/4.0>,\n"
        "include <tunables/global>\n\n"
        f'profile kitepy-engine "{python}" flags=(unconfined) {{\n'
        "  userns,\n"
        "}\n"
        "EOF\n"
        "sudo apparmor_parser -r /etc/apparmor.d/kitepy-engine",
        f"Lets this one program use user namespaces; so may other programs that {python} runs.",
    )


def tun_for_everybody() -> Fix:
    """The mode that desktops give /dev/net/tun, now and at each start; it gives no rights over the host's network."""
    return Fix(
        "sudo chmod 0666 /dev/net/tun\n"
        """echo 'KERNEL=="tun", MODE="0666", OPTIONS+="static_node=net/tun"' | sudo tee /etc/udev/rules.d/60-kitepy-tun.rules""",
        "The mode that most distributions give it: opening it gives no rights over the machine's own network.",
    )


def load_tun() -> Fix:
    """Make /dev/net/tun appear."""
    return Fix("sudo modprobe tun\necho tun | sudo tee /etc/modules-load.d/kitepy-tun.conf")


def delegate() -> Fix:
    """systemd's drop-in that hands controllers to users; user@.service(5)."""
    return Fix(
        "sudo mkdir -p /etc/systemd/system/user@.service.d\n"
        "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
        "sudo tee /etc/systemd/system/user@.service.d/kitepy-delegate.conf\n"
        "sudo systemctl daemon-reload",
        "Then log out and in again.",
    )


def move_data_root(data_root: str, user: str, uid: int) -> Fix:
    """Keep images and containers on the machine's own disk and leave a link in the home directory."""
    target = f"/var/lib/kitepy-home-{uid}"
    return Fix(
        f"sudo install -d -m 0700 -o {user} {target}\n"
        f"mkdir -p \"$(dirname '{data_root}')\" && rm -rf '{data_root}' && ln -s {target} '{data_root}'",
        "Keeps them on the machine's own disk. Images and containers that are in the old place are deleted.",
    )
