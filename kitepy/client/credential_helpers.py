"""Speaks with docker-credential programs, which keep logins for Docker's command line; used by ``credentials.py``.

Protocol: docker-credential-helpers: the verb is the argument, the request comes on stdin, the answer, or the reason of a
failure, goes to stdout. A helper may hang, answer without end or with anything: each call has a deadline and a bound. What
a helper says may be a secret unless it failed, so it never shows in a message then.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

TIMEOUT_S = 60.0
"""Long enough for the user to unlock what the helper keeps secrets in."""
TOKEN_USER = "<token>"  # noqa: S105  # a marker, no secret
"""The user name under which helpers keep an identity token."""
_NOT_FOUND = "credentials not found in native keychain"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LONGEST_REQUEST = 32_768
_LONGEST_ANSWER = 1 << 20
_SETTLE_S = 0.2


class HelperError(Exception):
    """A helper is missing, failed, or is none; one sentence without a secret."""


class CredentialHelper:
    """One docker-credential program."""

    def __init__(self, name: str, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> None:
        self.name = name
        self._environment = environment
        self._timeout_s = timeout_s

    @property
    def program(self) -> str:
        """What it is called in PATH."""
        return f"docker-credential-{self.name}"

    def is_installed(self) -> bool:
        """Whether there is such a program."""
        return bool(_NAME.fullmatch(self.name)) and self._found() is not None

    def get(self, server: str) -> tuple[str, str] | None:
        """User name and secret of a server, or None. Raises HelperError."""
        try:
            answer = self._ask("get", server)
        except HelperError as error:
            if _NOT_FOUND in str(error):
                return None
            raise
        username, secret = answer.get("Username", ""), answer.get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str):
            raise HelperError(f"{self.program} gave an answer that is no login")
        return (username, secret) if username or secret else None

    def store(self, server: str, username: str, secret: str) -> None:
        """Keep a login. Raises HelperError."""
        self._run("store", json.dumps({"ServerURL": server, "Username": username, "Secret": secret}))

    def erase(self, server: str) -> None:
        """Forget a login; it is no error when there is none. Raises HelperError."""
        try:
            self._run("erase", server)
        except HelperError as error:
            if _NOT_FOUND not in str(error):
                raise

    def list(self) -> dict[str, str]:
        """The servers it has logins for, with their user names. Raises HelperError."""
        return {server: user for server, user in self._ask("list", "").items() if isinstance(user, str)}

    def _ask(self, verb: str, request: str) -> dict[str, Any]:
        output = self._run(verb, request)
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise HelperError(f"{self.program} gave an answer that is no JSON object")
        return answer

    def _found(self) -> str | None:
        return shutil.which(self.program, path=self._environment.get("PATH", os.defpath))

    def _run(self, verb: str, request: str) -> bytes:
        if not _NAME.fullmatch(self.name):
            raise HelperError(f"{self.name[:100]!r} is no name of a credential helper")
        program = self._found()
        if program is None:
            raise HelperError(f"{self.program} is not installed")
        data = request.encode()
        if len(data) > _LONGEST_REQUEST:
            raise HelperError(f"the login is too long for {self.program}")
        try:
            process = subprocess.Popen(
                [program, verb],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(self._environment),
                start_new_session=True,  # so that it can be ended with all that it starts
            )
        except OSError as error:
            raise HelperError(f"{self.program} can't be started: {error.strerror}") from None
        try:
            output = self._converse(process, data)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(BrokenPipeError):
                    stream.close()
        if process.returncode:
            reason = output.decode(errors="replace").strip().partition("\n")[0][:200]
            raise HelperError(f"{self.program} failed: {reason or f'exit status {process.returncode}'}")
        return output

    def _converse(self, process: subprocess.Popen[bytes], data: bytes) -> bytes:
        """Send the request and read until the program ends or closes its output, whichever is first."""
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(data)
            process.stdin.flush()
        with suppress(BrokenPipeError):
            process.stdin.close()
        deadline = time.monotonic() + self._timeout_s
        output = bytearray()
        ended = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                selector.register(ended, selectors.EVENT_READ)
                while True:
                    ready = {key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))}
                    if not ready:
                        raise HelperError(f"{self.program} did not answer within {self._timeout_s:g} seconds")
                    if process.stdout.fileno() in ready:
                        block = os.read(process.stdout.fileno(), 65536)
                        output += block
                        if len(output) > _LONGEST_ANSWER:
                            raise HelperError(f"{self.program} gave an answer without end")
                        if not block:
                            break
                    elif ended in ready:
                        return bytes(output)  # something that it left behind holds its output
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(_SETTLE_S, deadline - time.monotonic()))
            if process.returncode is None:
                raise HelperError(f"{self.program} did not end within {self._timeout_s:g} seconds")
            return bytes(output)
        finally:
            os.close(ended)
