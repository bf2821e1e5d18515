"""Reads what was dropped on the window: finds the Dockerfile and measures the build context. Blocking; runs in a thread."""

from __future__ import annotations

import os
from pathlib import Path

from kitepy.client.context import ignore_patterns
from kitepy.gui.gateway.port import OperationFailed
from kitepy.gui.models.build import BuildReview
from kitepy.gui.models.dockerfile import base_images, exposed_ports, looks_like_dockerfile, parse_instructions
from kitepy.gui.models.image import image_name

# A Dockerfile is written by hand; anything larger is a mistake (the wrong file was dropped).
_DOCKERFILE_LIMIT_BYTES = 1 << 20


def read_review(path: Path) -> BuildReview:
    context, dockerfile = _locate(path)
    try:
        if dockerfile.stat().st_size > _DOCKERFILE_LIMIT_BYTES:
            raise OperationFailed(f"{dockerfile} is too large to be a Dockerfile.")
        source = dockerfile.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OperationFailed(f"{dockerfile} can't be read: {error.strerror}.") from error
    instructions = parse_instructions(source)
    if not any(instruction.keyword == "FROM" for instruction in instructions):
        raise OperationFailed(f"{dockerfile} has no FROM line, so it isn't a Dockerfile that can be built.")
    size_bytes, files, ignored = _measure(context, dockerfile)
    return BuildReview(
        context=context,
        dockerfile=dockerfile,
        source=source,
        instructions=instructions,
        base_images=base_images(instructions),
        exposed_ports=exposed_ports(instructions),
        context_bytes=size_bytes,
        context_files=files,
        ignored_files=ignored,
        suggested_name=image_name(context.resolve().name),
    )


def _locate(path: Path) -> tuple[Path, Path]:
    path = path.absolute()
    if path.is_dir():
        for name in ("Dockerfile", "Containerfile", "dockerfile"):
            if (path / name).is_file():
                return path, path / name
        raise OperationFailed(f"{path.name or path} has no Dockerfile in it. Drop a folder with one, or the Dockerfile itself.")
    if not path.exists():
        raise OperationFailed(f"{path} doesn't exist.")
    if looks_like_dockerfile(path.name) or _begins_like_dockerfile(path):
        return path.parent, path
    raise OperationFailed(f"{path.name} isn't a Dockerfile. Drop a Dockerfile or a folder with one in it.")


def _begins_like_dockerfile(path: Path) -> bool:
    """A file by another name counts when its first instruction is FROM or ARG."""
    try:
        with path.open("rb") as file:
            head = file.read(4096).decode("utf-8", "strict")
    except (OSError, UnicodeDecodeError):
        return False
    instructions = parse_instructions(head)
    return bool(instructions) and instructions[0].keyword in ("FROM", "ARG") and "\0" not in head


def _measure(context: Path, dockerfile: Path) -> tuple[int, int, int]:
    """(bytes sent, files sent, files left out) after .dockerignore; patterns and matching are those of the build itself."""
    from docker.utils.build import exclude_paths

    name = os.path.relpath(dockerfile, context)
    patterns = ignore_patterns(context, name)
    try:
        names = exclude_paths(str(context), patterns, dockerfile=name) if patterns else None
        size_bytes = files = every = 0
        for folder, _, found in os.walk(context):
            for file_name in found:
                every += 1
                full = os.path.join(folder, file_name)
                if names is not None and os.path.relpath(full, context) not in names:
                    continue
                files += 1
                size_bytes += os.lstat(full).st_size
    except OSError as error:
        raise OperationFailed(f"{error.filename or context} can't be read: {error.strerror}.") from error
    return size_bytes, files, every - files
