# Copyright (c) OpenMMLab. All rights reserved.
import difflib
import functools
import os.path as osp
from typing import Iterator, Optional

from mmengine.config import Config

from ...core.arguments import flag
from ...core.monitor import Monitor
from ...core.registry import MONITORS
from ...writers.record import Record, Text
from ..redaction import redact
from .page import report_page
from .run_log import RunLog

_HTML_REPORT = flag(
    'html_report',
    'Write ``report.html`` and ``scalars.csv`` when a training ends, see '
    ':class:`HTMLReportMonitor`.',
    presets=dict(fast=False, balanced=False, detailed=True))
_MAX_DIFF = 30000


@MONITORS.register_module()
class HTMLReportMonitor(Monitor):
    """Write a report on the training that needs no TensorBoard.

    ====================== ==================================================
    ``run/config_changes`` A text: the lines of the config that differ from
                           those of its base, without secrets; not of a lazy
                           config
    ====================== ==================================================

    What it tells: ``report.html`` beside the event file is one page for any
    browser or printer, without scripts and under 5 MB: the best metrics and
    when, the curves, accuracy and errors by keypoint, pictures, findings,
    changes to the base config, and the environment.
    ``scalars.csv`` beside it has all scalars.

    It takes a few seconds after the training. ``python tools/make_report.py
    WORK_DIR`` writes it at any time.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (_HTML_REPORT, )
    watches_others = True

    def before_train(self, runner) -> None:
        # In the writer's thread, since files are read.
        self.emit(Record(runner.iter, functools.partial(_changes, runner.cfg)))

    def after_run(self, runner) -> None:
        path = write_report(
            str(self.writer.log_dir), osp.basename(runner.work_dir))
        runner.logger.info(f'EnhancedTensorBoardHook wrote {path}.')


def _changes(cfg: Optional[Config]) -> Iterator[Text]:
    changes = config_changes(cfg)
    if changes:
        yield Text('run/config_changes', changes)


def config_changes(cfg: Optional[Config]) -> str:
    """Compare a config with its base.

    Args:
        cfg (Config, optional): The config of a run.

    Returns:
        str: Markdown: a diff without secrets. '' where there is no base.
    """
    path = getattr(cfg, 'filename', None)
    if not path or not osp.exists(path) or Config._is_lazy_import(path):
        return ''
    base = Config()
    for name in Config._get_base_files(path):
        found, _ = Config._get_cfg_path(name, path)
        base.merge_from_dict(Config.fromfile(found).to_dict())
    if not len(base):
        return ''
    # Config.diff() came with MMEngine 0.8.3, and prints for a terminal.
    lines = difflib.unified_diff(
        *(each.pretty_text.split('\n') for each in (base, cfg)), lineterm='')
    diff = redact('\n'.join(lines))
    return f'```diff\n{diff[:_MAX_DIFF]}\n```' if diff else ''


def write_report(log_dir: str, title: Optional[str] = None) -> str:
    """Write ``report.html`` and ``scalars.csv`` beside the event files.

    Args:
        log_dir (str): The directory of the event files.
        title (str, optional): The title. Defaults to None: the name of the
            directory.

    Returns:
        str: The path of the page.

    Raises:
        FileNotFoundError: There is no event file.
    """
    log = RunLog(log_dir)
    log.write_csv(osp.join(log_dir, 'scalars.csv'))
    path = osp.join(log_dir, 'report.html')
    with open(path, 'w', encoding='utf-8') as file:
        file.write(report_page(log, title or osp.basename(log_dir)))
    return path
