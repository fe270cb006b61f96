"""What plans go by beside the log: what the user tells of the model and of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from moe_live.dataclass import dataclass
from moe_live.errors import UsageError

if TYPE_CHECKING:
    from moe_live.plans.expert_bytes import ModelBytes
    from moe_live.snapshot import Model

UNKNOWN_SIZES = "how large the experts are is not known: give --model GGUF or --expert-bytes N"


@dataclass(frozen=True, slots=True)
class Given:
    """What is not in the log, or not in every log.

    Attributes:
        model: what the tensors of the model take; None if its file is not known.
        expert_bytes: bytes of an expert of any layer; 0 if the user did not say.
        budgets: sizes of caches, in bytes; none for eight shares of all experts.
        vram: memory of the GPU, in bytes; 0 if it is not known.
        reserve: what context and buffers take of it.
        devices: over which the experts of each layer are spread; 0 if that is not known.
        replicas: places of a layer beyond one an expert, over all of them.
        drop: share of each layer's experts that may go; None if nobody asked.
    """

    model: ModelBytes | None = None
    expert_bytes: int = 0
    budgets: tuple[int, ...] = ()
    vram: int = 0
    reserve: int = 0
    devices: int = 0
    replicas: int = 0
    drop: float | None = None

    @property
    def asked(self) -> frozenset[str]:
        """The plans that somebody asked for, by name."""
        options = {
            "cache": self.budgets,
            "offload": self.vram,
            "placement": self.devices,
            "prune": self.drop,
        }
        return frozenset(name for name, option in options.items() if option)

    def sizes(self, model: Model) -> Mapping[int, int]:
        """Bytes of an expert by layer: as the user says, else as the log does; nothing if neither does."""
        if self.model is not None:
            return self.model.expert
        return dict.fromkeys(model.layers, self.expert_bytes) if self.expert_bytes else model.expert_bytes

    def known_sizes(self, model: Model) -> Mapping[int, int]:
        """The same.

        Raises:
            UsageError: they are not known.
        """
        if sizes := self.sizes(model):
            return sizes
        raise UsageError(UNKNOWN_SIZES)
