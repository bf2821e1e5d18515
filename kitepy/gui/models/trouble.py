"""What stands between the user and a registry, in the user's terms, with the next step. Pure: from the engine's words to ours."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from kitepy.gui.models.reference import DOCKER_HUB, Reference


class Remedy(enum.Enum):
    """What the app can do about it; the value is the button's text."""

    LOG_IN = "Log in…"
    RETRY = "Try again"
    SEARCH = "Search again"
    SHOW_TAGS = "Show its tags"
    SHOW_IMAGES = "Show images"
    REGISTRIES = "Registries…"


class Cause(enum.Enum):
    NO_NETWORK = "no network"
    """Nothing is wrong with the name or the registry, as far as can be told: this machine is offline."""
    UNREACHABLE = "unreachable"
    CERTIFICATE = "certificate"
    PLAIN_HTTP = "plain HTTP"
    DENIED = "denied"
    BAD_LOGIN = "bad login"
    UNKNOWN_TAG = "unknown tag"
    UNKNOWN_NAME = "unknown name"
    PLATFORM = "platform"
    LIMIT = "limit"
    DISK = "disk"
    DAMAGED = "damaged"
    ENGINE = "engine"
    """It went away meanwhile."""
    OTHER = "other"


@dataclass(frozen=True)
class Trouble:
    """`command` is something to copy and run; `original` is what the engine said."""

    cause: Cause
    title: str
    text: str
    remedies: tuple[Remedy, ...] = ()
    command: str = ""
    original: str = ""

    @property
    def calm(self) -> bool:
        """Nothing is broken: it is to be expected, and the rest works."""
        return self.cause in (Cause.NO_NETWORK, Cause.DENIED, Cause.LIMIT)

    @property
    def sentence(self) -> str:
        return f"{self.title}. {self.text}".strip()


_NO_NETWORK = re.compile(
    r"network is unreachable|no route to host|temporary failure in name resolution|EAI_AGAIN|server misbehaving|"
    r"network is down|\[::1\]:53|could not resolve",
    re.IGNORECASE,
)
_NO_SUCH_HOST = re.compile(r"no such host|name or service not known|nodename nor servname|name does not resolve", re.IGNORECASE)
_SILENT = re.compile(
    r"connection refused|i/o timeout|timed? ?out|deadline exceeded|no answer within|connection reset|broken pipe|\bEOF\b|"
    r"cannot connect|can't connect|connect call failed|server disconnected|bad gateway|service unavailable|gateway time",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(r"x509|certificate|CERTIFICATE_VERIFY_FAILED|unknown ca\b|self.signed", re.IGNORECASE)
_PLAIN = re.compile(
    r"HTTP response to HTTPS client|wrong version number|record layer failure|first record does not look like a TLS",
    re.IGNORECASE,
)
_BAD_LOGIN = re.compile(r"incorrect username or password|bad credentials|invalid username|authentication failed", re.IGNORECASE)
_DENIED = re.compile(
    r"access denied|access to the resource is denied|no basic auth credentials|unauthorized|authentication required|"
    r"insufficient[_ ]scope|\bdenied\b|forbidden|docker login",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"toomanyrequests|too many requests|rate.?limit|\b429\b", re.IGNORECASE)
_TAG = re.compile(r"manifest for .* not found|manifest unknown|manifest_unknown|no such manifest", re.IGNORECASE)
_NAME = re.compile(r"name unknown|name_unknown|repository .*not (?:found|known)|repository name not known|\b404\b", re.IGNORECASE)
_PLATFORM = re.compile(r"no matching manifest for|no match for platform|does not match the (?:specified|detected)", re.IGNORECASE)
_DISK = re.compile(r"no space left|disk quota|ENOSPC", re.IGNORECASE)
_DAMAGED = re.compile(
    r"verification failed|digest.*(?:mismatch|does not match)|invalid checksum|unexpected (?:digest|size)", re.IGNORECASE
)
_OTHER_ENGINE = re.compile(r"this engine can't look into registries", re.IGNORECASE)
_WHEN = re.compile(r"(?:in|after) (\d+(?:\.\d+)?) ?s", re.IGNORECASE)


@dataclass(frozen=True)
class EnginePlaces:
    """Where the engine looks for what concerns registries."""

    certificates: str = "/etc/docker/certs.d"
    """A folder with a folder a registry, for its authority and for our certificate."""
    options: str = "/etc/kitepy/engine.json"


HERE = EnginePlaces()


def explain(message: str, subject: Reference | str, user: str = "", places: EnginePlaces = HERE) -> Trouble:
    """`subject` is an image, or as text a registry's host; `user` who is logged in there, or empty."""
    original = message
    # Advice of the engine's, which names certificates whatever went wrong.
    message = message.partition(". If this private registry supports only")[0]
    reference, host = (None, subject) if isinstance(subject, str) else (subject, subject.registry)
    place = "Docker Hub" if host == DOCKER_HUB else host
    named = reference.familiar if reference else host
    short = reference.repository.removeprefix("library/") if reference else "such repository"

    def trouble(cause: Cause, title: str, text: str, *remedies: Remedy, command: str = "") -> Trouble:
        return Trouble(cause, title, text, remedies, command, original)

    if _OTHER_ENGINE.search(message):
        return trouble(Cause.OTHER, "This engine can't look into registries", "Kitepy's own can. It can pull all the same.")
    if _PLAIN.search(message):
        return trouble(
            Cause.PLAIN_HTTP,
            f"{place} speaks plain HTTP",
            "Nothing on the way would be protected, so the engine refuses it unless it is allowed for this registry: write the "
            f"option below into {places.options}, then `kitepy engine stop` and `start` (or --insecure-registry {host}).",
            Remedy.RETRY,
            command=f'{{"insecure-registries": ["{host}"]}}',
        )
    if _CERTIFICATE.search(message):
        folder = f"{places.certificates}/{host}"
        words = _certificate_words(message, place, folder)
        return trouble(Cause.CERTIFICATE, *words, Remedy.RETRY, command=f"{folder}/ca.crt" if "authority" in words[0] else "")
    if _LIMIT.search(message):
        return trouble(Cause.LIMIT, *_limit_words(message, place, user), *([] if user else [Remedy.LOG_IN]), Remedy.RETRY)
    if _DISK.search(message):
        return trouble(
            Cause.DISK,
            "The disk is full",
            "What was fetched so far is kept. Remove images or volumes that nothing uses, then go on.",
            Remedy.SHOW_IMAGES,
            Remedy.RETRY,
        )
    if _NO_NETWORK.search(message):
        return trouble(
            Cause.NO_NETWORK,
            "There is no network",
            f"{place} can't be reached. Images that are on this machine can be run all the same.",
            Remedy.RETRY,
        )
    if _NO_SUCH_HOST.search(message):
        return trouble(
            Cause.NO_NETWORK if host == DOCKER_HUB else Cause.UNREACHABLE,
            f"{place} isn't found",
            "No server has this name, or there is no network. Check how it is written."
            if host != DOCKER_HUB
            else "There is no network, or its name service doesn't answer. Images that are on this machine can be run.",
            Remedy.RETRY,
        )
    if _PLATFORM.search(message):
        return trouble(
            Cause.PLATFORM,
            f"{named} isn't made for this machine",
            "Choose another tag or one of the platforms that it has.",
            Remedy.SHOW_TAGS,
        )
    if _DAMAGED.search(message):
        return trouble(
            Cause.DAMAGED,
            "What arrived isn't what was asked for",
            f"{place} or something on the way sent other content than the image's digest promises. Nothing of it is used.",
            Remedy.RETRY,
        )
    if _BAD_LOGIN.search(message):
        return trouble(
            Cause.BAD_LOGIN,
            f"{place} doesn't accept the login",
            f"User name or password{f' of {user}' if user else ''} aren't right, or no longer.",
            Remedy.LOG_IN,
        )
    if _TAG.search(message) and not _NAME.search(message):
        tag = reference.tag if reference else ""
        return trouble(
            Cause.UNKNOWN_TAG,
            f"{reference.familiar_repository} has no tag {tag}" if reference and tag else f"{named} isn't there",
            "Tags come and go. Choose one that it has.",
            Remedy.SHOW_TAGS,
        )
    if _DENIED.search(message):
        return trouble(Cause.DENIED, *_denied_words(named, place, user, bool(reference)), Remedy.LOG_IN, Remedy.SEARCH)
    if _NAME.search(message):
        return trouble(
            Cause.UNKNOWN_NAME, f"{place} has no {short}", "Check how the name is written.", Remedy.SEARCH, Remedy.LOG_IN
        )
    if _SILENT.search(message):
        return trouble(
            Cause.UNREACHABLE,
            f"{place} doesn't answer",
            "It is down or busy, or something on the way holds it up.",
            Remedy.RETRY,
        )
    return trouble(Cause.OTHER, f"{place} and the engine couldn't agree", message, Remedy.RETRY)


def refused_login(message: str, host: str, user: str, places: EnginePlaces = HERE) -> Trouble:
    """Of a login that was tried: that somebody has to log in is no news then."""
    found = explain(message, host, user, places)
    return explain("incorrect username or password", host, user) if found.cause is Cause.DENIED else found


def _denied_words(named: str, place: str, user: str, is_image: bool) -> tuple[str, str]:
    if not is_image:
        return (
            f"{place} wants to know who you are",
            "Log in to see what it has." if not user else f"{user} may not do that there.",
        )
    if user:
        return f"{named} can't be had", f"There is no such repository at {place}, or {user} may not read it. Check the name."
    return f"{named} can't be had", f"There is no such repository at {place}, or it is private: check the name, or log in."


def _limit_words(message: str, place: str, user: str) -> tuple[str, str]:
    found = _WHEN.search(message)
    when = f"Try again in {found[1]} seconds." if found else "Try again later."
    more = "" if user else " Who is logged in may fetch more."
    return f"{place} allows no more for now", f"{when}{more}"


def _certificate_words(message: str, place: str, folder: str) -> tuple[str, str]:
    if re.search(r"expired|not yet valid", message, re.IGNORECASE):
        why = "It has expired, or this machine's clock is wrong. Ask who runs the registry."
        return f"{place}'s certificate isn't valid today", why
    if re.search(
        r"hostname mismatch|not valid for|doesn't match|is valid for|cannot validate certificate", message, re.IGNORECASE
    ):
        why = "It is made out to another name: check the address, or ask who runs the registry."
        return f"{place}'s certificate is another's", why
    if re.search(r"certificate required|bad certificate|handshake failure", message, re.IGNORECASE):
        return f"{place} wants a certificate of yours", f"Put client.cert and client.key into {folder}, then try again."
    return (
        f"{place}'s certificate is signed by an authority that isn't known here",
        "If the registry is yours, ask who runs it for the authority's certificate and store it as the file below. "
        "If not, somebody may be listening: don't go on.",
    )
