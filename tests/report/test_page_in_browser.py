"""The page in headless Chromium: the divider moves, the zoom is one for all, no error, no network request."""

import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from dlm_fiji.report import specimen, write_report

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
    "--window-size=1200,900",
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("Chromium or chromedriver is not installed (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    from selenium.webdriver.chrome.service import Service

    started = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield started
    started.quit()


def opened(driver, path):
    driver.get(path.as_uri())
    wait(driver, "return document.querySelectorAll('canvas[data-span]').length > 0")
    return driver


def wait(driver, script, seconds=20):
    end = time.monotonic() + seconds
    while not driver.execute_script(script):
        assert time.monotonic() < end, f"not within {seconds} s: {script}"
        time.sleep(0.05)


def requests_of(driver):
    """Addresses asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def canvases(driver, viewer=0):
    return driver.execute_script(
        "return [...document.querySelectorAll('.viewer')[arguments[0]].querySelectorAll('canvas')]"
        ".map((c) => ({...c.dataset, label: c.getAttribute('aria-label')}))",
        viewer,
    )


def shot(driver, element):
    """What a canvas shows, from a screenshot of it: pages from disk may not read their canvases."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"), float)


def test_no_error_and_no_request_but_its_own_files(driver, finished_run):
    driver.get("about:blank")
    time.sleep(0.3)
    driver.get_log("performance")
    driver.get_log("browser")
    page = finished_run / "report" / "index.html"
    opened(driver, page)
    wait(driver, "return [...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    asked = requests_of(driver)
    folder = page.parent.as_uri()
    assert len(asked) > 5
    assert all(url.startswith((folder, "data:")) for url in asked), asked


def test_nothing_sticks_out_of_the_window(driver, finished_run):
    opened(driver, finished_run / "report" / "index.html")
    for width in (1200, 800, 420):
        driver.set_window_size(width, 900)
        time.sleep(0.2)
        over = driver.execute_script(
            "return [document.documentElement.scrollWidth - document.documentElement.clientWidth,"
            "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right >"
            "document.documentElement.clientWidth + 1 && !e.closest('.scroll, pre, .skip'))"
            ".map((e) => e.outerHTML.slice(0, 90))]"
        )
        assert over[0] <= 0, over
    driver.set_window_size(1200, 900)


def test_the_divider_moves_and_shows_other_pixels(driver, finished_run):
    opened(driver, finished_run / "report" / "index.html")
    before = canvases(driver)[0]
    assert float(before["divider"]) == 0.5
    assert before["label"] == "Left: Richardson–Lucy; right: Network"
    driver.execute_script(
        "const choice = document.querySelector('.viewer select');"
        "choice.value = '0'; choice.dispatchEvent(new Event('change'));"
    )
    slider = driver.find_element("css selector", ".viewer input[type=range]")
    wait(
        driver,
        "return document.querySelector('.viewer canvas').ariaLabel.startsWith('Left: Input')",
    )
    shown = []
    for value in (0, 100):
        driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, value
        )
        wait(
            driver,
            f"return Number(document.querySelector('.viewer canvas').dataset.divider) === {value / 100}",
        )
        time.sleep(0.2)
        shown.append(shot(driver, driver.find_element("css selector", ".viewer canvas")))
    # Everything is the network's image at 0 and the blocky input at 100.
    height, width = shown[0].shape[:2]
    inner = (slice(height // 5, -height // 5), slice(width // 5, -width // 5))
    assert np.abs(shown[0][inner] - shown[1][inner]).mean() > 2


def test_the_divider_follows_the_keyboard_and_the_mouse(driver, finished_run):
    from selenium.webdriver import ActionChains, Keys

    opened(driver, finished_run / "report" / "index.html")
    slider = driver.find_element("css selector", ".viewer input[type=range]")
    slider.send_keys(Keys.ARROW_RIGHT * 4)
    wait(driver, "return Number(document.querySelector('.viewer canvas').dataset.divider) === 0.52")
    canvas = driver.find_element("css selector", ".viewer canvas")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    width = canvas.size["width"]
    chain = ActionChains(driver).move_to_element_with_offset(canvas, round(0.02 * width), 0)
    chain.click_and_hold().move_by_offset(-round(0.3 * width), 0).release().perform()
    wait(
        driver,
        "return Math.abs(Number(document.querySelector('.viewer canvas').dataset.divider) - 0.22) < 0.01",
    )
    status = driver.find_element("css selector", ".viewer .status").text
    assert "Line at 22 %" in status


def test_one_zoom_for_all_panes(driver, finished_run):
    from selenium.webdriver import ActionChains

    opened(driver, finished_run / "report" / "index.html")
    button = driver.find_element("xpath", "//button[text()='Side by side']")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
    button.click()
    wait(driver, "return document.querySelector('.viewer').querySelectorAll('canvas[data-span]').length === 6")
    whole = canvases(driver)
    assert len({pane["label"] for pane in whole}) == 6
    first = driver.find_elements("css selector", ".viewer canvas")[2]
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", first)
    ActionChains(driver).move_to_element_with_offset(first, 40, 30).double_click().perform()
    wait(
        driver,
        f"return document.querySelector('.viewer canvas').dataset.span < {float(whole[0]['span']) * 0.6}",
    )
    zoomed = canvases(driver)
    assert len({(p["cx"], p["cy"], p["span"]) for p in zoomed}) == 1
    assert float(zoomed[0]["cx"]) > float(whole[0]["cx"])
    ActionChains(driver).drag_and_drop_by_offset(first, -30, 0).perform()
    wait(driver, f"return Number(document.querySelector('.viewer canvas').dataset.cx) > {zoomed[0]['cx']}")
    assert len({(p["cx"], p["cy"], p["span"]) for p in canvases(driver)}) == 1


def test_keys_zoom_move_and_fit(driver, finished_run):
    opened(driver, finished_run / "report" / "index.html")
    canvas = driver.find_element("css selector", ".viewer canvas")
    start = canvases(driver)[0]
    canvas.send_keys("++")
    wait(
        driver,
        f"return Number(document.querySelector('.viewer canvas').dataset.span) < {float(start['span']) / 2}",
    )
    from selenium.webdriver import Keys

    canvas.send_keys(Keys.ARROW_LEFT)
    wait(driver, f"return Number(document.querySelector('.viewer canvas').dataset.cx) < {start['cx']}")
    canvas.send_keys("0")
    wait(driver, f"return document.querySelector('.viewer canvas').dataset.span === '{start['span']}'")
    assert canvases(driver)[0]["cx"] == start["cx"]


def test_everything_is_reachable_and_named(driver, finished_run):
    opened(driver, finished_run / "report" / "index.html")
    unnamed = driver.execute_script(
        "return [...document.querySelectorAll('button, select, input, canvas, img, a')].filter((e) =>"
        "!(e.textContent.trim() || e.getAttribute('aria-label') || e.alt || e.closest('label')))"
        ".map((e) => e.outerHTML)"
    )
    assert unnamed == []
    assert driver.execute_script(
        "return [...document.querySelectorAll('.viewer canvas')].every((c) => c.tabIndex === 0)"
    )


def test_deep_zoom_tiles_are_drawn(driver, new_run, monkeypatch):
    monkeypatch.setattr(specimen, "LARGEST_WHOLE", 1000)
    write_report(new_run)
    opened(driver, new_run / "report" / "index.html")
    driver.get_log("browser")
    canvas = driver.find_elements("css selector", "#whole canvas")[0]
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    time.sleep(1.0)
    assert len({url for url in requests_of(driver) if "/tiles/" in url}) > 1
    assert shot(driver, canvas).std() > 20  # an empty pane is one dark grey
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_prints_to_pdf_with_everything_open(driver, finished_run):
    import base64

    opened(driver, finished_run / "report" / "index.html")
    pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 100_000
    assert driver.execute_script("return [...document.querySelectorAll('details')].every((d) => d.open)")
