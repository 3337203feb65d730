"""Work in slices, run at once."""

import pytest

from peerd.model.steps import whole


def test_all_steps_are_run_and_what_they_return_is_given() -> None:
    seen = []

    def steps():
        for number in range(3):
            seen.append(number)
            yield
        return "done"

    assert whole(steps()) == "done"
    assert seen == [0, 1, 2]


def test_what_a_step_raises_is_raised() -> None:
    def steps():
        yield
        raise ValueError("in the second step")

    with pytest.raises(ValueError, match="in the second step"):
        whole(steps())
