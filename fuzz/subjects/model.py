"""The model of a kernel as a subject."""

from collections.abc import Iterable, Iterator
from typing import Self

from engine.base.kernel import Kernel
from fuzz.bounded import run
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.case import Case
from fuzz.subjects.contents import contents
from fuzz.subjects.observe import FIELDS, OPTIONAL, compared
from fuzz.subjects.subject import Abilities, Observation, Subject


class Model(Subject):
    """The model of `kernel`."""

    able = Abilities(MODELLED_CALLS, all_failures=True)
    fields = frozenset((*FIELDS, *OPTIONAL))

    def __init__(
        self,
        kernel: Kernel,
        *,
        commit_limit_bytes: int | None = None,
        shortages_last: bool = False,
    ) -> None:
        """See `fuzz.execute.execute` for `commit_limit_bytes` and `shortages_last`.

        `reached` tells whether the shortage of the case observed last has reached what nobody can
        tell of a machine, see `Failures`; `endless` whether the kernel does not return from one of
        its calls, though the model does.
        """
        self.reached = self.endless = False
        self.kernel = kernel
        self.name = kernel.name
        self.kernel_name = kernel.name
        self.geometry = kernel.geometry
        self.commit_limit = commit_limit_bytes
        if shortages_last:
            self.able = self.able._replace(all_failures=False)

    @classmethod
    def beside(cls, subject: Subject, kernel: Kernel) -> Self:
        """The model of a kernel that is short of memory where a subject is, and as it is."""
        return cls(
            kernel,
            commit_limit_bytes=subject.commit_limit,
            shortages_last=not subject.able.all_failures,
        )

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        """See `Subject`."""
        return map(self.observe, cases)

    def observe(self, case: Case, beside: Observation | None = None) -> Observation:
        """See `Subject`; `crash` only if the model itself fails.

        Arguments: `beside` what it will be compared with: optional fields take time, and are left
        out if that has none (None: all are told).
        """
        more = beside is None or not beside.keys().isdisjoint(OPTIONAL)
        try:
            # Rules are not what is compared; those whose violation the kernel warns of always run.
            outcome = run(
                case,
                self.kernel,
                stop=False,
                check=False,
                commit_limit_bytes=self.commit_limit,
                shortages_last=not self.able.all_failures,
            )
        except Exception as error:
            return {"crash": f"the model fails: {type(error).__name__}: {error}"}
        self.reached = outcome.space.failures.reached
        self.endless = outcome.space.endless
        observed = compared(outcome, more=more)
        if "crash" not in observed and beside is not None and beside.get("contents") is not None:
            observed["contents"] = contents(outcome.space)
        return observed
