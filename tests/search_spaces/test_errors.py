import pytest

from search_spaces import ArchitectureError, SpaceError


@pytest.mark.parametrize("error", [ArchitectureError, SpaceError])
def test_both_are_value_errors(error: type[Exception]) -> None:
    """So that a leaf's user needs to know nothing of them to catch bad values."""
    assert issubclass(error, ValueError)
