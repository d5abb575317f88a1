# Copyright (c) OpenMMLab. All rights reserved.
class Every:
    """Due at 1 and at every multiple of the interval.

    Steps count from 1, as in
    :meth:`mmengine.hooks.Hook.every_n_train_iters`. The answer depends on the
    step alone, so a resumed run is due at the same steps as an unbroken one.

    Args:
        interval (int): The number of steps between two due ones. 0: never.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def is_due(self, step: int) -> bool:
        """Whether something is to be done at this step.

        Args:
            step (int): The number of the step, from 1.

        Returns:
            bool: True at step 1 and where ``interval`` divides ``step``.
        """
        if self.interval == 0:
            return False
        return step == 1 or step % self.interval == 0
