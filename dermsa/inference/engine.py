"""Runs an ONNX classifier. The only file that knows ONNX Runtime."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort

from dermsa.inference.store import ModelError

OUTPUTS = ("logits", "attention_map", "evidence_map", "patient_evidence", "embedding")
EVIDENCE = ("evidence_map", "patient_evidence")
"""What a classifier lacks whose logits are no sum over positions and patient."""


class Engine:
    """One loaded classifier. Thread-safe.

    Args:
        onnx: Content of the model file.
        threads: Processor threads for one pass; None for up to four.

    Attributes:
        input_size: Height and width in pixels.
        outputs: Names of what it returns: `OUTPUTS`, or these without `EVIDENCE`.

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
        whole = outputs in (set(OUTPUTS), set(OUTPUTS) - set(EVIDENCE))
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
        """
        outputs = self.outputs if outputs is None else outputs
        values = self._session.run(
            list(outputs), {"image": np.asarray(images, np.float32), "patient": patients}
        )
        return dict(zip(outputs, values, strict=True))
