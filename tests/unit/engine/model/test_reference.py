from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.reference import Reference, check_digest, parse_reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
        ("me/app:x", "docker.io/me/app:x", "me/app:x"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "127.0.0.1:5000/a"),
        ("[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a:b"),
        ("ghcr.io/o/i@" + DIGEST, "ghcr.io/o/i@" + DIGEST, "ghcr.io/o/i@" + DIGEST),
        ("nginx:1@" + DIGEST, "docker.io/library/nginx:1@" + DIGEST, "nginx:1@" + DIGEST),
        ("a__b/c-d--e.f", "docker.io/a__b/c-d--e.f", "a__b/c-d--e.f"),
        ("Foo/bar", "Foo/bar", "Foo/bar"),
    ],
)
def test_a_reference_is_normalised_and_shortened(text: str, full: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == full
    assert reference.familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        *("", ":tag", "a:", "a//b", "/a", "a/", "a:b:c", "a b", "-a", "a-", "a..b", "a___b", "a:" + "t" * 129, "a:.x"),
        *("a@sha256:abc", "a@", "é"),
    ],
)
def test_a_malformed_reference_is_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid reference format"):
        parse_reference(text)


def test_an_upper_case_repository_is_explained() -> None:
    with pytest.raises(InvalidParameter, match=r"invalid reference format: repository name \(library/Nginx\) must be lowercase"):
        parse_reference("Nginx")


def test_a_bare_id_is_no_repository() -> None:
    with pytest.raises(InvalidParameter, match="cannot specify 64-byte hexadecimal strings"):
        parse_reference("ab" * 32)


def test_a_name_of_more_than_255_characters_is_refused() -> None:
    assert parse_reference("x/" + "a" * 253).path == "x/" + "a" * 253
    with pytest.raises(InvalidParameter, match="must not be more than 255 characters"):
        parse_reference("x/" + "a" * 254)


@pytest.mark.parametrize(
    ("digest", "message"),
    [
        ("sha256:" + "a" * 63, "length"),
        ("sha256:" + "A" * 64, "format"),
        ("md5:" + "a" * 32, "unsupported"),
        ("nonsense", "format"),
    ],
)
def test_a_digest_must_fit_its_algorithm(digest: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        check_digest(digest)


def test_latest_is_added_only_when_nothing_was_given() -> None:
    assert parse_reference("a").with_default_tag().tag == "latest"
    assert parse_reference("a:b").with_default_tag().tag == "b"
    assert parse_reference("a@" + DIGEST).with_default_tag().tag is None


COMPONENT = st.from_regex(r"[a-z0-9]{1,5}(([.]|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
DOMAIN = st.sampled_from(["docker.io", "localhost", "localhost:5000", "ghcr.io", "r.example.com:443", "[fe80::1]:80"])
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(DOMAIN, st.lists(COMPONENT, min_size=1, max_size=4), st.none() | TAG, st.none() | st.just(DIGEST))
def test_both_forms_of_a_reference_parse_back_to_it(domain: str, path: list[str], tag: str | None, digest: str | None) -> None:
    reference = parse_reference(str(Reference(domain, "/".join(path), tag, digest)))
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidParameter:
        return
    assert parse_reference(str(reference)) == reference
    assert str(reference).isascii()
