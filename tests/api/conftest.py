"""What all tests of the Engine API share."""

from __future__ import annotations

import pytest
from support.contract import ApiContract, api_description


@pytest.fixture(name="contract", scope="session")
def _contract() -> ApiContract:
    path = api_description()
    if path is None:
        pytest.skip("the Engine API description is not beside the repository (shared/api/engine-v1.51.yaml)")
    return ApiContract(path)
