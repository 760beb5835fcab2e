"""What a model costs: size, arithmetic, time and memory, measured in the served form.

Times depend on the machine and on what else it does. Models are therefore measured together, one
pass of each in turn, so that whatever slows one slows all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Size and speed of one model on one machine.

    Attributes:
        parameters: Of the network; of all members together for an ensemble.
        file_bytes: Of what has to be shipped: the ONNX file or files.
        multiply_adds: Of one forward pass over one image.
        views: Forward passes that one answer takes (mirror images).
        pass_p50, pass_p95: Milliseconds of one forward pass of one image: median and 95th
            percentile.
        answer_p50, answer_p95: Milliseconds of the logits of one image over all views.
        images_per_second: Answers in batches of 16.
        peak_memory: Bytes that a fresh process needed to answer one image, Python included.
        seconds_per_epoch: Of training, from the card; None where unknown. Not comparable between
            machines.
        passes: How many passes were timed.
        threads: Processor threads of one pass.
        processor: What it was measured on.
        measured_with: The models that took turns.
    """

    parameters: int
    file_bytes: int
    multiply_adds: int
    views: int
    pass_p50: float
    pass_p95: float
    answer_p50: float
    answer_p95: float
    images_per_second: float
    peak_memory: int
    seconds_per_epoch: float | None
    passes: int
    threads: int
    processor: str
    measured_with: tuple[str, ...]
