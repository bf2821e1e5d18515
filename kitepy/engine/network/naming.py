"""Names of kernel objects, derived from the data root so that several engines share a host without meeting.

Everything an engine makes carries its tag; what carries the tag and has no owner is left over from a crash.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

DEFAULT_DATA_ROOT = Path("/var/lib/kitepy")
_TAG_LENGTH = 5


def builtin_id(name: str, seed: str) -> str:
    """The identifier of a predefined network: the same after each start of the engine with that seed (its data root's tag)."""
    return hashlib.sha256(f"network {name} of {seed}".encode()).hexdigest()


@dataclass(frozen=True)
class KernelNames:
    """Interface names have at most 15 characters (IFNAMSIZ), hence the short forms."""

    tag: str
    bridge: str
    table: str

    @property
    def veth_prefix(self) -> str:
        """What the names of our veth devices begin with; the dash ends the tag, so no prefix is a prefix of another."""
        return f"kv{self.tag}-"

    def new_veth(self) -> str:
        """A name for the host's end of a new veth pair."""
        return self.veth_prefix + secrets.token_hex(3)


def kernel_names(data_root: Path) -> KernelNames:
    """``kitepy0`` for the engine with the default data root, else a name with a digest of the path."""
    if data_root == DEFAULT_DATA_ROOT:
        return KernelNames(tag="0", bridge="kitepy0", table="kitepy")
    digest = hashlib.sha256(str(data_root).encode()).digest()
    tag = base64.b32encode(digest).decode().lower()[:_TAG_LENGTH]
    return KernelNames(tag=tag, bridge=f"kitepy-{tag}", table=f"kitepy_{tag}")
