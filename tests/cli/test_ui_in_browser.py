"""The page of `swag-jax ui` in Chromium, as a visitor uses it. Run by `pytest -m browser`: not part of the suite."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from words import save_page_inputs

import swag_jax as swag

pytestmark = pytest.mark.browser

PATIENCE = 120_000  # milliseconds: a first stylization compiles


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_page_inputs(tmp_path_factory.mktemp("browser"), size=256)


@pytest.fixture(scope="module")
def address(folder):
    """The command in its own process."""
    words = [sys.executable, "-m", "swag_jax", "ui", str(folder / "mine.safetensors"), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as served:
        yield re.search(r"http://\S+", served.stderr.readline())[0]
        served.terminate()
        assert served.wait(60) == 143


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"there must be a browser: one of {', '.join(names)}"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture
def page(browser, address):
    """The page with all that it asked for, and what went wrong in it."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.asked, page.problems = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda problem: page.problems.append(str(problem)))
    page.goto(address)
    page.wait_for_selector("#go")
    yield page
    outside = [url for url in page.asked if not url.startswith((address, "data:", "blob:"))]
    assert (outside, page.problems) == ([], [])
    page.close()


def give(page, folder, photo="photo.png"):
    page.set_input_files("#photo input[type=file]", folder / photo)
    page.set_input_files("#painting input[type=file]", folder / "painting.png")
    page.wait_for_selector("#painting img")


def choose(page, method):
    page.click("#method input")
    page.locator("[role=option]", has_text=method).first.click()


def fill(page, name, value):
    page.fill(f"#{name} input[type=number]", str(value))
    page.keyboard.press("Tab")


def saved(page, button, folder):
    with page.expect_download() as download:
        page.click(button)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def wait_for_result(page):
    page.wait_for_selector("#go:not([disabled])")
    page.wait_for_selector("#save-image:not([disabled])")


def test_a_generator_paints_and_the_results_are_saved(page, folder, tmp_path):
    assert page.is_disabled("#save-image")
    assert page.is_visible("#strength")
    give(page, folder)
    fill(page, "size", 192)
    page.click("#go")
    wait_for_result(page)
    assert "painted in 0:" in page.inner_text("#status")
    assert page.locator("#result img").count() == 2
    path = saved(page, "#save-image", tmp_path)
    assert path.name == "photo_painting.png"
    assert swag.read_image(path).shape == (144, 192, 3)
    record = json.loads(saved(page, "#save-record", tmp_path).read_text())
    assert (record["settings"]["size"], record["generator"]["generator"]) == (192, "adain")


def test_an_image_develops_and_cancel_keeps_it(page, folder, tmp_path):
    give(page, folder)
    choose(page, "gatys-vgg19")
    page.wait_for_selector("#steps")
    assert page.locator("#strength").count() == 0 or not page.is_visible("#strength")
    fill(page, "size", 64)
    fill(page, "steps", 1000)
    page.click("#go")
    page.wait_for_selector("#status progress[value]:not([value='0.0000'])")
    assert page.is_disabled("#go")
    images = set()
    while len(images) < 2:  # one after the other
        page.wait_for_function(
            "seen => !seen.includes(document.querySelectorAll('#result img')[1]?.src ?? seen[0])", arg=[*images, ""]
        )
        images.add(page.locator("#result img").nth(1).get_attribute("src"))
    page.click("#stop")
    wait_for_result(page)
    assert re.search(r"cancelled after \d+ steps in", page.inner_text("#status"))
    record = json.loads(saved(page, "#save-record", tmp_path).read_text())
    assert record["status"] == "stopped"
    assert 0 < sum(scale["steps"] for scale in record["scales"]) < 1000


def test_a_broken_file_is_told(page, folder):
    give(page, folder, "broken.png")
    page.click("#go")
    page.wait_for_selector("#status [role=alert]")
    assert page.inner_text("#status").startswith("broken.png must be a whole, undamaged image")
    page.wait_for_selector("#go:not([disabled])")
    assert page.is_disabled("#save-image")
