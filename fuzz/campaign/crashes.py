"""Programs on which this project itself fails: kept as bytes and as cases, and told."""

import hashlib
from dataclasses import replace
from pathlib import Path

from fuzz.campaign.round import Crash, End
from fuzz.campaign.session import Session, marked
from fuzz.case import Case
from fuzz.forms import text
from fuzz.lib.command import command
from fuzz.lib.files import write_atomic
from fuzz.lib.lines import indented, short


class Crashes:
    """The crashes of a run; `any` is true once there is one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told = self._artifacts()  # those of earlier runs
        self._defects: set[str] = set()
        self._of_inputs: set[tuple[str, str]] = set()
        self.any = False

    def while_minimizing(self, case: Case, kernel: str, why: str) -> None:
        """A case on which this project fails: keep it, once for each kind of failure."""
        self.any = True
        if why in self._defects:
            return
        self._defects.add(why)
        name = f"defect-{hashlib.sha1(why.encode()).hexdigest()[:12]}.case"
        kept = self._keep(self._session.crashes / name, case, kernel, why)
        self._session.say(f"A defect of pmdfuzz, met while minimizing: {why}\n{kept}")

    def not_again(self, name: str, path: Path) -> None:
        """A finding of that name that does not show when it is replayed."""
        self.any = True
        self._session.say(
            f"{name} did not happen again when replayed, which is a defect of "
            f"pmdfuzz; its program is in {short(path)}"
        )

    def of_input(self, crash: Crash) -> None:
        """An input on which a fuzzing process met an exception: set it aside, and tell.

        Once for each kind: every round meets it anew.
        """
        self.any = True
        data, why = crash.input, crash.error
        if (crash.kernel, why) in self._of_inputs:
            return
        self._of_inputs.add((crash.kernel, why))
        path = self._session.crashes / f"crash-{hashlib.sha1(data).hexdigest()}"
        write_atomic(path, data)
        self._told.add(path)
        kernel = crash.kernel or next(iter(self._session.kernels))
        lines = [
            f"A defect of pmdfuzz; the input is set aside, and the run goes on: {why}",
            indented(crash.traceback.rstrip()),
            *([self._as_case(path, kernel, why)] if data else []),
        ]
        self._session.say("\n".join(lines))

    def of_round(self, failure: End, *, goes_on: bool) -> None:
        """Explain why the fuzzing process of a round died, and keep what it died of.

        Arguments: `goes_on` another one is started.
        """
        for artifact in failure.artifacts:
            write_atomic(self._session.crashes / artifact.name, artifact.input)
        then = "another one goes on" if goes_on else "the run ends"
        if failure.outside:
            self._session.say(f"The fuzzing process was ended from outside ({failure.why}); {then}")
            return
        self.any = True
        lines = [f"The fuzzing process failed, which is a defect of pmdfuzz: {failure.why}; {then}"]
        if failure.why not in self._defects:  # else it was shown before
            self._defects.add(failure.why)
            lines.append(failure.details)
        kernel = next(iter(self._session.kernels))
        for path in sorted(self._artifacts() - self._told):
            self._told.add(path)
            # An empty one says nothing of what was run: it died while an input was made.
            if (
                path.suffix != ".case"
                and not path.name.startswith("slow-unit")
                and path.stat().st_size
            ):
                lines.append(self._as_case(path, kernel, failure.why))
                # An input of the corpus would end the next process as well.
                data = path.read_bytes()
                (self._session.corpus / hashlib.sha1(data).hexdigest()).unlink(missing_ok=True)
        self._session.say("\n".join(lines))

    def hopeless(self, times: int) -> None:
        """Fuzzing processes die before they have done anything, as often as that in a row."""
        self.any = True
        self._session.say(
            f"{times} fuzzing processes in a row have died before they had executed anything"
        )

    def _artifacts(self) -> set[Path]:
        return set(self._session.crashes.iterdir())

    def _as_case(self, path: Path, kernel: str, why: str) -> str:
        """Write an input that is kept at `path` as a case, too.  Returns: how to replay it."""
        target = path.with_name(f"{path.name}.case")
        self._told.add(target)
        try:
            return self._keep(target, self._session.decode(path.read_bytes()), kernel, why)
        except Exception as error:  # perhaps the very one that made it a crash
            return f"{short(path)} is no case: {type(error).__name__}: {error}"

    def _keep(self, path: Path, case: Case, kernel: str, why: str) -> str:
        """Write a case on which this project fails.  Returns: how to replay it."""
        comments = tuple(line.rstrip() for line in why.splitlines())
        case = marked(replace(case.program(), comments=comments))
        write_atomic(path, text.dump(replace(case, kernel=kernel)))
        return f"Replay with: {command('replay', path)}"
