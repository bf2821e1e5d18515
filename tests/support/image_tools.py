"""Images that other tools write to registries and read back: skopeo, buildah; and OCI layouts that they copy from."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.docker_registry import tool
from support.oci import Blob, Made, index_of

_NO_LOGINS = Path(__file__).parents[1] / "data" / "no-logins.json"
"""Whoever runs the tests may be logged in somewhere."""


def write_layout(directory: Path, images: Sequence[Made], tag: str = "latest") -> Path:
    """An OCI layout on disk: of one image, or of an index of several."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(blob: Blob) -> dict[str, Any]:
        (blobs / blob.digest.removeprefix("sha256:")).write_bytes(blob.content)
        return blob.descriptor

    for image in images:
        for blob in (image.document, *image.blobs, image.manifest):
            keep(blob)
    top = keep(index_of(*images)) if len(images) > 1 else images[0].manifest.descriptor
    top["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def run_tool(*words: str, cwd: Path | None = None, **environment: str) -> str:
    """What a program printed; raises AssertionError with its complaints when it failed."""
    done = subprocess.run(
        [tool(words[0]), *words[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "REGISTRY_AUTH_FILE": str(_NO_LOGINS), **environment},
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}\n{done.stdout}"
    return done.stdout


def skopeo_copy(source: str, target: str, *options: str) -> None:
    """Copy an image by skopeo between ``docker://…``, ``oci:…``, ``docker-archive:…``; registries without TLS."""
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    run_tool("skopeo", "--insecure-policy", "copy", "--quiet", *insecure, *options, source, target)


def skopeo_inspect(host: str, name: str, *options: str) -> Any:
    """What skopeo says of an image in a registry without TLS."""
    return json.loads(
        run_tool("skopeo", "--insecure-policy", "inspect", "--tls-verify=false", *options, f"docker://{host}/{name}")
    )


class Buildah:
    """buildah with a storage of its own; everything it does runs as root without namespaces."""

    def __init__(self, directory: Path) -> None:
        self._storage = ("--root", str(directory / "root"), "--runroot", str(directory / "run"), "--storage-driver", "vfs")
        self._policy = directory / "policy.json"
        self._policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    def __call__(self, verb: str, *words: str) -> str:
        policy = ("--signature-policy", str(self._policy)) if verb in ("from", "commit", "push", "pull") else ()
        # There is no program to run in what it makes, so nothing has to be isolated.
        return run_tool("buildah", *self._storage, verb, *policy, *words, BUILDAH_ISOLATION="chroot").strip()

    def pull(self, host: str, name: str) -> str:
        """Pull from a registry without TLS; gives the image's id."""
        return self("pull", "--tls-verify=false", "--quiet", f"docker://{host}/{name}")

    def push(self, image: str, host: str, name: str, *options: str) -> None:
        self("push", "--tls-verify=false", "--quiet", *options, image, f"docker://{host}/{name}")
