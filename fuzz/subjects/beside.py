"""A subject beside the model of its kernel."""

from collections import Counter
from collections.abc import Sequence

from engine.base.geometry import UnknownName
from engine.base.kernel import KNOWN_NAMES, base_of, kernel_named
from fuzz.showing import DEFAULT_KERNEL
from fuzz.subjects.against import Against
from fuzz.subjects.agent import TIME_LIMIT
from fuzz.subjects.coarse import CoarselyAgainst
from fuzz.subjects.host import WITH_KEYS
from fuzz.subjects.model import Model
from fuzz.subjects.named import subject_named
from fuzz.subjects.subject import Subject, SubjectError


def model_of(subject: Subject, kernels: Sequence[str] = ()) -> Model:
    """The model of a subject's kernel.

    Arguments: `kernels` names to choose from: the one of its release, or else the first (none: the
    one of its version).

    A program that stands for a kernel may have a version that no model has: then the usual one.
    Errors raised: SubjectError if no model has its version; UnknownName for a wrong name.
    """
    release = _release(subject.kernel_name)
    names = sorted(kernels, key=lambda name: _release(name) != release) or [subject.kernel_name]
    try:
        chosen = kernel_named(names[0], subject.geometry.name)
    except UnknownName:
        if kernels:
            raise
        if subject.emulated:
            return model_of(subject, (DEFAULT_KERNEL,))
        raise SubjectError(
            f"{subject.name}: no model of its kernel, {subject.kernel_name.removeprefix('linux-')};"
            f" known: {'; '.join(KNOWN_NAMES)}. Name the one to compare with: --kernel K"
        ) from None
    return Model.beside(subject, chosen)


def meeting_alike(first: Subject, second: Subject) -> tuple[Subject, Subject]:
    """Two subjects; a model in this process meets what a machine beside it does."""
    if isinstance(first, Model) and not second.able.all_failures:
        return Model.beside(second, first.kernel), second
    if isinstance(second, Model) and not first.able.all_failures:
        return first, Model.beside(first, second.kernel)
    return first, second


def _release(name: str) -> str:
    """The series of a kernel by its name: linux-6.18 for linux-6.18.44+realign."""
    return ".".join(base_of(name).split(".")[:2])


def beside_model(
    kernels: str | Sequence[str] | None = None,
    geometry: str | None = None,
    *,
    on: str = "host",
    time_limit: float = TIME_LIMIT,
    jobs: int = 1,
) -> Against:
    """A subject beside the model of its kernel.

    Arguments: `kernels` see `model_of`; `on` the name of the subject; `geometry` the one that it
    has to have (None: any); of the host, it says whether the kernel may use the CPU's protection
    keys; `time_limit` and `jobs` see `subject_named`.
    Errors raised: SubjectError if it cannot be compared; UnknownName.
    """
    if on == "host" and geometry == WITH_KEYS:
        on = f"host@{geometry}"
    subject = subject_named(on, time_limit=time_limit, jobs=jobs)
    return against_model(subject, kernels, geometry, on=on)


def against_model(
    subject: Subject,
    kernels: str | Sequence[str] | None = None,
    geometry: str | None = None,
    *,
    on: str,
) -> Against:
    """The same of a subject that is there; it is closed if that cannot be."""
    try:
        if geometry not in (None, subject.geometry.name):
            raise SubjectError(f"{on} is {subject.geometry.name}, not {geometry}")
        model = model_of(subject, (kernels,) if isinstance(kernels, str) else kernels or ())
        if wrong := subject.obstacles():
            lines = "\n  ".join(wrong)
            raise SubjectError(f"{on} is set up otherwise than the model:\n  {lines}")
        return (CoarselyAgainst if subject.emulated else Against)(model, subject, on)
    except BaseException:
        subject.close()
        raise


def told_left_out(left_out: Counter[str]) -> str:
    """What programs needed that a subject does not have, how many each; "" if nothing."""
    return ", ".join(f"{name} {number}" for name, number in left_out.most_common())
