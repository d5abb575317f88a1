# Copyright (c) OpenMMLab. All rights reserved.
import json
import logging
import subprocess
import time
from collections import deque
from contextlib import suppress
from typing import Deque, List

from mmengine.logging import print_log

from ..core.arguments import Argument, Arguments, one_of_types
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..writers.record import Alert

# A finding that comes and goes must not start a thousand commands.
_MAX_STARTS, _IN_SECONDS, _MAX_RUNNING = 10, 600, 4
_MAX_TEXT = 4000

_ON_FINDING = Argument(
    'on_finding', None, 'str | None',
    'A command for the shell that is run when a finding begins or ends, see '
    ':class:`OnFindingMonitor`. None: none.',
    one_of_types((str, ), 'a command or None', lambda v: v.strip()))


@MONITORS.register_module()
class OnFindingMonitor(Monitor):
    """Run a command when a finding begins or ends.

    What it tells: It has no curves: the command tells you what is going wrong
    where you are, by mail or chat.

    The command gets one line of JSON on its standard input: ``name``,
    ``event`` ('begins', again where it becomes more serious, or 'ends'),
    ``severity``, ``what``, ``evidence``, ``advice``, ``step``, ``time`` (Unix
    time, in seconds), ``log_dir``, ``work_dir``, and ``skipped``, the number
    of findings before it for which no command was run. It is started by the
    writer's thread, which does not wait for it; what it prints is discarded.
    At most ten are started in ten minutes, and four run at a time.

    Args:
        on_finding (str): The command.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (_ON_FINDING, )
    settings = dict(on_finding=_ON_FINDING)
    # It only receives what HealthMonitor finds.
    watches_others = True

    @classmethod
    def settings_from(cls, given: Arguments) -> dict:
        if not given.log_health:
            print_log(
                'EnhancedTensorBoardHook: on_finding is never run, since '
                'log_health=False finds nothing.',
                logger='current',
                level=logging.WARNING)
        return super().settings_from(given)

    def __init__(self, on_finding: str, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._command = on_finding

    def before_train(self, runner) -> None:
        self._work_dir = runner.work_dir
        self._starts: Deque[float] = deque(maxlen=_MAX_STARTS)
        self._running: List[subprocess.Popen] = []
        self._skipped = 0
        self.writer.listen(Alert, self._notify, self.guard)

    def _notify(self, step: int, alert: Alert) -> None:
        """Start the command, in the writer's thread."""
        now = time.monotonic()
        self._running = [p for p in self._running if p.poll() is None]
        if (len(self._running) == _MAX_RUNNING
                or len(self._starts) == _MAX_STARTS
                and now - self._starts[0] < _IN_SECONDS):
            self._skipped += 1
            return
        self._starts.append(now)
        message = dict(
            vars(alert),
            evidence=alert.evidence[:_MAX_TEXT],
            event='begins' if alert.begins else 'ends',
            step=step,
            time=time.time(),
            log_dir=str(self.writer.log_dir),
            work_dir=str(self._work_dir),
            skipped=self._skipped)
        del message['begins']
        process = subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is meant for the training.
            start_new_session=True)
        self._running.append(process)
        self._skipped = 0
        with suppress(BrokenPipeError):  # It does not read.
            # Less than the 64 KiB that a pipe holds: this does not wait.
            with process.stdin as stdin:
                stdin.write(json.dumps(message).encode() + b'\n')
