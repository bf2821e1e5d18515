"""Turning a confined child into the user's process: limits, session, user, capabilities, seccomp, exec. Shared by start and exec.

The order is the security of it. Everything that needs privileges comes first; the seccomp filter is loaded as late as the
process's rights allow; after it only the calls that any sensible profile permits are made (capset, prctl, execve, and on failure
sendmsg and exit_group).
"""

from __future__ import annotations

import os
import resource
import stat

from kitepy.engine.kernel import capabilities, mounts, syscalls, tty
from kitepy.engine.runtime.init_process import stay_behind_as_init

Document = dict[str, object]

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NULL_DEVICE = os.makedev(1, 3)
_CODE_NOT_FOUND = 127
_CODE_NOT_EXECUTABLE = 126
_CODE_OTHER = 128


class ProcessError(Exception):
    """The process can't be run as described: the message is worded as runc words it, ``exit_code`` as a shell reports it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Credentials:
    """Who the process is: parsed from ``process.user`` and ``process.capabilities`` before anything irreversible happens."""

    __slots__ = ("ambient", "bounding", "effective", "gid", "groups", "inheritable", "permitted", "uid", "umask")

    def __init__(self, process: Document) -> None:
        user = process.get("user")
        user = user if isinstance(user, dict) else {}
        self.uid = int(user.get("uid") or 0)
        self.gid = int(user.get("gid") or 0)
        self.groups = [int(group) for group in user.get("additionalGids") or []]
        self.umask = int(user["umask"]) if user.get("umask") is not None else 0o022
        sets = process.get("capabilities")
        sets = sets if isinstance(sets, dict) else {}
        self.bounding = self._mask(sets, "bounding")
        self.effective = self._mask(sets, "effective")
        self.permitted = self._mask(sets, "permitted")
        self.inheritable = self._mask(sets, "inheritable")
        self.ambient = self._mask(sets, "ambient")

    @staticmethod
    def _mask(sets: Document, name: str) -> int:
        names = sets.get(name)
        try:
            return capabilities.mask([str(item) for item in names] if isinstance(names, list) else [])
        except KeyError as error:
            raise ProcessError(f"unknown capability {error.args[0]}", _CODE_OTHER) from error


def become(
    process: Document,
    seccomp_program: bytes,
    seccomp_flags: list[str],
    stdio: tuple[int, int, int],
    terminal: bool,
    last_capability: int,
    apparmor_fd: int | None = None,
    *,
    init_title_area: tuple[int, int] | None = None,
) -> None:
    """Become the process, or with ``init_title_area`` its init; returns only by raising ProcessError or OSError.

    ``stdio`` are the descriptors for 0, 1 and 2; every other descriptor is marked close-on-exec. ``apparmor_fd`` is what
    ``open_apparmor_attribute`` gave.
    """
    credentials = Credentials(process)
    arguments = process.get("args")
    if not isinstance(arguments, list) or not arguments:
        raise ProcessError("no command specified", _CODE_OTHER)
    environment = parse_environment(process.get("env"))
    _take_stdio(stdio, terminal, credentials)
    syscalls.reset_signals()
    set_limits(process.get("rlimits"))
    no_new_privileges = bool(process.get("noNewPrivileges"))
    if no_new_privileges:
        syscalls.set_no_new_privileges()
    entered = _enter_directory(process, tolerate_refusal=True)
    os.umask(credentials.umask)

    if apparmor_fd is not None:
        try:
            os.write(apparmor_fd, f"exec {process['apparmorProfile']}".encode())  # aa_change_onexec(3)
        except OSError as error:
            reason = "no such profile is loaded" if isinstance(error, FileNotFoundError) else error.strerror
            raise ProcessError(f"unable to apply AppArmor profile {process['apparmorProfile']}: {reason}", _CODE_OTHER) from error
    permitted_now = capabilities.own_permitted()
    _change_user(credentials, permitted_now, last_capability)
    if not entered:
        _enter_directory(process, tolerate_refusal=False)
    program = find_program(str(arguments[0]), environment.get("PATH", _DEFAULT_PATH))
    flags = 0
    for name in seccomp_flags:
        flags |= syscalls.SECCOMP_FLAGS.get(name, 0)
    if seccomp_program and not no_new_privileges:
        syscalls.load_seccomp_filter(seccomp_program, flags)  # needs CAP_SYS_ADMIN, which the next call gives up
    _drop_capabilities(credentials, permitted_now)
    if seccomp_program and no_new_privileges:
        syscalls.load_seccomp_filter(seccomp_program, flags)
    if init_title_area is not None:
        stay_behind_as_init([str(item) for item in arguments], init_title_area)
    try:
        os.execve(program, [str(item) for item in arguments], environment)  # noqa: S606 - the user's program is the point
    except OSError as error:
        code = _CODE_NOT_FOUND if error.errno == 2 else _CODE_NOT_EXECUTABLE
        raise ProcessError(f"exec {program}: {(error.strerror or '').lower()}", code) from error


def open_apparmor_attribute(process: Document) -> int | None:
    """The file of /proc that names the AppArmor profile from the next exec on; None when the document names no profile.

    Called in the host's mount namespace. In the container's /proc something else could have been mounted in its place, and the
    text would be written there with the engine's rights (CVE-2025-52881).
    """
    if not process.get("apparmorProfile"):
        return None
    for path in ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if mounts.filesystem_kind(fd) != mounts.PROC_MAGIC:
            raise OSError(22, f"{path} is not on the kernel's file system, refusing to use it")
        return fd
    raise ProcessError(
        f"AppArmor profile {process['apparmorProfile']!r} can't be applied: AppArmor is not available", _CODE_OTHER
    )


def _take_stdio(stdio: tuple[int, int, int], terminal: bool, credentials: Credentials) -> None:
    # Above 2 first: a source might be one of the targets.
    sources = [os.dup(fd) for fd in stdio]
    for target, source in enumerate(sources):
        os.dup2(source, target, inheritable=True)
    if not terminal:
        _use_own_null_device()
    os.setsid()
    if terminal:
        tty.take_as_controlling(0)
    syscalls.close_range(3, only_mark=True)
    if credentials.uid:
        for fd in (0, 1, 2):
            found = os.fstat(fd)
            # The user must be able to open /dev/stdout, which leads here. Never change what others share, such as /dev/null.
            if found.st_uid == credentials.uid:
                continue
            if stat.S_ISFIFO(found.st_mode) or (terminal and stat.S_ISCHR(found.st_mode)):
                os.fchown(fd, credentials.uid, -1)


def _use_own_null_device() -> None:
    """Where standard input is the host's null device, take the container's own: nothing of the host's /dev stays open."""
    host = os.fstat(0)
    if not stat.S_ISCHR(host.st_mode) or host.st_rdev != _NULL_DEVICE:
        return
    try:
        fd = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # an image with a /dev of its own making; the host's null device does no harm
    if stat.S_ISCHR(os.fstat(fd).st_mode) and os.fstat(fd).st_rdev == _NULL_DEVICE:
        os.dup2(fd, 0, inheritable=True)
    os.close(fd)


def set_limits(limits: object) -> None:
    """Apply ``process.rlimits``; raising a hard limit without CAP_SYS_RESOURCE gives an error that says so."""
    for limit in limits if isinstance(limits, list) else []:
        name = str(limit["type"])
        number = getattr(resource, name, None)
        if not isinstance(number, int):
            raise ProcessError(f"unknown rlimit {name}", _CODE_OTHER)
        soft, hard = _limit_value(limit["soft"]), _limit_value(limit["hard"])
        try:
            resource.setrlimit(number, (soft, hard))
        except ValueError as error:
            current = resource.getrlimit(number)[1]
            raise ProcessError(
                f"error setting rlimit type {number}: {name} soft={limit['soft']} hard={limit['hard']} is not possible, "
                f"the engine's own hard limit is {current} and raising it needs CAP_SYS_RESOURCE",
                _CODE_OTHER,
            ) from error


def raise_hard_limits(limits: object) -> None:
    """Raise hard limits to those that ``process.rlimits`` asks for, and change nothing else.

    For a caller who still has CAP_SYS_RESOURCE on the host, which root of another user namespace has not.
    """
    for limit in limits if isinstance(limits, list) else []:
        number = getattr(resource, str(limit["type"]), None)
        if not isinstance(number, int):
            continue  # set_limits complains
        soft, hard = resource.getrlimit(number)
        wanted = _limit_value(limit["hard"])
        if hard != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or wanted > hard):
            try:
                resource.setrlimit(number, (soft, wanted))
            except ValueError:
                continue  # beyond the kernel's own maximum, or the engine lacks the right: set_limits says so


def _limit_value(value: object) -> int:
    number = int(str(value))
    return resource.RLIM_INFINITY if number < 0 or number >= 2**63 else number


def _enter_directory(process: Document, *, tolerate_refusal: bool) -> bool:
    cwd = str(process.get("cwd") or "/")
    try:
        os.chdir(cwd)
        where = os.getcwd()
    except PermissionError as error:
        if tolerate_refusal:
            return False
        raise _directory_error(cwd, error) from error
    except OSError as error:
        raise _directory_error(cwd, error) from error
    if not where.startswith("/"):
        # The kernel says "(unreachable)" for a directory outside the root: someone smuggled in a descriptor (CVE-2024-21626).
        raise ProcessError(f"current working directory is outside of container mount namespace root: {where}", _CODE_OTHER)
    return True


def _directory_error(cwd: str, error: OSError) -> ProcessError:
    reason = (error.strerror or "").lower()
    code = _CODE_NOT_EXECUTABLE if error.errno == 13 else _CODE_OTHER
    return ProcessError(f'chdir to cwd ("{cwd}") set in config.json failed: {reason}', code)


def _change_user(credentials: Credentials, permitted_now: int, last_capability: int) -> None:
    capabilities.limit_bounding(credentials.bounding, last_capability)
    syscalls.set_keep_capabilities(True)
    os.setgroups(credentials.groups)
    os.setresgid(credentials.gid, credentials.gid, credentials.gid)
    os.setresuid(credentials.uid, credentials.uid, credentials.uid)
    syscalls.set_keep_capabilities(False)
    if credentials.uid:
        # Leaving uid 0 emptied the effective set; loading the filter still needs it. Reading the file to be executed must be
        # judged by what the process will have, so nothing else is raised.
        capabilities.set_sets(permitted_now & _FILTER_CAPABILITIES, permitted_now, 0)


_FILTER_CAPABILITIES = 1 << capabilities.NUMBERS["CAP_SYS_ADMIN"] | 1 << capabilities.NUMBERS["CAP_SETPCAP"]


def _drop_capabilities(credentials: Credentials, available: int) -> None:
    permitted = credentials.permitted & available
    inheritable = credentials.inheritable & available
    capabilities.set_sets(credentials.effective & permitted, permitted, inheritable)
    capabilities.set_ambient(credentials.ambient & permitted & inheritable)


def parse_environment(entries: object) -> dict[str, str]:
    """``["A=1", …]`` as a dictionary; a later entry replaces an earlier one, entries without ``=`` are dropped."""
    environment: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        key, separator, value = str(entry).partition("=")
        if key and separator:
            environment[key] = value
    return environment


def find_program(name: str, search_path: str) -> str:
    """The file to execute, looked up as a shell would; raises ProcessError 127 (missing) or 126 (not executable)."""
    if "/" in name:
        try:
            mode = os.stat(name).st_mode
        except PermissionError as error:
            raise ProcessError(f'exec: "{name}": permission denied', _CODE_NOT_EXECUTABLE) from error
        except OSError as error:
            raise ProcessError(f'exec: "{name}": stat {name}: {(error.strerror or "").lower()}', _CODE_NOT_FOUND) from error
        if stat.S_ISDIR(mode):
            raise ProcessError(f'exec: "{name}": permission denied', _CODE_NOT_EXECUTABLE)
        if not os.access(name, os.X_OK, effective_ids=True):
            raise ProcessError(f'exec: "{name}": permission denied', _CODE_NOT_EXECUTABLE)
        return name
    for directory in search_path.split(":") if name else []:
        candidate = os.path.join(directory or ".", name)
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and os.access(candidate, os.X_OK, effective_ids=True):
            return candidate
    raise ProcessError(f'exec: "{name}": executable file not found in $PATH', _CODE_NOT_FOUND)
