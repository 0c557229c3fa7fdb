"""`pmdfuzz museum`: list, show, run."""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from fuzz.campaign.seeds import CORPUS
from fuzz.cli.cases import write_picture
from fuzz.cli.options import (
    Parser,
    add_action,
    add_rules_after,
    add_svg,
    add_workdir,
    define,
)
from fuzz.cli.symptoms import ABOUT, add_symptoms, tell_symptoms
from fuzz.defects.catalogue import EXHIBITS, exhibit_named, exhibits_named
from fuzz.defects.defect import Defect
from fuzz.forms.text import load
from fuzz.lib.arguments import positive, seconds
from fuzz.lib.exits import FINE
from fuzz.lib.lines import columns
from fuzz.lib.status import wants_colour
from fuzz.museum.harm import HEADING, consequence
from fuzz.museum.run import SECONDS, MuseumOptions, run
from fuzz.tell.story import story

_ABOUT_RUN = (
    "Neither the exhibit's own case nor any seed is given. What was found is minimized; finished "
    "trials are kept in the working directory, and a run that was interrupted goes on where it "
    "was. Needs Atheris."
)
_EXIT_RUN = """\
exit status:
  0    every bug was found
  1    some were not, or a correct kernel broke a rule
  2    bad input or environment
  3    the fuzzing process itself failed: a defect of pmdfuzz
  130  stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP; finished trials are kept
"""


def make_museum(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _list,
        summary,
        "Each exhibit is a bug that a setting of the kernel, or a replacement of one function of "
        f"the model, brings back. {ABOUT}",
    )
    add_symptoms(parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    action = add_action(actions, "list", _list, "list the exhibits (the default action)")
    action.add_argument("ids", nargs="*", metavar="ID", help="only these, with what they were")
    add_symptoms(action)
    action = add_action(actions, "show", _show, "draw an exhibit's case, with its bug")
    action.add_argument("id", metavar="ID", help="the full name of an exhibit")
    add_svg(action)
    action = add_action(
        actions,
        "harm",
        _harm,
        "look for what exhibits lead to whose cases show no harm, as `pmdfuzz harm` does",
    )
    action.add_argument("ids", nargs="*", metavar="ID", help="only these (default: all)")
    action = add_action(
        actions,
        "run",
        _run,
        "fuzz exhibits from an empty corpus until each bug is found",
        _ABOUT_RUN,
        _EXIT_RUN,
    )
    action.add_argument(
        "ids", nargs="+", metavar="ID", help="B-12 (all variants), B-12-own-head, or all"
    )
    _add_trials(action)
    action = add_action(actions, "all", _run, "the same as `run all`", _ABOUT_RUN, _EXIT_RUN)
    action.set_defaults(ids=["all"])
    _add_trials(action)


def _add_trials(action: Parser) -> None:
    action.add_argument(
        "--time",
        type=seconds,
        metavar="T",
        help="give each trial T of CPU time: 60, 90s, 10m (default: 60)",
    )
    action.add_argument(
        "--seeds",
        type=positive,
        default=1,
        metavar="N",
        help="use the seeds 1 to N (default: 1)",
    )
    action.add_argument(
        "--correct",
        action="store_true",
        help="repeat each trial without the bug: no rule may break but for known open defects",
    )
    action.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="trials at a time (default: 1)"
    )
    action.add_argument("--fresh", action="store_true", help="forget earlier results")
    add_rules_after(action)
    add_workdir(action)


def _chosen(names: Sequence[str]) -> list[Defect]:
    """Errors raised: UnknownName."""
    if [name.lower() for name in names] in ([], ["all"]):
        return list(EXHIBITS)
    found = [exhibit for name in names for exhibit in exhibits_named(name)]
    return list(dict.fromkeys(found))


def _list(options: argparse.Namespace) -> int:
    names: list[str] = getattr(options, "ids", [])
    exhibits = _chosen(names)
    if options.on is not None:
        return tell_symptoms(exhibits, options, full=bool(names))
    rows = [(e.name, e.rule, _where(e), e.headline) for e in exhibits]
    for exhibit, line in zip(exhibits, columns(rows), strict=True):
        print(line)
        if names:
            print(textwrap.indent(textwrap.fill(exhibit.text, 94), "    "))
            print(f"    rule: {exhibit.broken.id} {exhibit.rule}: {exhibit.broken.statement}")
            print(f"    bug:  {_bug(exhibit)}")
    return FINE


def _where(exhibit: Defect) -> str:
    name, geometry = exhibit.correct.name, exhibit.correct.geometry.name
    return name if geometry == "x86-64" else f"{name} {geometry}"


def _bug(exhibit: Defect) -> str:
    """What brings it back."""
    parts = [f"{switch} = {'yes' if on else 'no'}" for switch, on in exhibit.bug.items()]
    if exhibit.change is not None:
        parts.append(f"another {exhibit.change.target.replace(':', '.')}")
    return ", ".join(parts)


def _show(options: argparse.Namespace) -> int:
    exhibit = exhibit_named(options.id)
    case = load(CORPUS / "museum" / exhibit.file)
    if options.svg is not None:
        with exhibit.installed():
            about = f"a past bug, put back into {exhibit.correct.name}: {exhibit.headline}"
            write_picture(case, exhibit.kernel, options.svg, exhibit.name, about)
        return FINE
    print(f"{exhibit.name}: {exhibit.headline}\n{textwrap.fill(exhibit.text, 98)}\n")
    print(f"{_where(exhibit)} with {_bug(exhibit)}\n")
    with exhibit.installed():
        print(story(case, exhibit.kernel, colour=wants_colour(sys.stdout)))
    return FINE


def _harm(options: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [HEADING]
    for exhibit in _chosen(options.ids):
        found = consequence(exhibit, load(CORPUS / "museum" / exhibit.file))
        if options.ids or not found.is_harm:
            rows.append(found.row())
    for line in columns(rows):
        print(line)
    return FINE


def _run(options: argparse.Namespace) -> int:
    return run(
        MuseumOptions(
            options.workdir,
            tuple(_chosen(options.ids)),
            seconds=options.time or SECONDS,
            seeds=options.seeds,
            correct=options.correct,
            fresh=options.fresh,
            jobs=options.jobs,
            rules_after=options.rules_after,
        )
    )
