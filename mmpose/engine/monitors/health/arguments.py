# Copyright (c) OpenMMLab. All rights reserved.
"""The arguments of the hook that several parts of the room share."""
from ..core.arguments import choice

ON_NONFINITE = choice(
    'on_nonfinite', 'What to do where a loss, gradient or weight is NaN or '
    "infinite. 'warn': report it, as everything that is wrong; 'ignore': do "
    "not even report it; 'stop': end the training as well, see "
    ':class:`NonfiniteStop`.', 'warn', ('warn', 'stop', 'ignore'))
