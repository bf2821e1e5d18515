"""What the tests of images share with those of containers."""

from api.containers.conftest import _api, _events, _output, _run, _until

__all__ = ["_api", "_events", "_output", "_run", "_until"]
