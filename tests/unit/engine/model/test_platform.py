"""Platforms as people and clients write them, and which images suit which; figures and wording are dockerd's."""

from __future__ import annotations

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.platform import Platform, host_platform, parse_platform, parse_platform_document


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("linux/aarch64/8", "linux/arm64/v8"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/6", "linux/arm/v6"),
        ("armel", "linux/arm/v6"),
        ("aarch64", "linux/arm64"),
        ("x86_64", "linux/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("windows(10.0.1)/amd64", "windows/amd64"),
        ("linux", str(host_platform())),
    ],
)
def test_platforms_have_short_and_long_forms(text: str, shown: str) -> None:
    assert str(parse_platform(text)) == shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        ("linux//", r'"" is an invalid component of "linux//": platform specifier component must match'),
        ("bad!", '"bad!" is an invalid OS component of "bad!": OSAndVersion specifier component must match'),
        ("", '"" is an invalid OS component of ""'),
        ("nonsense", '"nonsense": unknown operating system or architecture: invalid argument'),
    ],
)
def test_what_is_no_platform_is_told_as_docker_does(text: str, complaint: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        parse_platform(text)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("linux/amd64", "failed to parse platform: invalid character 'l' looking for beginning of value"),
        ("{", "failed to parse platform: unexpected end of JSON input"),
        ('{"os":"linux"}', "both OS and Architecture must be provided"),
        ("null", "both OS and Architecture must be provided"),
        ('""', "failed to parse platform: json: cannot unmarshal string into Go value of type v1.Platform"),
        ("[]", "failed to parse platform: json: cannot unmarshal array into Go value of type v1.Platform"),
        ('{"os":1}', "failed to parse platform: json: cannot unmarshal number into Go struct field Platform.os of type string"),
        ('{"os":"linux","architecture":"amd64"} x', "failed to parse platform: invalid character 'x' after top-level value"),
        ("[" * 100_000, "failed to parse platform: exceeded max depth"),
    ],
)
def test_a_platform_in_json_is_refused_as_docker_does(text: str, complaint: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        parse_platform_document(text)
    assert str(error.value) == complaint


def test_keys_of_a_platform_in_json_match_without_regard_to_case() -> None:
    assert parse_platform_document('{"OS":"linux","Architecture":"arm64","x":1}') == Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("machine", "suitable"),
    [
        ("linux/amd64", "linux/amd64 linux/386"),
        ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
        ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm/v6", "linux/arm/v6 linux/arm/v5"),
        ("linux/s390x", "linux/s390x"),
    ],
)
def test_a_machine_runs_earlier_variants_of_its_architecture(machine: str, suitable: str) -> None:
    assert " ".join(map(str, parse_platform(machine).suitable)) == suitable


def test_an_image_is_ranked_by_how_well_it_runs() -> None:
    machine = Platform("linux", "arm", "v7")
    images = [Platform("linux", "arm", "v6"), Platform("linux", "arm"), Platform("linux", "arm64"), Platform("windows", "arm")]
    assert [machine.rank(image) for image in images] == [1, 0, None, None]


def test_an_image_without_variant_is_accepted_for_any() -> None:
    wanted = Platform("linux", "amd64", "v2")
    assert wanted.accepts(Platform("linux", "amd64"))
    assert not wanted.is_exactly(Platform("linux", "amd64"))
    assert not wanted.accepts(Platform("linux", "amd64", "v3"))
    assert not wanted.accepts(Platform("linux", "arm64"))
