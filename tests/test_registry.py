"""Things by name: what is entered is found, and what is entered inside `unchanged` is gone after
it.
"""

import pytest

from expint import adaptive, grids, schedules, solvers
from expint.adaptive import pairs
from expint.grids import uniform_lambda
from expint.registry import Registry
from expint.schedules import VP, Schedule
from expint.solvers import seeds1, seeds2


@pytest.fixture
def animals() -> Registry[int]:
    found = Registry[int]("pet", ", or a number of legs")
    found.add("cat", 4)
    found.register("bird")(2)
    return found


def test_what_is_entered_is_found(animals: Registry[int]):
    assert animals.get("cat") == 4 and animals.get("bird") == 2
    assert animals.names() == ["bird", "cat"] and list(animals) == ["cat", "bird"]
    assert "cat" in animals and "dog" not in animals


def test_names_that_are_unknown_or_taken(animals: Registry[int]):
    with pytest.raises(ValueError, match=r"Unknown pet 'cart'; nearest: \['cat'\]") as caught:
        animals.get("cart")
    assert str(caught.value).endswith("All: ['bird', 'cat'], or a number of legs.")
    with pytest.raises(ValueError, match=r"There is a pet 'cat' already: choose another name"):
        animals.add("cat", 5)
    assert animals.get("cat") == 4


def test_what_is_entered_inside_unchanged_is_gone_after_it(animals: Registry[int]):
    with Registry.unchanged():
        animals.add("ant", 6)
        with Registry.unchanged():
            animals.add("spider", 8)
            assert animals.names() == ["ant", "bird", "cat", "spider"]
        assert animals.names() == ["ant", "bird", "cat"]
    assert animals.names() == ["bird", "cat"] and list(animals) == ["cat", "bird"]
    with pytest.raises(ValueError, match="Unknown pet 'ant'"):
        animals.get("ant")
    animals.add("ant", 7)  # the name is free again
    assert animals.get("ant") == 7


def test_unchanged_after_an_error(animals: Registry[int]):
    def fail() -> None:
        with Registry.unchanged():
            animals.add("ant", 6)
            raise KeyError("ant")

    with pytest.raises(KeyError):
        fail()
    assert "ant" not in animals


def test_a_registry_made_inside_unchanged_keeps_its_entries():
    """As that of a module that is imported there for the first time."""
    with Registry.unchanged():
        plants = Registry[int]("plant")
        plants.add("tree", 1)
    assert plants.get("tree") == 1


def test_unchanged_concerns_every_registry():
    """Solvers, schedules, grids and adaptive solvers, through the functions that users call; a
    solver that was built meanwhile is unknown again, and its name may stand for another.
    """

    def known() -> list[list[str]]:
        listed = sorted(adaptive.embedded_pairs())
        return [solvers.names(), schedules.names(), grids.names(), listed]

    class Mine(VP):
        pass

    before = known()
    with Registry.unchanged():
        solvers.register("mine", seeds2, "A test.")
        schedules.register("mine")(Mine)
        grids.register("mine")(uniform_lambda)
        pairs._PAIRS.add("mine", adaptive.get_pair("seeds-12"))
        assert solvers.get("mine").tableau == seeds2()
        assert isinstance(schedules.get("mine"), Schedule)
        assert all("mine" in names for names in known())
    assert known() == before
    with pytest.raises(ValueError, match="Unknown solver 'mine'"):
        solvers.get("mine")
    solvers.register("mine", seeds1, "Another test.")
    assert solvers.get("mine").tableau == seeds1()
