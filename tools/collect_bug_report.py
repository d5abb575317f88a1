# Copyright (c) OpenMMLab. All rights reserved.
"""Put what a bug report needs into one Markdown file.

    python tools/collect_bug_report.py WORK_DIR

Run it with the Python that trained. The report has the versions, the GPUs,
the config, what the hook said and the end of the log of the last run in
WORK_DIR. Passwords, tokens, home directories and user names are taken out as
far as they can be known; read the report before you publish it.
"""
import argparse
import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ('mmpose', 'mmpose-enhanced-tensorboard', 'mmengine', 'mmcv',
            'mmdet', 'torch', 'torchvision', 'tensorboard', 'protobuf',
            'numpy', 'opencv-python', 'opencv-python-headless', 'psutil')
# In an MMPose that has the hook, and in the package beside one.
HOOK_MODULES = ('mmpose.engine.hooks.enhanced_tensorboard_hook',
                'mmpose_enhanced_tensorboard')
# GitHub takes 65536 characters in an issue.
MAX_CONFIG, MAX_SAID, MAX_TAIL = 20000, 12000, 20000
TAIL_LINES = 100

# How a line of MMEngine's log begins; others belong to the line before.
LOG_LINE = re.compile(r'[\d/]+ \d\d:\d\d:\d\d - [\w.]+ - ([A-Z]+) - ')
# What the hook and its parts begin a message with.
SAID = re.compile(r'EnhancedTensorBoardHook|TensorBoard|\w+Monitor\b|'
                  r'EventWriter|Training health|weight_hist_interval|'
                  r'The thread that writes|\d+ TensorBoard')
# Twelve digits of a commit tell it, and do not look like a key.
COMMIT = ('rev-parse', '--short=12', 'HEAD')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'work_dir',
        type=Path,
        metavar='WORK_DIR',
        help="the work directory of the training, or one run's directory in "
        'it')
    parser.add_argument(
        '--out',
        type=Path,
        help='the file to write; WORK_DIR/bug_report.md unless given')
    args = parser.parse_args()
    if not args.work_dir.is_dir():
        sys.exit(f'collect_bug_report: there is no directory {args.work_dir}')
    log, config = find_log(args.work_dir), find_config(args.work_dir)
    if log is None and config is None:
        sys.exit(f'collect_bug_report: {args.work_dir} has neither a log nor '
                 'a config: it is not the work directory of a training '
                 '(work_dirs/NAME, say)')
    out = args.out or args.work_dir / 'bug_report.md'
    try:
        out.write_text(make_report(log, config), encoding='utf-8')
    except OSError as error:
        sys.exit(f'collect_bug_report: cannot write {out} ({error}); choose '
                 'another place with --out')
    print(f'Wrote {out}. Read it before you publish it: not every secret can '
          'be known.')


def find_log(work_dir):
    """Find the log of the last run.

    Args:
        work_dir (Path): The work directory, or the directory of a run in it.

    Returns:
        Path or None: The log that was written to last.
    """
    return newest([*work_dir.glob('*.log'), *work_dir.glob('*/*.log')])


def find_config(work_dir):
    """Find the config that MMEngine has written for the last run.

    Args:
        work_dir (Path): The work directory, or the directory of a run in it.

    Returns:
        Path or None: The config that was written last.
    """
    return newest([
        *work_dir.glob('*.py'), *work_dir.glob('vis_data/config.py'),
        *work_dir.glob('*/vis_data/config.py')
    ])


def newest(files):
    """The file that was written to last.

    Args:
        files (list[Path]): Some files.

    Returns:
        Path or None: None if there are none.
    """
    files = [file for file in files if file.is_file()]
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def make_report(log, config):
    """Make the report.

    Args:
        log (Path or None): The log of the run.
        config (Path or None): Its config.

    Returns:
        str: Markdown, with nothing secret in it as far as is known.
    """
    records = read_records(log) if log else []
    tail = ''.join(records).splitlines()[-TAIL_LINES:]
    sections = [
        ('What happens', 'Please write what you did, what happened and what '
         'you expected.', None, None),
        ('Versions', None, '\n'.join(versions()), MAX_SAID),
        ('Environment of the run, by its log', None,
         environment_of_run(records), MAX_SAID),
        ('Config', None, config and read(config), MAX_CONFIG),
        ('What the hook said', None, ''.join(what_the_hook_said(records)),
         MAX_SAID),
        ('End of the log', None, '\n'.join(tail), MAX_TAIL),
    ]
    redact = redaction().redact
    parts = []
    for title, text, content, limit in sections:
        if content is not None:
            # First of all, so that nothing is cut in the middle.
            content = shorten(redact(content).strip('\n'), limit)
            text = fence(content) if content else 'Nothing.'
        parts.append(f'## {title}\n\n{text or "There is none."}\n')
    return '\n'.join(parts)


def redaction():
    """The module that takes secrets out of a text.

    Returns:
        module: Loaded by its file: it must work where MMPose does not.
    """
    monitors = ROOT / 'mmpose' / 'engine' / 'monitors'
    file = monitors / 'run' / 'redaction.py'
    spec = importlib.util.spec_from_file_location('redaction', str(file))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def versions():
    """What is installed where this script runs.

    Yields:
        str: Lines.
    """
    for package in PACKAGES:
        try:
            yield f'{package}: {metadata.version(package)}'
        except metadata.PackageNotFoundError:
            continue
    yield f'hook: {describe_hook()}'
    try:
        from mmengine.utils.dl_utils import collect_env
        for name, value in collect_env().items():
            if name != 'PyTorch compiling details':
                yield f'{name}: {value}'
    except Exception as error:
        yield f'Python: {sys.version}'
        yield f'MMEngine says nothing more: {type(error).__name__}: {error}'


def describe_hook():
    """Where the hook is imported from, and of which commit it is.

    Returns:
        str: One line, also if it cannot be imported.
    """
    errors = []
    for name in HOOK_MODULES:
        try:
            hook = importlib.import_module(name)
            break
        except Exception as error:
            errors.append(f'{type(error).__name__}: {error}')
    else:
        return f'cannot be imported: {"; ".join(errors)}'
    file = Path(hook.__file__)
    try:
        commit = git(file.resolve().parent, *COMMIT)
        changed = git(file.resolve().parent, 'status', '--porcelain',
                      '--untracked-files=no')
    except (OSError, subprocess.SubprocessError):
        return str(file)
    return f'{file}, commit {commit}{", with changes" if changed else ""}'


def git(folder, *args):
    """Ask git.

    Args:
        folder (Path): A folder of the repository.
        *args (str): What to ask.

    Returns:
        str: The answer.
    """
    return subprocess.run(['git', '-C', str(folder), *args],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL,
                          timeout=10,
                          check=True,
                          universal_newlines=True).stdout.strip()


def read(file):
    """Read a text whose encoding nobody knows.

    Args:
        file (Path): The file.

    Returns:
        str: Its text; what is not UTF-8 shows as a replacement character.
    """
    return file.read_text(encoding='utf-8', errors='replace')


def read_records(log):
    """Read a log record by record.

    Args:
        log (Path): MMEngine's log.

    Returns:
        list[str]: Each with the lines that belong to it, such as a traceback.
    """
    records = []
    for line in read(log).splitlines(keepends=True):
        if records and not LOG_LINE.match(line):
            records[-1] += line
        else:
            records.append(line)
    return records


def environment_of_run(records):
    """What MMEngine has found out about the machine when the run began.

    Args:
        records (list[str]): The log.

    Returns:
        str or None: None if the log does not say.
    """
    for record in records:
        if 'System environment:' in record:
            return record
    return None


def what_the_hook_said(records):
    """Find what the hook and its parts have said, and all that went wrong.

    Args:
        records (list[str]): The log.

    Returns:
        list[str]: The records, the config's dump not among them.
    """
    said = []
    for record in records:
        match = LOG_LINE.match(record)
        if match is None:
            continue
        if SAID.match(record, match.end()) or match.group(1) != 'INFO':
            said.append(record)
    return said


def shorten(text, limit):
    """Leave out the middle of a text that is too long.

    Args:
        text (str): The text.
        limit (int): The largest number of characters to keep.

    Returns:
        str: The text, or its beginning and its end.
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return (f'{text[:half]}\n[... {len(text) - 2 * half:,} characters are '
            f'left out ...]\n{text[-half:]}')


def fence(text):
    """Put a text into a block that it cannot end.

    Args:
        text (str): The text.

    Returns:
        str: Markdown.
    """
    longest = max(map(len, re.findall('`{3,}', text)), default=2)
    marks = '`' * (longest + 1)
    return f'{marks}text\n{text}\n{marks}'


if __name__ == '__main__':
    main()
