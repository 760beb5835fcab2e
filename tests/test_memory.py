"""The memory of a process is its own."""

import subprocess
import sys

import numpy as np

from dermsa.memory import peak_memory

HOLD = """
import sys
import numpy as np
from dermsa.memory import peak_memory
held = np.ones(int(sys.argv[1]), np.uint8)
del held
print(peak_memory())
"""


def of_a_process_that_holds(megabytes: int) -> float:
    command = [sys.executable, "-c", HOLD, str(megabytes * 10**6)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e6


def test_what_was_held_counts_and_what_the_parent_holds_does_not():
    little = of_a_process_that_holds(1)
    held = np.ones(400 * 10**6, np.uint8)
    assert peak_memory() > held.nbytes
    assert abs(of_a_process_that_holds(1) - little) < 20
    assert of_a_process_that_holds(300) - little > 280
