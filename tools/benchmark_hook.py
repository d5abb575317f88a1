# Copyright (c) OpenMMLab. All rights reserved.
"""What the hook costs, beside what people would use instead.

Four parts: 'micro', what a logged step costs, for real models; 'training',
what it costs an iteration of real trainings; 'validation', what it costs a
validation; 'footprint', what it costs when MMPose is imported, and on the
disk. Everything is timed in turn, so that ratios mean something on a machine
that others use too. What is not installed is shown as missing: ``make
benchmark`` installs it.
"""
import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import List, Sequence

import mdformat
import torch
from benchmarks import (footprint, machine, micro, models, report, training,
                        validation)
from dataset_generators import synthetic_coco
from make_doc_tables import FORMAT

from mmpose.utils import register_all_modules

PARTS = ('micro', 'training', 'validation', 'footprint')
# Where the results go does not belong to how they were measured.
FILES = ('--json', '--markdown')


def main() -> None:
    args = parse_args()
    if args.from_json:
        results = read(args.from_json)
    else:
        # As JSON has it, keys of numbers too.
        results = json.loads(json.dumps(plain(measure(args))))
    if args.json:
        args.json.write_text(json.dumps(results))
    page = report.markdown(results)
    if args.markdown:
        # As tests/test_lint.py wants all pages.
        args.markdown.write_text(
            mdformat.text(page, options=FORMAT, extensions={'openmmlab'}))
    print(page)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--parts',
        nargs='+',
        choices=PARTS,
        default=PARTS,
        metavar='PART',
        help=f'what to measure: {", ".join(PARTS)} (default: all)')
    parser.add_argument(
        '--models',
        nargs='+',
        choices=models.NAMES,
        default=models.NAMES,
        metavar='MODEL',
        help=f'for micro: {", ".join(models.NAMES)} (default: all)')
    devices = ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]
    parser.add_argument(
        '--devices',
        nargs='+',
        choices=devices,
        default=devices,
        metavar='DEVICE',
        help='for micro: cpu, cuda (default: all that there are)')
    parser.add_argument(
        '--training-minutes',
        type=float,
        default=10,
        metavar='MINUTES',
        help='after how long the trainings end if they are not through '
        '(default: 10)')
    parser.add_argument(
        '--repeat', type=int, default=21, help='rounds (default: 21)')
    parser.add_argument(
        '--quick',
        action='store_true',
        help='one model and a few rounds of everything: for counts, not times')
    parser.add_argument(
        '--json', type=Path, help='a file for every single measurement')
    parser.add_argument('--markdown', type=Path, help='a file for the page')
    parser.add_argument(
        '--from-json',
        nargs='+',
        type=Path,
        metavar='JSON',
        help='measure nothing; make the page of what was measured before; '
        'what later files have takes the place of what earlier ones have')
    args = parser.parse_args()
    if args.repeat < 3:
        parser.error(f'--repeat must be at least 3, not {args.repeat}')
    if args.quick:
        args.models, args.repeat = ['RTMPose-m'], 3
    return args


def read(files: Sequence[Path]) -> dict:
    """Read what was measured before.

    Args:
        files (Sequence[Path]): As ``--json`` writes them. What later ones
            have was measured again.

    Returns:
        dict: See :func:`measure`.
    """
    results, *others = (json.loads(file.read_text()) for file in files)
    for other in others:
        results['machine']['Commit'] += f", {other['machine']['Commit']}"
        for key in ('command', 'machine', 'load', 'minutes'):
            del other[key]
        results.update(other)
    return results


def measure(args: argparse.Namespace) -> dict:
    """Measure everything that was asked for.

    Args:
        args (argparse.Namespace): The command line.

    Returns:
        dict: ``command``, ``machine``, ``load``, ``minutes``, and for each
        part what its functions return: ``micro`` by model, ``training`` by
        model and arm, ``validation`` by whose boxes there are, ``imports``,
        ``demo``, ``coco_pictures``.
    """
    began = time.perf_counter()
    register_all_modules()
    results = dict(
        command=command(sys.argv[1:]),
        machine=machine.describe(),
        load=[machine.load()])
    with tempfile.TemporaryDirectory() as folder:
        # Where wandb keeps what it keeps besides its runs.
        os.environ.update(
            WANDB_SILENT='true',
            WANDB_CACHE_DIR=folder,
            WANDB_CONFIG_DIR=folder,
            WANDB_DATA_DIR=folder)
        for part in args.parts:
            results.update(MEASURES[part](args, folder))
    results['load'].append(machine.load())
    results['minutes'] = (time.perf_counter() - began) / 60
    return results


def measure_micro(args: argparse.Namespace, folder: str) -> dict:
    """See :func:`measure`."""
    found = {}
    for name in args.models:
        for device in args.devices:
            say(f'micro: {name}, {device}')
            key = name if device == 'cpu' else f'{name}, GPU'
            found[key] = micro.measure(name, args.repeat, device)
    return dict(micro=found)


def measure_training(args: argparse.Namespace, folder: str) -> dict:
    """See :func:`measure`."""
    data = f'{folder}/training'
    if args.quick:
        synthetic_coco.generate_dataset(data, num_train=4, num_val=2)
        say('training: demo')
        arms = [
            training.BASE, 'balanced', 'every iteration',
            'every iteration, no pictures'
        ]
        runs = training.measure('demo', arms, 4, data, batch_size=2)
        return dict(training=dict(demo=runs))
    synthetic_coco.generate_dataset(data)
    found = {}
    # By its default intervals, the hook reads all that it ever does in 500.
    for model, iterations, share in (('demo', 501, 0.8), ('RTMPose-t', 201,
                                                          0.2)):
        say(f'training: {model}')
        found[model] = training.measure(
            model,
            training.MODELS[model],
            iterations,
            data,
            seconds=60 * share * args.training_minutes)
    return dict(training=found)


def measure_validation(args: argparse.Namespace, folder: str) -> dict:
    """See :func:`measure`."""
    found = {}
    count, repeat = (40, 3) if args.quick else (validation.INSTANCES, 5)
    for name in (validation.ANNOTATED, validation.DETECTED):
        say(f'validation: {name}')
        found[name] = validation.measure(count, name == validation.DETECTED,
                                         repeat)
    return dict(validation=found)


def measure_footprint(args: argparse.Namespace, folder: str) -> dict:
    """See :func:`measure`."""
    say('footprint')
    data, sizes, options = f'{folder}/footprint', {}, ()
    if args.quick:
        sizes = dict(num_train=16, num_val=8)
        options = ('train_cfg.max_epochs=4', )
    synthetic_coco.generate_dataset(data, **sizes)
    demo = footprint.demo(data, *options)
    return dict(
        imports=footprint.imports(1 if args.quick else 7),
        demo=demo,
        coco_pictures=footprint.coco_pictures(demo))


MEASURES = dict(
    micro=measure_micro,
    training=measure_training,
    validation=measure_validation,
    footprint=measure_footprint)


def command(args: List[str]) -> str:
    """How to measure the same again.

    Args:
        args (list[str]): The command line.

    Returns:
        str: A command.
    """
    for option in FILES:
        if option in args:
            at = args.index(option)
            args = args[:at] + args[at + 2:]
    if not args:
        return 'make benchmark'
    return f'python tools/benchmark_hook.py {shlex.join(args)}'


def say(what: str) -> None:
    """Say what is being measured now."""
    print(f'==> {what}', flush=True)


def plain(value):
    """The same without types that JSON does not have."""
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


if __name__ == '__main__':
    main()
