"""Runs an ONNX classifier. The only file that knows ONNX Runtime."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort

from dermsa.inference.store import ModelError
from dermsa.models.outputs import EVIDENCE, OUTPUTS, NoDecomposition

ALWAYS = {"logits", "embedding"}


class Engine:
    """One loaded classifier. Thread-safe.

    Args:
        onnx: Content of the model file.
        threads: Processor threads for one pass; None for up to four.

    Attributes:
        input_size: Height and width in pixels.
        outputs: Names of what it returns, in the order of `OUTPUTS`: without `EVIDENCE` where the
            logits do not split, and without the attention map where there is no attention.

    Raises:
        ModelError: The file is no classifier.
    """

    def __init__(self, onnx: bytes, threads: int | None = None):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or min(4, os.cpu_count() or 1)
        options.log_severity_level = 3
        # Threads that spin while they wait would burn the processor between two patients.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(onnx, options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            raise ModelError(f"The model file cannot be run: {str(error)[:200]}") from None
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        outputs = {value.name for value in self._session.get_outputs()}
        whole = ALWAYS <= outputs <= set(OUTPUTS) and len(outputs.intersection(EVIDENCE)) != 1
        if set(inputs) != {"image", "patient"} or not whole:
            raise ModelError("The model file is no classifier of this project.")
        self.outputs = tuple(name for name in OUTPUTS if name in outputs)
        self.input_size: tuple[int, int] = tuple(inputs["image"][1:3])

    def __call__(
        self, images: np.ndarray, patients: np.ndarray, outputs: tuple[str, ...] | None = None
    ) -> dict[str, np.ndarray]:
        """One forward pass.

        Args:
            images: `(images, height, width, 3)`, RGB, 0 to 255, any numeric dtype.
            patients: float32 `(patients, 21)`. As many as images, or one of the two is 1.
            outputs: Names of what to return; None for all there is.

        Returns:
            float32 arrays by name; `logits` has one row per image or patient, whichever are
            more.

        Raises:
            NoDecomposition: Evidence is asked of a classifier whose logits do not split.
        """
        outputs = self.outputs if outputs is None else outputs
        if not set(EVIDENCE).intersection(outputs) <= set(self.outputs):
            raise NoDecomposition("This model")
        values = self._session.run(
            list(outputs), {"image": np.asarray(images, np.float32), "patient": patients}
        )
        return dict(zip(outputs, values, strict=True))
