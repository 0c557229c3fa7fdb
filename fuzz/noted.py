"""Which switches of a kernel a program reads, and so which other kernels would do the same.

A kernel is its switches.  If all that were read while a program ran are set alike on another
kernel, that one does the same to the last bit, and need not be run.
"""

from collections.abc import Mapping
from typing import Any

from engine.base.kernel import Kernel


class Noted(Kernel):
    """A kernel that notes what is read of it.

    It stands in for the kernel in all that depends on the program: pass it to `execute`, and judge
    the outcome by it.  The slots of its own are empty until they are read; from then on a read is
    as fast as that of any kernel.
    """

    __slots__ = ("_kernel", "_read")

    _kernel: Kernel
    _read: dict[str, Any]

    def __init__(self, kernel: Kernel) -> None:
        object.__setattr__(self, "_kernel", kernel)  # frozen
        object.__setattr__(self, "_read", {})

    def __getattr__(self, name: str) -> Any:
        """The first read of a field: its slot is empty."""
        value = self._read[name] = getattr(self._kernel, name)
        object.__setattr__(self, name, value)
        return value

    @property
    def plain(self) -> Kernel:
        """The kernel that it stands in for."""
        return self._kernel

    @property
    def settings(self) -> Mapping[str, Any]:
        """The fields read so far, in order, with their values."""
        return self._read

    @property
    def read(self) -> tuple[str, ...]:
        """The names of the fields read so far, in order."""
        return tuple(self._read)

    def same_on(self, other: Kernel) -> bool:
        """True if `other` would have done the same: no field that was read is set otherwise."""
        for name, value in self._read.items():  # noqa: SIM110  asked of many: a loop is faster
            if getattr(other, name) != value:
                return False
        return True
