# Copyright (c) OpenMMLab. All rights reserved.
"""Write a report on each run of a work directory, for any browser.

    python tools/make_report.py WORK_DIR

writes ``report.html`` and ``scalars.csv`` beside the event files. It can be
called while the training runs.
"""
import argparse
import os
import sys

from train import import_monitors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('work_dir', help='work directory of trainings')
    args = parser.parse_args()
    html_report = import_monitors('run.html_report.html_report')
    found = sorted(folder for folder, _, names in os.walk(args.work_dir)
                   if any('tfevents' in name for name in names))
    if not found:
        sys.exit(f'There is no event file in {args.work_dir}.')
    for folder in found:
        parent = os.path.dirname(os.path.abspath(args.work_dir))
        title = os.path.relpath(folder, parent)
        if os.path.basename(title) == 'vis_data':
            title = os.path.dirname(title)
        print(html_report.write_report(folder, title))


if __name__ == '__main__':
    main()
