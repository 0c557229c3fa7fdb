"""What programs reach of the model, in words: its files, its marks, and what became of a change."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fuzz.reach.met import Met
from fuzz.reach.reached import Reached

_HEADS = ("lines", "never", "branches", "untaken", "reached")


def table(files: Sequence[Reached], width: int) -> Iterator[str]:
    """A line for each file, with the lines that nobody has run as far as they fit, and a total."""
    files = [one for one in files if one.lines]
    longest = max((len(one.path) for one in files), default=0)
    rows: list[tuple[str, Sequence[str], str]] = [("file", _HEADS, "lines never run")]
    rows += [(one.path, _figures([one]), ranges(one.never)) for one in files]
    rows.append(("all", _figures(files), ""))
    for name, figures, last in rows:
        aligned = (cell.rjust(len(head)) for cell, head in zip(figures, _HEADS, strict=True))
        line = f"{name:{longest}} {' '.join(aligned)}  {last}".rstrip()
        yield line if len(line) <= width else f"{line[: width - 1]}…"


def _figures(files: Sequence[Reached]) -> tuple[str, ...]:
    """What stands below the heads."""
    lines, never = sum(one.lines for one in files), sum(len(one.never) for one in files)
    branches = sum(one.branches for one in files)
    untaken = sum(len(one.untaken) for one in files)
    part = 1 - (never + untaken) / max(lines + branches, 1)
    return str(lines), str(never), str(branches), str(untaken), f"{part:.1%}"


def ranges(lines: Iterable[int]) -> str:
    """Numbers of lines in short: 3, 7-9."""
    spans: list[list[int]] = []
    for line in sorted(lines):
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def marked(marks: Sequence[Met], width: int) -> Iterator[str]:
    """A line for each mark, and what they come to; one that nobody can reach says why."""
    names, wheres = (max(map(len, column)) for column in zip(*map(_names, marks), strict=True))
    yield f"{'mark':{names}} {'where':{wheres}} programs  explained by"
    for one in marks:
        name, where = _names(one)
        explained = "; ".join(one.tests)
        if not one.programs and one.mark.unreachable:
            explained = f"unreachable: {one.mark.unreachable}"
        line = f"{name:{names}} {where:{wheres}} {one.programs or 'never':>8}  {explained}".rstrip()
        yield line if len(line) <= width else f"{line[: width - 1]}…"
    missing = sum(one.missing for one in marks)
    excused = sum(not one.programs and not one.missing for one in marks)
    yield f"{len(marks)} marks: {missing} never reached, {excused} unreachable"


def refuted(marks: Sequence[Met]) -> Iterator[str]:
    """A line for each mark that was reached, though it says that none is."""
    for one in marks:
        if one.refuted:
            yield f"{one.mark.name} was reached, unlike its mark says: {one.mark.unreachable}"


def _names(one: Met) -> tuple[str, str]:
    return one.mark.name, one.mark.where.removeprefix("engine/")


def change(
    changed: Mapping[str, set[int]], files: Mapping[str, Reached], revision: str
) -> Iterator[str]:
    """What became of a change: whether it was run at all.

    Arguments: `changed` where the statements of it begin, by file.
    """
    run = never = defined = 0
    for path, lines in sorted(changed.items()):
        one = files.get(path, Reached(path, frozenset(), frozenset(), frozenset(lines)))
        run += len(lines & one.run)
        never += len(lines & one.never)
        defined += len(lines & one.defined)
        if missed := lines & one.never:
            yield f"{path}: never run: {ranges(missed)}"
        for start, end in one.untaken:
            if start in lines & one.run:
                yield f"{path}: {start} never went on to {_place(end)}"
    total = run + never
    if not total and not defined:
        yield f"no statement of the model differs from {revision}"
        return
    told = f"{run} of {total} changed statements were run" if total else "nothing changed is run"
    yield told + (f"; {defined} only define something" if defined else "")


def never_run(changed: Mapping[str, set[int]], files: Mapping[str, Reached]) -> bool:
    """Is there a changed statement that was never run?"""
    return any(path not in files or lines & files[path].never for path, lines in changed.items())


def _place(line: int) -> str:
    return f"line {line}" if line > 0 else "the end of its function"
