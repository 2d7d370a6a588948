"""A service that forgets a scan takes the room of the scans that it keeps, and no more."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

FORGETS = """
import os
from pathlib import Path
import numpy as np
from service.memory import give_back_freed

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

before = resident_mib()
mosaics = [np.ones(100_000, np.uint8) for _ in range(2000)]
held = resident_mib()
del mosaics[:-1]
give_back_freed()
print(held - before, resident_mib() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library has no malloc_trim")
def test_what_lies_below_a_younger_scan_is_given_back_too():
    told = subprocess.run(
        [sys.executable, "-c", FORGETS], env=os.environ, capture_output=True, text=True, check=True
    )
    held, left = map(float, told.stdout.split())
    assert held > 150
    assert left < held / 4
