"""A virtual machine that is running: its process, its port, and what its console says."""

import ctypes
import os
import signal
import subprocess
from typing import IO

from fuzz.vm.errors import MachineError
from fuzz.vm.image import Image
from fuzz.vm.qemu import Setup, command

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A machine that boots.

    `process` is qemu: its standard input and output are the port.  No file is left behind: console
    and initramfs lie in memory that goes with the two processes.
    """

    def __init__(
        self,
        image: Image,
        setup: Setup,
        accelerator: str,
        initramfs: bytes,
        complaints: IO[bytes],
    ) -> None:
        """Start it.

        Arguments: `complaints` is where qemu may say why it cannot.
        Errors raised: MachineError if it cannot be started.
        """
        archive, self._console = (os.memfd_create(name) for name in ("initramfs", "console"))
        self._read = 0
        try:
            with open(archive, "wb", closefd=False) as file:
                file.write(initramfs)
            parent = os.getpid()
            self.process = subprocess.Popen(
                command(
                    image, setup, accelerator, f"/dev/fd/{archive}", f"/dev/fd/{self._console}"
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                bufsize=0,
                pass_fds=(archive, self._console),
                start_new_session=True,  # Ctrl-C is for us
                preexec_fn=lambda: _end_with(parent),
            )
        except OSError as error:
            os.close(self._console)
            raise MachineError(f"qemu cannot be started: {error.strerror}") from None
        except BaseException:
            os.close(self._console)
            raise
        finally:
            os.close(archive)

    def console(self) -> str:
        """What its console has said since this was asked last."""
        data = bytearray()
        while piece := os.pread(self._console, 1 << 20, self._read):
            data += piece
            self._read += len(piece)
        return data.decode(errors="replace")

    def close(self) -> None:
        """Let go of the console; the process is somebody else's to end."""
        if self._console >= 0:
            os.close(self._console)
            self._console = -1


def _end_with(parent: int) -> None:
    """In a new process: it is to be killed when `parent` ends, however that does."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # which it did just now
        os._exit(1)
