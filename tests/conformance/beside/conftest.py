"""`pytest tests/conformance/beside --refresh-objects` writes the expected objects anew; review the diff."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flag that refreshes."""
    parser.addoption("--refresh-objects", action="store_true", help="write the expected objects anew")
