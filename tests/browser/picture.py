"""A picture of a report for the README: `python -m tests.browser.picture REPORT.html PICTURE.png`.

It shows the verdict and, below it, who holds what piles up, as they are in the report; the
parts between them are left out.
"""

import argparse
from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, MARGIN = 1000, 36
_KEEP = """
() => {
  const main = document.querySelector("main");
  const path = document.querySelector(".pk-path");
  const shown = [document.getElementById("verdict")];
  if (path) shown.push(path.closest("section").querySelector("h2"), path);
  main.replaceChildren(...shown.filter(Boolean));
  document.querySelectorAll(".toc, footer, .anchor").forEach((each) => each.remove());
  document.querySelector(".layout").style.display = "block";
}
"""


def take(report: Path, picture: Path) -> None:
    """Write a picture of a report; the browser has no network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_context(offline=True, viewport={"width": WIDTH, "height": 600}).new_page()
        page.goto(report.resolve().as_uri())
        page.evaluate(_KEEP)
        bottom = page.evaluate("document.querySelector('main').lastElementChild.getBoundingClientRect().bottom")
        height = int(bottom) + MARGIN
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.screenshot(path=str(picture))
        browser.close()


def main() -> None:
    """Take the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    take(given.report, given.picture)


if __name__ == "__main__":
    main()
