"""What classifiers answer, by name: shared by those who build them and those who serve them."""

from __future__ import annotations

OUTPUTS = ("logits", "attention_map", "evidence_map", "patient_evidence", "embedding")
EVIDENCE = ("evidence_map", "patient_evidence")


class NoDecomposition(ValueError):
    """Evidence was asked of a classifier whose logits do not split into it."""

    def __init__(self, name: str):
        super().__init__(
            f"{name} is not linear after its feature map: its logits do not split into evidence. "
            "An exact split needs the head soft_attention or global_pooling right before the last "
            "layer, as at the cut trunk."
        )
