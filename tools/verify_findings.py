# Copyright (c) OpenMMLab. All rights reserved.
"""Try the findings of ``health/report``: found where planted, nowhere else?

    python tools/verify_findings.py planted healthy families

makes the trainings of the tests in which an anomaly is planted, those of
healthy runs, and of one config of each family of MMPose, on generated data.
What they found is kept in a JSON file, so they may be made one by one, and
``docs/en/verified_findings.md`` is made of it.
"""
import argparse
import copy
import json
import os
import os.path as osp
import re
import subprocess
import sys
import time
from pathlib import Path

from mmengine.config.utils import ConfigParsingError
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

sys.path.insert(0, osp.dirname(osp.abspath(__file__)))
import finding_page  # noqa: E402
import verify_configs  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/en/verified_findings.md'
TESTS = ROOT / 'tests/test_engine'
PLANTED = [
    TESTS / 'test_hooks/test_planted_training_illness.py',
    TESTS / 'test_hooks/test_planted_settings.py',
    TESTS / 'test_hooks/test_sanity_val.py',
    TESTS / 'test_hooks/test_pretrained.py',
    TESTS / 'test_hooks/test_planted_silent_anomalies.py',
    TESTS / 'test_hooks/test_reported_troubles.py',
    TESTS / 'test_monitors/test_health/test_planted_step_illness.py',
    TESTS / 'test_monitors/test_poses/test_error_kinds.py',
    TESTS / 'test_monitors/test_poses/test_planted_error_kinds.py',
    TESTS / 'test_monitors/test_poses/test_one_pose.py',
    TESTS / 'test_monitors/test_poses/test_keypoint_distribution.py',
    TESTS / 'test_monitors/test_poses/test_codec_findings.py',
    TESTS / 'test_monitors/test_poses/test_planted_samples.py',
    TESTS / 'test_monitors/test_poses/test_shared_images.py',
]
# What is scaled with the input of a model: pixels, and frames.
SIZES = {
    'input_size', 'heatmap_size', 'in_featuremap_size', 'img_scale',
    'random_size_range', 'depth_size', 'seq_len', 'multiple_target',
    'multiple_target_step'
}
HEALTHY = [TESTS / 'test_hooks/test_healthy_runs.py']
HOOK = dict(
    type='mmpose.engine.hooks.enhanced_tensorboard_hook.'
    'EnhancedTensorBoardHook',
    grad_norm_interval=5,
    train_image_interval=20,
    detectors=verify_configs.OF_A_SHORT_TRAINING,
    strict=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'what', nargs='*', choices=['planted', 'healthy', 'families', []])
    parser.add_argument(
        '--iterations',
        type=int,
        default=300,
        help='of a healthy run, and of a family (default: 300)')
    parser.add_argument(
        '--minutes',
        type=float,
        default=15,
        help='of CPU time, after which a family is ended, at the end of its '
        'epoch, whatever it has of its iterations (default: 15)')
    parser.add_argument(
        '--batch-size', type=int, default=2, help='of a family (default: 2)')
    parser.add_argument(
        '--images',
        type=int,
        default=8,
        help='of a family, for each of training and validation (default: 8)')
    parser.add_argument(
        '--scale',
        type=float,
        default=1.,
        help='of the sizes of input and heatmap of a family, in pixels or '
        'frames (default: 1)')
    parser.add_argument(
        '--tests', nargs='*', help='names of files, instead of all')
    parser.add_argument(
        '--configs', nargs='*', help='instead of one of each family')
    parser.add_argument('--work-dir', default='work_dirs/verify_findings')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return train_family(args.child, args)

    os.makedirs(args.work_dir, exist_ok=True)
    file = Path(args.work_dir) / 'found.json'
    found = json.loads(file.read_text()) if file.exists() else {}
    os.environ['HEALTHY_ITERATIONS'] = str(args.iterations)
    for part, files in dict(planted=PLANTED, healthy=HEALTHY).items():
        for test in files if part in args.what else ():
            if args.tests and test.name not in args.tests:
                continue
            rows = run_tests(test, Path(args.work_dir) / 'curves')
            found.setdefault(part, {})[test.name] = rows
            file.write_text(json.dumps(found, indent=1))
    if 'families' in args.what:
        for config in args.configs or verify_configs.FAMILIES:
            row = run_family(config, args)
            print(Path(config).stem, row or 'failed', flush=True)
            if row:
                found.setdefault('families', {})[Path(config).stem] = row
            file.write_text(json.dumps(found, indent=1))
    page = finding_page.page(found, len(verify_configs.FAMILIES))
    PAGE.write_text(page, encoding='utf-8')


def run_tests(file, curves):
    """Run the tests of a file, and note what their trainings find.

    Args:
        file (Path): The file.
        curves (Path): The folder for the scalars of these trainings, of which
            pictures are made.

    Returns:
        list[dict]: Of each training that came to its end, or was ended by the
        hook: the test and whether it has passed; the iterations, the steps at
        which its hooks plant something, ``curves``, and ``findings``: name,
        severity, step, first sentence, and whether it names samples.
    """
    import pytest
    trainings = Trainings(curves)
    pytest.main(['-q', '-p', 'no:cacheprovider',
                 str(file)],
                plugins=[trainings])
    return trainings.rows


class Trainings:
    """Note each training of a test, as a plugin of pytest.

    Args:
        curves (Path): See :func:`run_tests`.
    """

    def __init__(self, curves):
        self.rows = []
        self._curves = curves
        self._test = ''

    def pytest_runtest_setup(self, item):
        self._test = item.name

    def pytest_runtest_logreport(self, report):
        for row in self.rows:
            if report.nodeid.endswith(f'::{row["test"]}'):
                row['passed'] = row.get('passed', True) and not report.failed

    def pytest_sessionstart(self):
        from mmengine.runner import Runner

        from mmpose.engine.monitors.health.report import HealthReport
        self._undo = Runner, Runner.train, HealthReport, HealthReport.update
        _, train, _, update = self._undo

        def watched(runner):
            row = dict(
                test=self._test,
                steps=sorted(_steps([*runner.hooks, runner.model])),
                findings=[])
            self.rows.append(row)
            try:
                return train(runner)
            finally:
                row['iterations'] = runner.iter
                if row['findings']:
                    row['curves'] = self._keep_curves(runner.log_dir)

        def noted(report, step, detector, findings):
            changes = update(report, step, detector, findings)
            if self.rows:
                self.rows[-1]['findings'] += [
                    (f.name, f.severity, step, f.what, 'suspects.json'
                     in f.evidence) for kind, f in changes if kind == 'begins'
                ]
            return changes

        Runner.train, HealthReport.update = watched, noted

    def pytest_sessionfinish(self):
        runner, train, report, update = self._undo
        runner.train, report.update = train, update

    def _keep_curves(self, log_dir):
        """Write the scalars of a run, by tag, and return the file's name."""
        from mmpose.engine.monitors.writers.tfrecord import events_in
        curves = {}
        for event in events_in(f'{log_dir}/vis_data'):
            for value in event.summary.value:
                if value.WhichOneof('value') == 'simple_value':
                    curves.setdefault(value.tag, []).append(
                        (event.step, value.simple_value))
        self._curves.mkdir(parents=True, exist_ok=True)
        name = re.sub(r'\W+', '_', self._test).strip('_') + (
            f'_{sum(r["test"] == self._test for r in self.rows)}.json')
        (self._curves / name).write_text(json.dumps(curves))
        return name


def _steps(parts):
    steps = (vars(part).get('step') for part in parts)
    return {step for step in steps if isinstance(step, int)}


def run_family(config, args):
    """Train a config in a process of its own.

    Returns:
        dict | None: ``findings``, their names, ``iterations``, and what of
        the config was changed: ``images``, ``batch_size``, ``scale``. Or
        ``why`` it cannot be trained. None if the training failed.
    """
    folder = osp.join(args.work_dir, Path(config).stem)
    os.makedirs(folder, exist_ok=True)
    out = osp.join(folder, 'row.json')
    if osp.exists(out):
        os.remove(out)
    with open(osp.join(folder, 'output.log'), 'w') as log:
        subprocess.call([
            sys.executable, __file__, '--configs', config, '--child', out,
            '--work-dir', args.work_dir, '--iterations',
            str(args.iterations), '--minutes',
            str(args.minutes), '--batch-size',
            str(args.batch_size), '--scale',
            str(args.scale), '--images',
            str(args.images)
        ],
                        stdout=log,
                        stderr=subprocess.STDOUT)
    if osp.exists(out):
        return json.loads(Path(out).read_text())
    return None


def train_family(out, args):
    """Train a config at its own learning rate, and write the row."""
    config, = args.configs
    options = argparse.Namespace(
        own_data=False,
        work_dir=args.work_dir,
        images=args.images,
        batch_size=args.batch_size,
        epochs=2)
    try:
        cfg = verify_configs.load(config, options)
        row = dict(why=verify_configs.only_predicts(cfg))
    except ConfigParsingError as error:
        message, *_ = verify_configs._one_line(error).split('!')
        row = dict(why=f'it cannot be read: {message}')
    if not row['why']:
        scale_sizes(cfg, args.scale)
        from mmengine.runner import Runner
        try:
            batches = len(
                Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader)))
        except TypeError as error:
            row['why'] = f'MMPose cannot build its training data: {error}'
    if not row['why']:
        length = dict(max_iters=args.iterations)
        if 'max_epochs' in cfg.train_cfg:
            length = dict(max_epochs=-(-args.iterations // batches))
        # Ten validations, not one at the end of each of so short epochs.
        cfg.train_cfg.update(
            length, val_interval=-(-max(length.values()) // 10))
        HOOKS.register_module(module=EndInTime)
        cfg.custom_hooks.append(dict(type='EndInTime', minutes=args.minutes))
        _, _, work_dir = verify_configs.run(cfg, 'train', copy.deepcopy(HOOK))
        row = dict(
            iterations=EndInTime.iterations,
            images=args.images,
            batch_size=args.batch_size,
            scale=args.scale,
            findings=verify_configs.read_run(work_dir)['findings'])
    Path(out).write_text(json.dumps(row))


def scale_sizes(cfg, scale):
    """Multiply the sizes of input and heatmaps, wherever a config has them."""
    for node in verify_configs._dicts(cfg._cfg_dict):
        for key in SIZES & set(node):
            if isinstance(node[key], (list, tuple)):
                node[key] = tuple(int(size * scale) for size in node[key])
            elif isinstance(node[key], int):
                node[key] = max(int(node[key] * scale), 1)


class EndInTime(Hook):
    """End a training at the end of its epoch, after minutes of CPU time.

    Attributes:
        iterations (int): How many the training of this process has had.
    """

    iterations = 0

    def __init__(self, minutes):
        self.end = time.process_time() + 60 * minutes

    def after_train_iter(self, runner, *args, **kwargs):
        EndInTime.iterations = runner.iter + 1
        if time.process_time() > self.end:
            runner.train_loop.stop_training = True


if __name__ == '__main__':
    main()
