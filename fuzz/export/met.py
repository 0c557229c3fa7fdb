"""On which releases a case shows what."""

from engine.base.geometry import geometry_named
from engine.base.kernel import releases
from fuzz.case import Case
from fuzz.defects.attribute import findings_on
from fuzz.findings.bucket import Bucket
from fuzz.matrix import Matrix
from fuzz.showing import runs_of


def met_on_releases(case: Case) -> dict[Bucket, list[str]]:
    """The findings of a case, each with the names of the releases on which it is met, in order.

    Errors raised: CaseError for a call that the model does not know.
    """
    kernels = releases()
    if case.geometry is not None:
        kernels = tuple(kernel.on(geometry_named(case.geometry)) for kernel in kernels)
    matrix, runs = Matrix(kernels), runs_of(case)
    met: dict[Bucket, int] = {}
    for same in runs.each(matrix):
        for some, shown in findings_on(runs, matrix, same):
            for one in shown:
                met[one.bucket] = met.get(one.bucket, 0) | some
    return {
        bucket: [kernel.name for kernel in matrix.members(some)] for bucket, some in met.items()
    }
