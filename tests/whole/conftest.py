"""The browser that tests of pages share."""

from collections.abc import Iterator

import pytest

from tests.parts.browser import Browser, Open, lab_book, launched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Open:
    """Opens the page anew: nothing is remembered from other tests."""
    return lambda *width, **settings: browser.open(lab_book().page, *width, **settings)
