#!/bin/sh
# junitparser reads and writes JUnit XML.  A test case's output has a colour of a terminal in it (ESC [31m),
# or a NUL: what is written?
#
# Guess: a replacement, or an error; at least something that it can read itself.
# Seen, junitparser 5.0.3, CPython 3.13.0 and 3.11: it is written as it is, without a word, and is no XML: XML 1.0
# has no way to write these characters, not even as a reference.  junitparser itself refuses the file
# ("not well-formed"), and with it all other cases, those that passed, too.  The serializer below,
# xml.etree, checks nothing.  junit-xml 1.9, whose last release is of 2020, leaves them out.
#
# usage: junit-nobody-can-read.sh [PYTHON]          default: python3
set -eu
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip install -qq --disable-pip-version-check --no-deps --target "$folder/packages" \
    junitparser==5.0.3 junit-xml==1.9 six==1.17.0
cat > "$folder/seen.py" <<'PROGRAM'
import sys
from importlib.metadata import version
from pathlib import Path
from xml.etree.ElementTree import ParseError, fromstring

import junit_xml
import junitparser

print(f"junitparser {version('junitparser')}, junit-xml {version('junit-xml')}, CPython {sys.version.split()[0]}")
file = Path(sys.argv[1]) / "junit.xml"
for output in ("plain", "\x1b[31mred\x1b[0m", "a\0b"):
    case = junitparser.TestCase("fails")
    case.result = [junitparser.Failure("it fails")]
    case.system_out = output
    suite = junitparser.TestSuite("suite")
    suite.add_testcases([junitparser.TestCase("passes"), case])
    xml = junitparser.JUnitXml()
    xml.add_testsuite(suite)
    xml.write(str(file))
    try:
        read = f"{sum(len(suite) for suite in junitparser.JUnitXml.fromfile(str(file)))} cases read again"
    except ParseError as error:
        read = f"not read again: {error}"
    print(f"  {output!r:22} {read}")
    assert read.startswith("2 cases" if output == "plain" else "not read again"), "it does otherwise now"

    other = junit_xml.TestCase("fails", stdout=output)
    told = junit_xml.to_xml_report_string([junit_xml.TestSuite("suite", [other])])
    text = fromstring(told).findtext(".//system-out")
    assert text == output.replace("\x1b", "").replace("\0", ""), text
PROGRAM
PYTHONPATH=$folder/packages "$python" -W ignore "$folder/seen.py" "$folder"
echo "as described"
