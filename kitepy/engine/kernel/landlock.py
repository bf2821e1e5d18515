"""Landlock: a process gives up reaching files outside of one directory, network ports and other processes; see landlock(7).

Nothing here needs privileges, and nothing can be taken back. Kernels without it (before 5.19 for our purposes) are told apart
by ``abi_version``.
"""

from __future__ import annotations

import ctypes
import os
import struct

from kitepy.engine.kernel.syscalls import invoke

_NR_CREATE_RULESET = 444
_NR_ADD_RULE = 445
_NR_RESTRICT_SELF = 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

# Rights on files by the ABI version that brought them (linux/landlock.h): the first 13; refer; truncate; ioctl on devices.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_EXECUTE = 1
_IOCTL_DEVICE = 1 << 15
_NETWORK_RIGHTS = 0b11  # bind and connect of TCP, from version 4
_SCOPES = 0b11  # abstract unix sockets and signals, from version 6
_WITH_REFER = 2


def abi_version() -> int:
    """The kernel's version of the interface; 0 when it has none or it is switched off."""
    try:
        return invoke(_NR_CREATE_RULESET, "landlock_create_ruleset", "version", None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (38, 95):  # ENOSYS, EOPNOTSUPP
            return 0
        raise


def confine_to_root() -> bool:
    """Only what is below the present root directory stays reachable, nothing can be executed, no TCP and no signal leaves.

    Descriptors that are open stay usable. Needs no-new-privileges. False when the kernel can't do it (without the right to
    move files between directories, version 1 is of no use to those who unpack archives).
    """
    version = abi_version()
    if version < _WITH_REFER:
        return False
    files = sum(rights for since, rights in _FILE_RIGHTS.items() if version >= since)
    attributes = struct.pack("=QQQ", files, _NETWORK_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)[
        : 24 if version >= 6 else 16 if version >= 4 else 8
    ]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset_fd = invoke(_NR_CREATE_RULESET, "landlock_create_ruleset", None, buffer, len(attributes), 0)
    try:
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            rule = ctypes.create_string_buffer(struct.pack("=Qi", files & ~_EXECUTE & ~_IOCTL_DEVICE, root_fd), 12)
            invoke(_NR_ADD_RULE, "landlock_add_rule", "/", ruleset_fd, _RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(root_fd)
        invoke(_NR_RESTRICT_SELF, "landlock_restrict_self", None, ruleset_fd, 0)
    finally:
        os.close(ruleset_fd)
    return True
