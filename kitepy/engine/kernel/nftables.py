"""nftables through libnftables in this process: a script is one atomic transaction; which rules to write is the caller's.

Scripts are written in the language of nft(8) and answers come as JSON (libnftables-json(5)). Writing through JSON as well
is impossible: the library's 1.0 releases can't declare a map whose values are concatenations that way, and may crash.
"""

from __future__ import annotations

import ctypes
import errno
import json
import threading
from typing import Any

_LIBRARY = "libnftables.so.1"
PACKAGE = "libnftables1"
"""What Debian, Ubuntu and their relatives call the package with the library."""

_OUTPUT_JSON = 1 << 4
_OUTPUT_NUMERIC_PRIORITY = 1 << 8


class NftablesMissing(OSError):
    """libnftables is not installed."""


class NftablesError(OSError):
    """The kernel or the library refused a script; nothing of it took effect."""


def _load_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NftablesMissing(errno.ENOENT, f"{_LIBRARY} can't be loaded ({error}); install the package {PACKAGE}") from None
    context = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = context
    library.nft_ctx_free.argtypes = [context]
    library.nft_ctx_free.restype = None
    library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
    library.nft_ctx_output_set_flags.restype = None
    library.nft_ctx_buffer_output.argtypes = [context]
    library.nft_ctx_buffer_error.argtypes = [context]
    library.nft_ctx_get_output_buffer.argtypes = [context]
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_error_buffer.argtypes = [context]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    return library


class Nftables:
    """A libnftables context bound to the network namespace of the thread that makes it.

    Safe to share between threads: transactions take turns. Calls block (0.1 ms for a map element, more for listings).
    """

    def __init__(self) -> None:
        self._library = _load_library()
        self._lock = threading.Lock()
        self._context: int | None = self._library.nft_ctx_new(0)
        if not self._context:
            raise NftablesError(errno.ENOMEM, "libnftables could not be initialised")
        if self._library.nft_ctx_buffer_output(self._context) or self._library.nft_ctx_buffer_error(self._context):
            self.close()
            raise NftablesError(errno.ENOMEM, "libnftables could not be initialised")

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._context:
                self._library.nft_ctx_free(self._context)
                self._context = None

    def _run(self, script: str, flags: int) -> str:
        with self._lock:
            if not self._context:
                raise NftablesError(errno.EBADF, "the nftables context is closed")
            self._library.nft_ctx_output_set_flags(self._context, flags)
            failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
            output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
            complaint: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            lines = [line.strip() for line in complaint.decode(errors="replace").splitlines() if line.strip(" ^\t~")]
            raise NftablesError(errno.EINVAL, f"nftables: {' '.join(lines[:2]) or 'unknown error'}")
        return output.decode(errors="replace")

    def apply(self, script: str) -> None:
        """Carries out all commands of the script or none of them. Raises NftablesError."""
        # Without the JSON flag, because with it the library would try to parse the script as JSON first.
        self._run(script, 0)

    def query(self, command: str) -> list[dict[str, Any]]:
        """The objects that a ``list`` command answers with, as libnftables-json(5) describes them."""
        text = self._run(command, _OUTPUT_JSON | _OUTPUT_NUMERIC_PRIORITY)
        return list(json.loads(text)["nftables"]) if text.strip() else []

    def has_table(self, family: str, name: str) -> bool:
        """Whether the table exists."""
        return any(
            item["table"]["family"] == family and item["table"]["name"] == name
            for item in self.query("list tables")
            if "table" in item
        )
