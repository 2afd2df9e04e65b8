"""browser_test.py TEST_PROGRAM PLUMB: opens report pages in headless Chromium and uses them.

The pages: those that the C++ tests of the writer make, and one of a planted model. Ends with 77, which
ctest shows as skipped, where there is no Chromium. With $PLUMB_SCREENSHOTS set, pictures go there.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree

from devtools import Browser, find_browser  # noqa: E402

failures = []


def expect(truth, what):
    if not truth:
        failures.append(what)
        print(f"FAILED: {what}", file=sys.stderr)


def make_pages(directory, test_program, plumb):
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run([test_program, "--gtest_filter=HtmlReport.*"],
                   env=os.environ | {"PLUMB_PAGES": directory}, **quiet)
    out = os.path.join(directory, "planted")
    subprocess.run([plumb, "p0", "planted", "--sequences", "12", "--length", "48", "--causal-sequences", "8",
                    "--causal-length", "48", "--self-mask-position", "20", "--out", out, "--quiet"], **quiet)
    subprocess.run([plumb, "report", out, "--to", os.path.join(directory, "planted.html")], **quiet)


def fits(browser, name):
    """Nothing but tables, maps and drawings in frames of their own may be wider than the window."""
    wide = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    expect(wide <= 0, f"{name}: the page is {wide} pixels too wide")


def looks_alive(browser, page, name):
    browser.open(page)
    expect(not browser.troubles, f"{name}: {browser.troubles}")
    strange = [url for url in browser.requests if not url.startswith(("file:", "data:"))]
    expect(not strange, f"{name}: asked the network for {strange}")
    expect(browser.evaluate("document.title") != "broken", f"{name}: text of the archive was run")
    expect(browser.evaluate("document.images.length") == 0, f"{name}: text of the archive made an image")
    for width in (1200, 360):
        browser.resize(width, 800)
        fits(browser, f"{name} at {width}")
    browser.resize(1200, 900)


def colours(browser, selector):
    """How many colours a canvas shows."""
    return browser.evaluate(
        f"(() => {{ const c = document.querySelector('{selector}'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set(); for (let i = 0; i < d.length; "
        "i += 4) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return s.size; })()")


def use_map(browser):
    expect(colours(browser, "#map") > 8, "the map has colours")
    layers, heads = browser.evaluate("[data.surveys[0].layers, data.surveys[0].heads]")
    browser.point("#map", 0.2, 0.3)
    said = browser.text("#map-said")
    expect(said.startswith("Layer ") and re.search(r"head \d+: sink [01]\.\d{3}", said), f"pointing at the map says '{said}'")
    browser.evaluate("document.querySelector('#map').focus()")
    for _ in range(heads + layers):
        browser.key("ArrowLeft", 37)
        browser.key("ArrowUp", 38)
    expect(browser.text("#map-said").startswith("Layer 0, head 0:"), "arrow keys reach the first head")
    browser.key("ArrowDown", 40)
    browser.key("ArrowRight", 39)
    browser.key("Enter", 13)
    expect("Its attention is shown below" in browser.text("#map-said"), "Enter chooses the head")
    chosen = browser.evaluate("['seen-layer', 'seen-head'].map((id) => document.getElementById(id).value)")
    expect(chosen == ["1", "1"], f"the attention part follows the map: {chosen}")


def use_profiles(browser):
    browser.point("#norms", 0.4)
    said = browser.text("#profile-said")
    expect("norm at position 0" in said and "not measured; told" not in said, f"profile says '{said}'")
    browser.evaluate("document.querySelector('#directions').focus()")
    browser.key("ArrowRight", 39)
    expect(browser.text("#profile-said") != said, "an arrow key moves along the layers")


def use_attention(browser):
    expect(colours(browser, "#pattern") > 3, "the pattern has colours")
    browser.click("#tokens span:nth-child(4)")
    expect(browser.evaluate("document.querySelector('#tokens span:nth-child(4)').ariaSelected") == "true",
           "a click chooses the query")
    browser.point("#tokens span:nth-child(1)")
    said = browser.text("#seen-said")
    expect("query 3 " in said and "gives key 0 " in said, f"pointing at a token says '{said}'")
    browser.click("#seen-mean")
    expect("mean over the queries" in browser.text("#seen-said"), "the mean is back")
    browser.point("#pattern", 0.1, 0.8)
    expect("gives key" in browser.text("#seen-said"), "pointing at the pattern says a value")
    browser.evaluate("document.querySelector('#seen-head').value = '0'; "
                     "document.querySelector('#seen-head').dispatchEvent(new Event('change'))")
    expect(", head 0:" in browser.text("#seen-said"), "the list chooses the head")


def use_graph(browser):
    box = "document.querySelector('#graph').getAttribute('viewBox').split(' ').map(Number)"
    before = browser.evaluate(box)
    browser.click("#zoom-in")
    after = browser.evaluate(box)
    expect(after[2] < before[2], "a button zooms in")
    x, y = browser.point("#graph-frame", 0.05, 0.5)
    browser.mouse("mousePressed", x, y, button="left", clickCount=1)
    for step in (10, 20, 30):
        browser.mouse("mouseMoved", x + step, y + step, button="left", buttons=1)
    browser.mouse("mouseReleased", x + 30, y + 30, button="left", clickCount=1)
    expect(browser.evaluate(box)[0] < after[0], "dragging moves the drawing")
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=100, modifiers=2)
    expect(browser.until(f"{box}[2] > {after[2]}", 3), "Ctrl and the wheel zoom out")
    browser.evaluate("document.querySelector('#graph-frame').focus({preventScroll: true})")
    browser.key("0", 48)
    browser.point("#graph .node.sink")
    said = browser.text("#graph-said")
    expect("(sink), score" in said and "edges in" in said, f"pointing at a node says '{said}'")
    expect(browser.evaluate("document.querySelectorAll('#graph .edge.on').length") > 0,
           "the edges of the node are lit")
    browser.evaluate("document.querySelector('#graph .node').focus()")
    expect(browser.text("#graph-said") != said, "focus tells as the mouse does")


def take_pictures(browser, directory, pages):
    for name, page in pages.items():
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            for label, width in (("", 1200), ("_narrow", 380)):
                browser.resize(width, 900)
                browser.open(page)
                browser.screenshot(os.path.join(directory, f"{name}_{scheme}{label}.png"), whole=True)


def main():
    program = find_browser()
    if program is None:
        print("skipped: no Chromium is installed (Debian: apt install chromium)")
        return 77
    with tempfile.TemporaryDirectory(prefix="plumb-pages-") as directory:
        make_pages(directory, sys.argv[1], sys.argv[2])
        pages = {os.path.basename(path)[:-5]: path for path in sorted(glob.glob(directory + "/*.html"))}
        expect({"early", "hostile", "large", "planted", "sink"} <= set(pages), f"pages made: {list(pages)}")
        browser = Browser(program)
        try:
            for name, page in pages.items():
                looks_alive(browser, page, name)
            for name in ("planted", "hostile"):
                browser.open(pages[name])
                for use in (use_map, use_profiles, use_attention, use_graph):
                    use(browser)
                expect(not browser.troubles, f"{name}, in use: {browser.troubles}")
            light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            browser.scheme("dark")
            expect(browser.until(f"getComputedStyle(document.body).backgroundColor !== '{light}'", 3),
                   "a dark scheme changes the page")
            pictures = os.environ.get("PLUMB_SCREENSHOTS")
            if pictures:
                os.makedirs(pictures, exist_ok=True)
                take_pictures(browser, pictures, pages)
        finally:
            browser.close()
    print(f"{len(failures)} failures on {len(pages)} pages")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
