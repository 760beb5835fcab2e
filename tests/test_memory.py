"""The memory of a process is its own."""

import gc
import platform
import subprocess
import sys
import weakref

import numpy as np
import pytest

from dermsa.memory import collecting_often, peak_memory

HOLD = """
import sys
import numpy as np
import pytest
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


FREED = """
import threading, psutil
from dermsa.memory import give_back_freed_memory
pinned = []
def work():
    blocks = [bytearray(100_000) for _ in range(2000)]
    pinned.append(bytearray(100_000))  # above them: the heap cannot shrink from its end
    del blocks
thread = threading.Thread(target=work)
thread.start()
thread.join()
kept = psutil.Process().memory_info().rss
give_back_freed_memory()
print(kept - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_what_a_thread_freed_goes_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150e6


class Node:
    """One of many that refer to each other, as in a network that was copied."""

    def __init__(self):
        self.itself = self


def test_large_objects_in_cycles_go_soon_while_it_is_asked_for():
    ballast = [[] for _ in range(500_000)]  # Python looks the more seldom, the more there is
    thresholds = gc.get_threshold()
    alive = weakref.WeakSet()

    def most_alive() -> int:
        most = 0
        for _ in range(40):
            first = Node()
            first.others = [Node() for _ in range(2000)]
            alive.add(first)
            most = max(most, len(alive))
        return most

    by_itself = most_alive()
    with collecting_often():
        assert most_alive() < by_itself / 2
    assert gc.get_threshold() == thresholds and len(ballast) == 500_000
