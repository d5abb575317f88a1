# Copyright (c) OpenMMLab. All rights reserved.
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from ..core.measurements import Spike
from ..writers.record import Measurement


@dataclass(frozen=True)
class RankLosses(Measurement):
    """What stands out among the losses of a rank other than the first one.

    Attributes:
        rank (int): The rank.
        step (int): The training step.
        nonfinite (dict[str, int]): By name, the losses that were NaN or
            infinite at that step, and the step.
        spike (Spike, optional): The loss of that step, far above those around
            it on that rank.
        samples (tuple[dict]): The samples of its batch: of each ``img_path``,
            ``id`` and what else says which it is. Those that hold a NaN or an
            infinity alone if there are any.
        batch_size (int): The number of samples in the batch.
    """
    rank: int
    step: int
    nonfinite: Dict[str, int] = field(default_factory=dict)
    spike: Optional[Spike] = None
    samples: Tuple[dict, ...] = ()
    batch_size: int = 0
