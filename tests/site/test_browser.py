"""The built site as a reader has it: in Chromium, light and dark, wide and narrow, by
mouse and by keyboard. What is looked at is in ``examine.py``."""

import pytest

from .conftest import PAGES, wanted
from .examine import Open, on_a_desk, on_a_phone

pytestmark = pytest.mark.site
EVERY = wanted([*PAGES, "search.html", "search.html?q=anchor", "genindex.html"])


@pytest.mark.parametrize("path", EVERY)
def test_on_a_desk_in_the_light(
    visit: Open, path: str, subtests: pytest.Subtests
) -> None:
    for check, wrong in on_a_desk(visit, path).items():
        with subtests.test(check):
            assert not wrong, f"{path}, {check}"


@pytest.mark.parametrize("path", EVERY)
def test_on_a_phone_in_the_dark(
    visit: Open, path: str, subtests: pytest.Subtests
) -> None:
    for check, wrong in on_a_phone(visit, path).items():
        with subtests.test(check):
            assert not wrong, f"{path}, {check}"
