"""How a build fails: errors that know their place in the Dockerfile, and the exit code of a step.

::

    InvalidParameter
    ├── DockerfileError     the text of the Dockerfile is wrong
    └── InstructionError    an instruction can't be carried out as written
    EngineError
    └── StepFailed          a RUN's command ended with a non-zero code
"""

from __future__ import annotations

from kitepy.engine.model.errors import EngineError, InvalidParameter


class DockerfileError(InvalidParameter):
    """A mistake in the Dockerfile; ``line`` counts from 1, 0 is unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"dockerfile parse error on line {line}: {message}" if line else message)
        self.reason = message
        self.line = line


class StepFailed(EngineError):
    """A command of the build ended with ``code``, which is never zero."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class InstructionError(InvalidParameter):
    """An instruction is well formed but can't be carried out: a file or an image is missing, say."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"{message} (Dockerfile line {line})" if line else message)
        self.reason = message
        self.line = line
