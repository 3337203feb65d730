"""`pytest tests/conformance/scenarios --refresh-views` writes the expected views anew; review the diff."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flag that refreshes."""
    parser.addoption(
        "--refresh-views", action="store_true", help="write the expected views of scenarios anew"
    )
