"""What the machine is busy with: plausible here, and complete where there is a GPU."""

import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pynvml

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
        parent = psutil.Process(process.pid)
        while not parent.children():  # its own start-up keeps the parent busy, too
            time.sleep(0.01)
        busy = 0.0
        for _ in range(100):
            found = telemetry.measure(process.pid)
            busy = max(busy, found.process_cores)
            if busy > 0.2:  # the child works; the parent only waits for it
                break
        assert busy > 0.2
        assert found.process_memory > parent.memory_info().rss
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
