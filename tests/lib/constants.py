"""What many tests name."""

from pathlib import Path

from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE

ROOT = Path(__file__).resolve().parents[2]  # of the repository
PAGE = 0x1000
# Flags of mremap: to where the caller says, with or without what was at the source.
MOVE = MREMAP_MAYMOVE | MREMAP_FIXED
KEEP = MOVE | MREMAP_DONTUNMAP
