"""Headless Chromium for the tests of pages and of MLflow's UI."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

MILLISECONDS = 120_000  # a first look at MLflow's UI takes half a minute on a busy machine
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def browser() -> Iterator[Any]:
    """A browser; where there is none the tests are skipped, but in CI."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        sentence = "There is no chromium: install it to run the browser tests."
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def page() -> Iterator[Any]:
    """A page wide enough for MLflow's UI, with patience for the other process's tests."""
    with browser() as opened:
        page = opened.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(MILLISECONDS)
        yield page
