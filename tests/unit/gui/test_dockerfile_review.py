"""What the review sheet reads out of a dropped folder or file."""

from pathlib import Path

import pytest

from kitepy.gui.gateway.port import OperationFailed
from kitepy.gui.gateway.review import read_review
from kitepy.gui.models.dockerfile import base_images, exposed_ports, looks_like_dockerfile, parse_instructions
from kitepy.gui.models.image import container_name, image_name, is_image_reference, name_from_reference, readable_size

MULTI_STAGE = """\
# syntax=docker/dockerfile:1
FROM --platform=linux/amd64 golang:1.22 AS build
RUN go build \\
    # a comment in the middle
    -o /app
EXPOSE 1
FROM build AS test
FROM scratch
COPY --from=build /app /app
EXPOSE 8080 53/udp
"""


def test_instructions_carry_their_lines() -> None:
    found = parse_instructions(MULTI_STAGE)
    assert [(item.keyword, item.line, item.last_line) for item in found[:3]] == [("FROM", 2, 2), ("RUN", 3, 5), ("EXPOSE", 6, 6)]
    assert found[1].arguments == "go build -o /app"


def test_stages_are_no_base_images_and_only_the_last_stage_exposes() -> None:
    found = parse_instructions(MULTI_STAGE)
    assert base_images(found) == ("golang:1.22", "scratch")
    assert exposed_ports(found) == ("8080/tcp", "53/udp")


def test_a_here_document_belongs_to_its_instruction() -> None:
    found = parse_instructions("FROM x\nRUN <<EOF\nFROM nothing\nEOF\nCMD y\n")
    assert [item.text for item in found] == ["FROM x", "RUN <<EOF", "CMD y"]
    assert found[1].last_line == 4


def test_the_escape_directive_is_followed() -> None:
    found = parse_instructions("# escape=`\nFROM x\nRUN a `\n b\nCMD c\\\n")
    assert [item.text for item in found] == ["FROM x", "RUN a b", "CMD c\\"]


def test_a_folder_is_read_with_its_ignore_rules(tmp_path: Path) -> None:
    project = tmp_path / "My Project"
    (project / "node_modules").mkdir(parents=True)
    (project / "Dockerfile").write_text("FROM busybox\nEXPOSE 80\n")
    (project / "index.html").write_bytes(b"x" * 1000)
    (project / "node_modules" / "big.js").write_bytes(b"x" * 50_000)
    (project / ".dockerignore").write_text("# dependencies\nnode_modules\n")
    review = read_review(project)
    assert review.suggested_name == "my-project"
    assert review.dockerfile == project / "Dockerfile"
    assert review.ignored_files == 1
    assert 1000 < review.context_bytes < 2000
    assert review.base_images == ("busybox",)


def test_a_dockerfile_by_itself_is_built_in_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "web.dockerfile"
    file.write_text("FROM busybox\n")
    assert read_review(file).context == tmp_path
    odd = tmp_path / "recipe"
    odd.write_text("ARG A\nFROM busybox\n")
    assert read_review(odd).dockerfile == odd


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("notes.txt", b"hello\n", "isn't a Dockerfile"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0", "isn't a Dockerfile"),
        ("Dockerfile", b"RUN echo\n", "has no FROM line"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OperationFailed, match=complaint):
        read_review(tmp_path / name)


def test_a_folder_without_a_dockerfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperationFailed, match="has no Dockerfile in it"):
        read_review(tmp_path)
    with pytest.raises(OperationFailed, match="doesn't exist"):
        read_review(tmp_path / "gone")


def test_dockerfiles_are_known_by_name() -> None:
    assert all(map(looks_like_dockerfile, ("Dockerfile", "dockerfile.dev", "Containerfile", "web.Dockerfile")))
    assert not any(map(looks_like_dockerfile, ("Dockerfiles", "compose.yaml", "docker")))


def test_names_fit_the_engine_s_grammar() -> None:
    assert image_name("Über Projekt!") == "ber-projekt"
    assert image_name("###") == "app"
    assert container_name("-x") == "xapp"
    assert name_from_reference("ghcr.io/team/web:1.2") == "web"
    assert name_from_reference("sha256:0123456789") == "container-012345"


@pytest.mark.parametrize("good", ["web", "web:1.2", "team/web", "localhost:5000/team/web:latest", "a__b", "a--b"])
def test_good_image_names_are_taken(good: str) -> None:
    assert is_image_reference(good)


@pytest.mark.parametrize("bad", ["", "Web", "web:", "web ", "-web", "a..b", "web:tag:tag", "../web", "a" * 300])
def test_bad_image_names_are_refused(bad: str) -> None:
    assert not is_image_reference(bad)


def test_sizes_are_written_as_docker_writes_them() -> None:
    assert [readable_size(size) for size in (0, 999, 1000, 1_500_000, 215_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "215 MB",
    ]
