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
import subprocess
import sys
from pathlib import Path

import mdformat

sys.path.insert(0, osp.dirname(osp.abspath(__file__)))
import verify_configs  # noqa: E402
from make_doc_tables import FORMAT  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/en/verified_findings.md'
TESTS = ROOT / 'tests/test_engine'
PLANTED = [
    TESTS / 'test_hooks/test_planted_training_illness.py',
    TESTS / 'test_hooks/test_planted_silent_anomalies.py',
    TESTS / 'test_hooks/test_reported_troubles.py',
    TESTS / 'test_monitors/test_health/test_planted_step_illness.py',
    TESTS / 'test_monitors/test_poses/test_error_kinds.py',
]
HEALTHY = [TESTS / 'test_hooks/test_healthy_runs.py']
# Tests of healthy runs among the others.
IS_HEALTHY = 'healthy'
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
            found.setdefault(part, {})[test.name] = run_tests(test)
            file.write_text(json.dumps(found, indent=1))
    if 'families' in args.what:
        for config in args.configs or verify_configs.FAMILIES:
            row = run_family(config, args)
            found.setdefault('families', {})[Path(config).stem] = row
            print(Path(config).stem, row, flush=True)
            file.write_text(json.dumps(found, indent=1))
    file.write_text(json.dumps(found, indent=1))
    PAGE.write_text(page(found), encoding='utf-8')


def run_tests(file):
    """Run the tests of a file, and note what their trainings find.

    Returns:
        list[dict]: Of each training that came to its end, or was ended by the
        hook: the test, the iterations, the steps at which its hooks plant
        something, and ``findings``: name, severity, step and first sentence.
    """
    import pytest
    trainings = Trainings()
    pytest.main(['-q', '-p', 'no:cacheprovider',
                 str(file)],
                plugins=[trainings])
    return trainings.rows


class Trainings:
    """Note each training of a test, as a plugin of pytest."""

    def __init__(self):
        self.rows = []
        self._test = ''

    def pytest_runtest_setup(self, item):
        self._test = item.name

    def pytest_sessionstart(self):
        from mmengine.runner import Runner

        from mmpose.engine.monitors.health.report import HealthReport
        self._undo = Runner, Runner.train, HealthReport, HealthReport.update
        _, train, _, update = self._undo

        def watched(runner):
            row = dict(
                test=self._test,
                steps=sorted(_steps(runner.hooks)),
                findings=[])
            self.rows.append(row)
            try:
                return train(runner)
            finally:
                row['iterations'] = runner.iter

        def noted(report, step, detector, findings):
            changes = update(report, step, detector, findings)
            if self.rows:
                self.rows[-1]['findings'] += [(f.name, f.severity, step,
                                               f.what) for kind, f in changes
                                              if kind == 'begins']
            return changes

        Runner.train, HealthReport.update = watched, noted

    def pytest_sessionfinish(self):
        runner, train, report, update = self._undo
        runner.train, report.update = train, update


def _steps(hooks):
    steps = (vars(hook).get('step') for hook in hooks)
    return {step for step in steps if isinstance(step, int)}


def run_family(config, args):
    """Train a config in a process of its own; see :func:`train_family`."""
    folder = osp.join(args.work_dir, Path(config).stem)
    os.makedirs(folder, exist_ok=True)
    out = osp.join(folder, 'row.json')
    if osp.exists(out):
        os.remove(out)
    with open(osp.join(folder, 'output.log'), 'w') as log:
        subprocess.call([
            sys.executable, __file__, '--configs', config, '--child', out,
            '--work-dir', args.work_dir, '--iterations',
            str(args.iterations)
        ],
                        stdout=log,
                        stderr=subprocess.STDOUT)
    if osp.exists(out):
        return json.loads(Path(out).read_text())
    return dict(why='it does not train without a GPU, or without the data')


def train_family(out, args):
    """Train a config at its own learning rate, and write what was found."""
    config, = args.configs
    options = argparse.Namespace(
        own_data=False,
        work_dir=args.work_dir,
        images=8,
        batch_size=2,
        epochs=2)
    cfg = verify_configs.load(config, options)
    epochs = max(args.iterations // 4, 2)
    length = dict(
        max_epochs=epochs) if 'max_epochs' in cfg.train_cfg else (dict(
            max_iters=args.iterations))
    # Not at the end of each of so short epochs.
    cfg.train_cfg.update(
        length, val_interval=max(list(length.values())[0] // 3, 1))
    _, _, work_dir = verify_configs.run(cfg, 'train', copy.deepcopy(HOOK))
    found = verify_configs.read_run(work_dir)['findings']
    Path(out).write_text(
        json.dumps(dict(iterations=args.iterations, findings=found)))


def page(found):
    """Return the page of the documentation."""
    text = [
        '# How the findings were verified', '',
        'Made by `tools/verify_findings.py`. A finding of '
        '[health/report](health.md) is tried by real trainings in which the '
        'anomaly is planted, and by healthy ones, in which it may not appear.',
        '', '## Planted', '',
        'Each row is a training of a test. Planted: from that step on; 1 is '
        'the beginning. A finding that follows from a planted one is not '
        'listed: the report does not name it.', '',
        '| finding | test | planted | found | iterations later | it says |',
        '| :-- | :-- | --: | --: | --: | :-- |'
    ]
    rows = [
        row for row in _rows(found, 'planted') if IS_HEALTHY not in row['test']
    ]
    tried = set()
    lines = {}
    for row in rows:
        planted = min(row['steps'], default=1)
        for name, severity, step, what in row['findings']:
            tried.add(name.partition('/')[0])
            # A test may make several trainings, for instance with other
            # optimizers: the first one counts.
            test = row['test'].partition('[')[0]
            lines.setdefault((name, test),
                             f'| `{name}` | `{test}` | {planted} | {step} | '
                             f'{max(step - planted, 0)} | {what} |')
    text += [lines[key] for key in sorted(lines)]
    missing = sorted(_declared() - tried)
    text += [
        '', 'Not planted in one of these trainings: ' +
        (', '.join(f'`{name}`' for name in missing) or 'none') + '.'
    ]
    healthy = [
        row for part in ('planted', 'healthy') for row in _rows(found, part)
        if IS_HEALTHY in row['test']
    ]
    text += [
        '', '## Healthy runs', '',
        f'{len(healthy)} trainings of a small model, with '
        f'{sum(map(_is_false, healthy))} false findings.', '',
        '| run | iterations | findings |', '| :-- | --: | :-- |'
    ]
    text += [
        f'| `{row["test"]}` | {row["iterations"]} | {_names(row)} |'
        for row in healthy
    ]
    families = found.get('families', {})
    trained = {k: v for k, v in families.items() if 'findings' in v}
    text += [
        '', '## Families', '',
        'One config of each family of MMPose at its own learning rate and '
        'with its own warm-up, on eight generated images, two in a batch; '
        f'{len(trained)} of {len(verify_configs.FAMILIES)} were trained, with '
        f'{sum(bool(v["findings"]) for v in trained.values())} that have a '
        'finding.', '', '| config | iterations | findings |',
        '| :-- | --: | :-- |'
    ]
    text += [
        f'| `{name}` | {row.get("iterations", 0)} | ' +
        (', '.join(f'`{f}`' for f in row['findings']) or 'none'
         if 'findings' in row else row['why']) + ' |'
        for name, row in families.items()
    ]
    return mdformat.text(
        '\n'.join(text) + '\n', options=FORMAT, extensions={'openmmlab'})


def _rows(found, part):
    return [row for rows in found.get(part, {}).values() for row in rows]


def _is_false(row):
    return any(severity != 'note' for _, severity, _, _ in row['findings'])


def _names(row):
    return ', '.join(f'`{name}`' + ' (a note)' * (severity == 'note')
                     for name, severity, _, _ in row['findings']) or 'none'


def _declared():
    from mmpose.engine.monitors import build_detectors
    return {name for d in build_detectors() for name in d.findings}


if __name__ == '__main__':
    main()
