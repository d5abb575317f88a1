# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict


def switches(hook: Dict) -> Dict:
    """Leave out what switches off a monitor that is not there.

    So the tests of some monitors run without the others, which they switch
    off where they are.

    Args:
        hook (dict): Arguments of the hook.
    """
    from mmpose.engine.monitors.core.registry import hook_arguments
    known = {'type', *(argument.name for argument in hook_arguments())}
    return {
        name: value
        for name, value in hook.items() if value or name in known
    }
