"""Seams: the functions that a bug of the past replaces, to see whether it would be found.

Most bugs of the museum (`fuzz/defects`) are no switch of a kernel; one function is exchanged for
what it was like with the bug.  Such a function is marked, so that whoever changes it knows: its
name, what it takes and what it returns are used elsewhere, and its callers must look its name up
in this module, or on this class, when they call it.  It is not imported by name from here.

That is why the engine stays pure Python: compiled, its functions would call each other directly, so
that exchanging one does nothing and tells nobody; nor is compiled code seen by coverage.
"""

from typing import TypeVar

Function = TypeVar("Function")


def seam(function: Function) -> Function:
    """Mark a function that is exchanged.  Returns: the function itself; calls cost nothing more."""
    return function
