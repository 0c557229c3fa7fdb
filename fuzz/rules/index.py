"""Every rule that the files of this folder declare, and every check, in order."""

from importlib import import_module
from pathlib import Path

from engine.base.geometry import UnknownName
from fuzz.rules.rule import CHECKS, UNCHECKED, Check, Occasion, Rule, Severity

# The order of what is found on one occasion: what explains more comes first.  Files that are not
# named come last.
ORDER = (
    "failures",
    "walk",
    "rmap",
    "tlb",
    "vmas",
    "tables",
    "leaves",
    "accounts",
    "entries",
    "move",
    "mremap",
    "errors",
    "mapping",
    "uffd",
    "layout",
    "places",
    "hugetlb",
    "stack",
    "contents",
)
_ASKING = ("index", "judge")

for _path in sorted(Path(__file__).parent.glob("*.py")):
    if _path.stem not in ("__init__", *_ASKING):
        import_module(f"fuzz.rules.{_path.stem}")


def _file(check: Check) -> str:
    """The file that checks, "" if that is done elsewhere."""
    return check.function.__module__.rpartition(".")[2] if check.function else ""


def _place(check: Check) -> int:
    return ORDER.index(_file(check)) if _file(check) in ORDER else len(ORDER)


ALL_CHECKS: tuple[Check, ...] = tuple(sorted(CHECKS, key=_place))
# The files that check something, in order.
FILES = tuple(dict.fromkeys(_file(check) for check in ALL_CHECKS if check.function))
# Entries, VMAs, accounts, system calls, exec, contents, returns.
RULES: tuple[Rule, ...] = tuple(
    sorted(
        {rule for check in CHECKS for rule in check.rules},
        key=lambda rule: ("IVASXOR".index(rule.id[0]), rule.id),
    )
)
BY_SLUG = {rule.slug: rule for rule in RULES}


def checks_on(occasion: Occasion, name: str = "") -> tuple[Check, ...]:
    """The checks on an occasion, in order; those of one point of a move, or call, if named."""
    return tuple(
        check
        for check in ALL_CHECKS
        if check.occasion is occasion and (not name or name in check.names)
    )


def checks_of(rule: Rule) -> tuple[Check, ...]:
    """The checks that may find a rule broken."""
    return tuple(check for check in ALL_CHECKS if rule in check.rules)


def rule_named(name: str) -> Rule:
    """The rule with that slug or id.  Errors raised: UnknownName, which lists the known slugs."""
    for rule in RULES:
        if name in (rule.slug, rule.id):
            return rule
    raise UnknownName("rule", name, list(BY_SLUG))


def promise_named(name: str) -> Rule:
    """The promise with that slug or id, checked or not.  Errors raised: UnknownName."""
    for promise in UNCHECKED:
        if name in (promise.slug, promise.id):
            return promise
    return rule_named(name)


def gravity(slug: str) -> int:
    """How bad it is that the rule is broken: 0 is the worst."""
    return list(Severity).index(BY_SLUG[slug].severity)
