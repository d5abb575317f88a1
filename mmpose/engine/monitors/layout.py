# Copyright (c) OpenMMLab. All rights reserved.
import re
from typing import Dict

from .record import ScalarLayout

# The charts of the overview: the argument of the hook that each depends on,
# its title, the tags in it.
_OVERVIEW = (
    (None, 'loss', '[^/]*loss[^/]*$'),  # As LoggerHook has them.
    ('log_val_metrics', 'validation metrics', 'val/'),
    ('log_lr', 'learning rate', 'train/learning_rate/'),
    ('log_grad_norm', 'gradient norm', 'train/gradient_norm/global$'),
    ('log_health', 'update-to-weight ratio', 'health/update_ratio(/|$)'),
    ('log_system', 'samples per second', 'system/samples_per_second$'),
)
_MEASURES_2D = ('PCK@0.05', 'PCK@0.2', 'normalized_error', 'OKS')
_MEASURES_3D = ('MPJPE', )


def scalar_layout(flags: Dict[str, bool], lifting: bool) -> ScalarLayout:
    """The Custom Scalars page of a run, which has just one layout.

    =============== ======================================================
    ``Overview``    A chart each for the loss, the validation metrics, the
                    learning rate, the gradient norm, the update-to-weight
                    ratio and the throughput
    ``Keypoints``   A chart for each measure, with a curve for each keypoint
    =============== ======================================================

    Args:
        flags (dict[str, bool]): What the hook writes, by the names of its
            arguments.
        lifting (bool): Whether the model lifts poses to 3D.

    Returns:
        ScalarLayout: The layout.
    """
    overview = {
        title: tags
        for flag, title, tags in _OVERVIEW if flag is None or flags[flag]
    }
    categories = dict(Overview=overview)
    if flags['log_keypoints']:
        categories['Keypoints'] = {
            measure: f'keypoints/{re.escape(measure)}/'
            for measure in (_MEASURES_3D if lifting else _MEASURES_2D)
        }
    return ScalarLayout({
        category:
        {title: ['Multiline', [f'^{tags}']]
         for title, tags in charts.items()}
        for category, charts in categories.items()
    })
