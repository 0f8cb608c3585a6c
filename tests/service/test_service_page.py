"""The page in headless Chromium: choose an image, see it enhanced, download it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.micrograph import from_array, open_image, save_image

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.browser


@pytest.fixture
def browser(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium or chromedriver is not installed (Debian: chromium chromium-driver)")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def address(tmp_path):
    environment = {**os.environ, "DLM_FIJI_STATE": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    code = "from dlm_fiji.service import serve; serve()"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().split(": ")[1].strip()
    process.kill()
    process.stdout.close()
    process.wait()


def wait(browser, states):
    from selenium.webdriver.support.ui import WebDriverWait

    script = "return document.body.dataset.state || ''"
    return WebDriverWait(browser, 120).until(
        lambda b: b.execute_script(script) if b.execute_script(script) in states else False
    )


def test_an_image_is_enhanced_shown_and_offered(browser, address, tmp_path):
    from selenium.webdriver.common.by import By

    image = from_array(np.random.default_rng(2).integers(0, 255, (60, 80, 3), dtype=np.uint8), 0.6)
    save_image(image, tmp_path / "my tile.tif")
    browser.get(address)
    assert wait(browser, {"ready", "failed"}) == "ready"
    assert "#" not in browser.current_url  # the token does not stay in the address bar
    names = [option.text for option in browser.find_elements(By.CSS_SELECTOR, "#model option")]
    assert "brightfield-x2.5" in names
    browser.execute_script("document.getElementById('file').hidden = false")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "my tile.tif"))
    assert wait(browser, {"done", "failed"}) == "done", browser.find_element(By.ID, "error").text
    size = "const i = document.getElementById(arguments[0]); return [i.naturalWidth, i.naturalHeight]"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda b: b.execute_script(size, "after")[0] > 0)
    assert browser.execute_script(size, "before") == [80, 60]
    assert browser.execute_script(size, "after") == [200, 150]
    split = browser.find_element(By.ID, "split")
    browser.execute_script("arguments[0].value = 20; arguments[0].oninput({target: arguments[0]})", split)
    assert "20%" in browser.find_element(By.ID, "after").get_attribute("style")
    link = browser.find_element(By.ID, "tif")
    assert link.get_attribute("download") == "my tile [enhanced].tif"
    script = (
        "const done = arguments[1]; fetch(arguments[0]).then(a => a.arrayBuffer())"
        ".then(b => done(Array.from(new Uint8Array(b))))"
    )
    content = bytes(browser.execute_async_script(script, link.get_attribute("href")))
    (tmp_path / "downloaded.tif").write_bytes(content)
    assert open_image(tmp_path / "downloaded.tif").shape == (3, 150, 200)
    faults = [
        entry
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in json.dumps(entry)
    ]
    assert faults == []
    folder = os.environ.get("DLM_FIJI_SCREENSHOTS")
    if folder:
        browser.save_screenshot(str(Path(folder) / "service_page.png"))


def test_a_wrong_token_and_a_file_that_is_no_image(browser, address, tmp_path):
    from selenium.webdriver.common.by import By

    browser.get(address)
    wait(browser, {"ready"})
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"not an image")
    browser.execute_script("document.getElementById('file').hidden = false")
    browser.find_element(By.ID, "file").send_keys(str(bad))
    assert wait(browser, {"done", "failed"}) == "failed"
    assert browser.find_element(By.ID, "error").text
