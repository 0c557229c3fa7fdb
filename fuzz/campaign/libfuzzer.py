"""Which flags of libFuzzer a run passes on, and what is to be used in place of others.

libFuzzer accepts whatever it is given, and ignores what it does not know.  Here only those pass
that do something: tried with Atheris 3.1.0.
"""

import re
from collections.abc import Iterable, Mapping

from fuzz.lib.lines import fitted

HELP = "help"
# By what they are about; each takes a number.
WORKING: Mapping[str, str] = {
    "max_len": "bytes of the longest input; a call takes 16",
    "timeout": "seconds that one input may take",
    "rss_limit_mb": "memory of a fuzzing process",
    "report_slow_units": "seconds after which an input is kept as a slow unit",
    "cross_over": "0: never join two programs",
    "cross_over_uniform_dist": "1: join with any input of the corpus",
    "mutate_depth": "how often an input is changed before it is run",
    "keep_seed": "1: seeds stay in the corpus, whatever they reach",
    "shuffle": "0: seeds are run in the order of their size",
    "prefer_small": "0: seeds are run in any order",
    "shrink": "1: shorter inputs replace longer ones that reach the same",
    "reduce_inputs": "0: nothing replaces an input",
    "entropic": "0: all inputs are equally likely to be changed",
    "entropic_feature_frequency_threshold": "see libFuzzer",
    "entropic_number_of_rarest_features": "see libFuzzer",
    "entropic_scale_per_exec_time": "1: what runs fast is changed more often",
    "verbosity": "how much is in the log",
    "print_final_stats": "figures at the end of the log",
    "print_corpus_stats": "figures of each input at the end of the log",
}
_JOBS = "use `pmdfuzz run --jobs N`: N processes, each with a seed of its own"
_PRUNE = "use `pmdfuzz cmin`: the smallest corpus that reaches the same"
_MINIMIZE = "use `pmdfuzz minimize CASE`; each finding is minimized anyway"
_MUTATOR = "programs are changed by whole calls; `--ops` says which calls there are"
_WORKDIR = "use `--workdir DIR`, which has everything"
INSTEAD: Mapping[str, str] = {
    "jobs": _JOBS,
    "workers": _JOBS,
    "fork": _JOBS,
    "fork_corpus_groups": _JOBS,
    "ignore_crashes": "nothing that an input does ends a run",
    "ignore_ooms": "nothing that an input does ends a run",
    "ignore_timeouts": "nothing that an input does ends a run",
    "reload": _JOBS,
    "merge": _PRUNE,
    "merge_control_file": _PRUNE,
    "set_cover_merge": _PRUNE,
    "minimize_crash": _MINIMIZE,
    "cleanse_crash": _MINIMIZE,
    "runs": "use `--runs N`",
    "seed": "use `--seed N`",
    "max_total_time": "use `--time T`",
    "stop_file": "use `--time T`, or a signal: Ctrl-C, SIGTERM and SIGHUP lose nothing",
    "malloc_limit_mb": "use -rss_limit_mb; single allocations are not seen here",
    "use_counters": "a place that is reached is told once an input",
    "dict": _MUTATOR,
    "analyze_dict": _MUTATOR,
    "only_ascii": _MUTATOR,
    "len_control": "programs are made at full length from the start",
    "seed_inputs": "cases below corpus/seeds are the seeds, or nothing (`--no-seeds`)",
    "artifact_prefix": _WORKDIR,
    "exact_artifact_path": _WORKDIR,
    "create_missing_dirs": _WORKDIR,
    "print_coverage": "use `pmdfuzz coverage`",
    "print_full_coverage": "use `pmdfuzz coverage`",
    "dump_coverage": "use `pmdfuzz coverage`",
}
_COLUMNS = 80  # of the list
_FLAG = re.compile(r"--?(?P<name>[a-z_]+)(=(?P<value>.*))?", re.DOTALL)


def wants_help(flags: Iterable[str]) -> bool:
    """Is the list of flags asked for?"""
    return any(flag.lstrip("-").partition("=")[0] == HELP for flag in flags)


def refused(flags: Iterable[str]) -> str:
    """Why the first flag that does not pass does not; empty if all do."""
    for flag in flags:
        match = _FLAG.fullmatch(flag)
        if match is None:
            return f"{flag!r} is no flag of libFuzzer, such as -max_len=500"
        name, value = match["name"], match["value"]
        if name in INSTEAD:
            return f"{flag} does not work here: {INSTEAD[name]}"
        if name not in WORKING:
            return (
                f"{flag}: libFuzzer's -{name} is unknown here; `pmdfuzz run -- -help=1` lists all"
            )
        if flag.startswith("--"):
            return f"{flag}: libFuzzer's flags have one dash, it ignores those with two"
        if value is None or not (value.isascii() and value.isdigit()):
            return f"{flag}: libFuzzer's flags have numbers, such as -{name}=500"
    return ""


def told() -> str:
    """The list of flags."""
    works = fitted([(f"  -{name}=N", what) for name, what in WORKING.items()], _COLUMNS)
    others: dict[str, list[str]] = {}
    for name, what in INSTEAD.items():
        others.setdefault(what, []).append(f"-{name}")
    refused = (f"  {', '.join(names)}\n      {what}" for what, names in others.items())
    return "\n".join(
        (
            "Flags of libFuzzer that are passed on, behind `--`:",
            *works,
            "Others are refused; in place of these:",
            *refused,
        )
    )
