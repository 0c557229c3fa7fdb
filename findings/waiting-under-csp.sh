#!/bin/sh
# A page's Content-Security-Policy allows no eval.  Does that concern a test that waits for a condition in this page
# with playwright's wait_for_function, as page.evaluate is not concerned?
#
# Guess: it does not, or it does always: the expression is evaluated in the page or it is not.
# Seen, playwright 1.65.2 from PyPI, Debian's Chromium 156.0.8078.108, x86-64: it depends on time.  The expression
# "window.late" passes if it is true at the first look, and raises an EvalError ("unsafe-eval") if it is not yet.  So a
# test that always arrives late is green, and fails once the page is slow: it looks flaky, and the error speaks of the
# page.  The first look is made by the debugger, which the policy does not bind, every other one by an eval in the page.
# A function, "() => window.late", is made once, at the first look, and waits as one would think.
#
# usage: waiting-under-csp.sh [CHROMIUM]        default: chromium; needs python3 with venv
set -eu
chromium=$(command -v "${1:-chromium}") || { echo "cannot tell here: there is no ${1:-chromium}"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check playwright==1.65.2
cat > "$folder/seen.py" <<'PROGRAM'
import base64
import hashlib
import sys
from importlib.metadata import version

from playwright.sync_api import Error, sync_playwright

SCRIPT = "window.early = true; setTimeout(() => { window.late = true }, 2000)"
ALLOWED = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"<meta http-equiv='Content-Security-Policy' content=\"script-src 'sha256-{ALLOWED}'\">"
EXPECTED = {
    ("", "window.late"): "true",
    (POLICY, "window.early"): "true",
    (POLICY, "window.late"): "EvalError",
    (POLICY, "() => window.late"): "true",
}


def waited(page, policy, condition):
    """What waiting for a condition in a new page ends with."""
    page.goto("about:blank")
    page.set_content(f"<!doctype html>{policy}<script>{SCRIPT}</script>")
    try:
        page.wait_for_function(condition)
    except Error as error:
        return "EvalError" if "EvalError" in error.message and "unsafe-eval" in error.message else error.message
    return "true"


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox"])
    page = browser.new_page()
    print(f"playwright {version('playwright')}, Chromium {browser.version}")
    for (policy, condition), expected in EXPECTED.items():
        seen = waited(page, policy, condition)
        print(f"  {'without eval' if policy else 'no policy':12}  wait_for_function({condition!r}): {seen}")
        assert seen == expected, f"expected {expected}"
    assert page.evaluate("window.late") is True  # under the same policy
    browser.close()
PROGRAM
"$folder/venv/bin/python" "$folder/seen.py" "$chromium"
echo "as described"
