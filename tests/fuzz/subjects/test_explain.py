"""Why two subjects differ: switches of the model that explain it, and no more of them."""

from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.forms.text import parse
from fuzz.subjects.explain import Explainer
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Observation

MAP = "mmap(0x{:x}, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
SEVERAL = parse(
    MAP.format(0x200000)
    + MAP.format(0x210000)
    + "mremap(0x200000, 0x11000, 0x11000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x800000)\n"
)
OLD, NEW = kernel_named("linux-6.16"), kernel_named("linux-6.17")
BOTH = ("check_before_unmap", "multi_vma_move")  # several VMAs move, and that is asked first


def shown(kernel: str, case: Case = SEVERAL) -> Observation:
    """What the model of a kernel shows."""
    return Model(kernel_named(kernel)).observe(case)


def test_of_all_that_two_releases_have_otherwise_few_switches_explain_it() -> None:
    cause = Explainer(OLD, NEW).cause(SEVERAL, shown("linux-6.16"), shown("linux-6.17"))
    assert cause is not None
    assert cause.switches == BOTH
    assert (cause.first, cause.second.name) == (OLD, f"linux-6.16+{'+'.join(BOTH)}")


def test_a_build_may_have_what_another_release_has() -> None:
    patched = shown("linux-6.17-multi_vma_move")
    explainer = Explainer(NEW, NEW)
    cause = explainer.cause(SEVERAL, shown("linux-6.17"), patched)
    assert cause is not None and cause.switches == ("multi_vma_move",)
    assert explainer.kernels(cause) == (NEW, cause.second)
    cause = explainer.cause(SEVERAL, patched, shown("linux-6.17"))
    assert cause is not None and cause.switches == ("multi_vma_move",)
    assert cause.second == NEW
    assert cause.first.name == "linux-6.17-multi_vma_move"


def test_the_switches_of_two_releases_are_the_whole_of_what_differs() -> None:
    explainer = Explainer(OLD, NEW)
    cause = explainer.cause(SEVERAL, shown("linux-6.16"), shown("linux-6.17"))
    assert cause is not None
    assert explainer.kernels(cause) == (OLD, NEW)


def test_what_no_model_does_is_not_explained() -> None:
    odd = shown("linux-6.16")
    odd["rss_pages"] = 7
    explainer = Explainer(OLD, NEW)
    assert explainer.cause(SEVERAL, shown("linux-6.16"), odd) is None
    assert explainer.cause(SEVERAL, odd, shown("linux-6.17")) is None
    assert explainer.shows(OLD, SEVERAL, shown("linux-6.16"))
    assert not explainer.shows(OLD, SEVERAL, odd)
