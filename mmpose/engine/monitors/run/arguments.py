# Copyright (c) OpenMMLab. All rights reserved.
"""Arguments of several monitors in this room."""
from ..core.arguments import flag

LOG_SYSTEM = flag(
    'log_system', 'Write where the time of an iteration goes, speed and '
    'memory, see :class:`IterationTimeMonitor` and :class:`SystemMonitor`.')
