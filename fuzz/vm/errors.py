"""What goes wrong with a virtual machine, and is not the kernel's doing."""


class MachineError(RuntimeError):
    """A machine cannot be had; the message says why, and what to install or do."""
