"""The job that makes a layer's blob a gzip stream on its way out; always the same bytes for the same blob.

Runs in a worker process, as ``jobs.py``; the stream goes into a pipe, its digest is known when it has ended.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from isal import isal_zlib

from kitepy.engine.storage.compression import CHUNK, open_stream
from kitepy.engine.storage.confinement import chroot_into
from kitepy.engine.storage.zygote import JobContext

_LEVEL = 2
"""ISA-L's 2 makes layers 1/8 larger than zlib's 6 does, and is ten times as fast."""
_GZIP = 31
"""zlib.h: a window of 32 kB with gzip's header, which tells no time and no name."""
_PIECE_BYTES = 1 << 18
_REPORT_BYTES = 512 << 10


def compress_layer(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """fds: the blob, in whatever compression; the pipe to write to. params: ``root``, an empty directory.

    Progress: ``{"consumed"}``, the plain bytes so far. Gives ``digest`` and ``size`` of the stream, and the ``plain`` bytes.
    """
    chroot_into(params["root"], trusted_xattrs=False)
    blob_fd, pipe_fd = context.fds
    _, read = open_stream(lambda size: os.read(blob_fd, size))
    compressor = isal_zlib.compressobj(_LEVEL, wbits=_GZIP)
    digest = hashlib.sha256()
    consumed = reported = size = 0

    def send(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(pipe_fd, view) :]

    held: list[bytes] = []
    held_bytes = 0
    while piece := read(CHUNK):
        consumed += len(piece)
        if packed := compressor.compress(piece):
            held.append(packed)
            held_bytes += len(packed)
        if held_bytes >= _PIECE_BYTES:
            send(b"".join(held))
            held, held_bytes = [], 0
        if consumed - reported >= _REPORT_BYTES:
            reported = consumed
            context.progress({"consumed": consumed})
    send(b"".join((*held, compressor.flush())))
    return {"digest": f"sha256:{digest.hexdigest()}", "size": size, "plain": consumed}
