"""What this machine is busy with: processor, memory and GPUs, now.

    measure(pid).gpus        # one `Gpu` for each NVIDIA card, () where there is none

Nothing here needs Keras.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
import pynvml

from dermsa.machine import processor
from dermsa.training import devices

SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA card.

    Attributes:
        name: As the driver calls it.
        use: Share of the last moment in which it computed, 0 to 1; None where it does not tell.
        memory_used, memory_total: Bytes, of all processes together.
        temperature: °C; None where it does not tell.
    """

    name: str
    use: float | None
    memory_used: int
    memory_total: int
    temperature: float | None


@dataclass(frozen=True)
class Telemetry:
    """What a machine is busy with.

    Attributes:
        cores: Of the processor, as the system counts them.
        cpu: Share of all cores that is used, 0 to 1.
        temperature: Of the processor, °C; None where it does not tell, as in virtual machines.
        memory_used, memory_total: Bytes.
        process_cores: How many cores the process that was asked for keeps busy, with its
            children; None where it is gone or none was asked for.
        process_memory: Its resident memory with its children's, bytes, or None likewise.
        gpus: The NVIDIA cards.
    """

    cores: int
    cpu: float
    temperature: float | None
    memory_used: int
    memory_total: int
    process_cores: float | None
    process_memory: int | None
    gpus: tuple[Gpu, ...]


def measure(pid: int | None = None) -> Telemetry:
    """Looks at the machine for a tenth of a second.

    Args:
        pid: A process to look at besides, such as that of a run.
    """
    processes = _family(pid)
    psutil.cpu_percent()  # the share is counted from here
    started, seconds = time.perf_counter(), _cpu_seconds(processes)
    time.sleep(SAMPLE_SECONDS)
    cpu = psutil.cpu_percent() / 100
    busy = (_cpu_seconds(processes) - seconds) / (time.perf_counter() - started)
    memory = psutil.virtual_memory()
    resident = _resident(processes)
    return Telemetry(
        cores=psutil.cpu_count() or 1,
        cpu=cpu,
        temperature=_cpu_temperature(),
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        process_cores=max(busy, 0.0) if resident else None,
        process_memory=resident,
        gpus=gpus(),
    )


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA cards of this machine; () without a card or its driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return tuple(_gpu(handle) for handle in handles)
    finally:
        pynvml.nvmlShutdown()


def machine_of(device: str) -> str:
    """What a device is, by name: runs on the same one take the same time.

    Args:
        device: As `devices.resolve` gives it: "cpu", "gpu:0" and so on, or "all".
    """
    if device == "cpu":
        return processor()
    cards = gpus()
    numbers = (int(one.removeprefix("gpu:")) for one in devices.members(device))
    return ", ".join(cards[number].name for number in numbers)


def _gpu(handle) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    use = _asked(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    celsius = pynvml.NVML_TEMPERATURE_GPU
    return Gpu(
        name.decode() if isinstance(name, bytes) else name,
        None if use is None else use / 100,
        int(memory.used),
        int(memory.total),
        _asked(lambda: float(pynvml.nvmlDeviceGetTemperature(handle, celsius))),
    )


def _asked(question):
    """Some cards, and parts of cards, do not answer everything."""
    try:
        return question()
    except pynvml.NVMLError:
        return None


def _cpu_temperature() -> float | None:
    sensors = getattr(psutil, "sensors_temperatures", dict)()
    for name in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
        if sensors.get(name):
            return max(sensor.current for sensor in sensors[name])
    return None


def _family(pid: int | None) -> list[psutil.Process]:
    """A process and its children; none where it is gone."""
    try:
        process = psutil.Process(pid) if pid is not None else None
        return [process, *process.children(recursive=True)] if process else []
    except psutil.Error:
        return []


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(_of_each(processes, lambda process: sum(process.cpu_times()[:2])))


def _resident(processes: list[psutil.Process]) -> int | None:
    return sum(_of_each(processes, lambda process: process.memory_info().rss)) or None


def _of_each(processes, figure) -> list:
    figures = []
    for process in processes:
        try:
            figures.append(figure(process))
        except psutil.Error:  # it has just ended
            continue
    return figures
