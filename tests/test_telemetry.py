"""What the machine is busy with: plausible here, and complete where there is a GPU."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pynvml
import pytest

from dermsa.training import telemetry
from dermsa.training.telemetry import Gpu


def test_the_machine_is_as_the_system_counts_it():
    found = telemetry.measure()
    assert found.cores == psutil.cpu_count() and 0 <= found.cpu <= 1
    assert 0 < found.memory_used < found.memory_total == psutil.virtual_memory().total
    assert found.process_memory is None and found.process_cores is None


def test_a_process_is_seen_with_its_children():
    work = "import subprocess, sys; child = 'while True: pass'\n"
    work += "subprocess.run([sys.executable, '-c', child])"
    process = subprocess.Popen([sys.executable, "-c", work])
    try:
        busy = 0.0
        for _ in range(100):
            found = telemetry.measure(process.pid)
            busy = max(busy, found.process_cores)
            if busy > 0.2:  # the child works; the parent only waits for it
                break
        assert busy > 0.2
        assert found.process_memory > psutil.Process(process.pid).memory_info().rss
    finally:
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.wait()
    gone = telemetry.measure(process.pid)
    assert gone.process_memory is None and gone.process_cores is None


def test_no_gpu_is_no_error(monkeypatch):
    def no_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert telemetry.measure().gpus == ()


def test_a_gpu_tells_what_it_can(monkeypatch):
    def does_not_say(*_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda _: "Some GPU",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=3, total=8),
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=40),
        "nvmlDeviceGetTemperature": lambda *_: 61,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert telemetry.gpus() == (Gpu("Some GPU", 0.4, 3, 8, 61.0),)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", does_not_say)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", does_not_say)
    assert telemetry.gpus() == (Gpu("Some GPU", None, 3, 8, None),)


def test_the_peak_is_the_process_own_and_stays():
    """Started by a large process, and long after its own large array is gone."""
    ballast = np.ones(2**26)  # 512 MiB
    script = (
        "import numpy, sys; sys.path.insert(0, sys.argv[1])\n"
        "from dermsa.training.telemetry import peak_memory\n"
        "before = peak_memory(); numpy.ones(2**24); print(before, peak_memory())"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    told = subprocess.check_output([sys.executable, "-c", script, root], text=True)
    before, after = map(int, told.split())
    assert before < ballast.nbytes
    assert after - before == pytest.approx(2**27, rel=0.1)
