# Copyright (c) OpenMMLab. All rights reserved.
"""Bring EnhancedTensorBoardHook into an MMPose, or take it out again."""
import argparse
import errno
import os
import sys
from pathlib import Path

from . import __version__
from .description import describe, diff
from .hook_defaults import NoHookError, compare
from .migration import BusyError, Migration
from .mmpose_tree import NoMMPoseError, find_package, mmpose_version
from .pip_records import (DISTRIBUTION, TooOldError, check_environment,
                          check_version, installed_beside, installed_into)
from .state import MANIFEST
from .transaction import BlockedError, ConflictError, read
from .verification import VerificationError

FAILED, USAGE, NO_MMPOSE, CONFLICT, UNVERIFIED, BUSY = range(1, 7)
# What the system says of an MMPose that must not be changed.
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
WITHOUT_WRITING = (
    'if you may not change this MMPose, put the package beside it (pip install'
    ' --no-deps --target FOLDER CHECKOUT, and PYTHONPATH=FOLDER), or migrate a'
    ' clone of your own (--target CLONE), see docs/en/cluster.md')
EPILOG = f'''exit codes:
  0  done, or nothing to do
  {FAILED}  not possible, and MMPose is as it was: no permission, a full disk,
     ...; with --config: a config cannot be read or has wrong arguments
  {USAGE}  wrong command line
  {NO_MMPOSE}  no MMPose there, or MMPose, MMEngine or torch is too old
  {CONFLICT}  files were edited: they are named, and --force overwrites them,
     with a backup
  {UNVERIFIED}  the new hook cannot be imported; files were put back. With
     --restore: MMPose's hooks cannot be imported
  {BUSY}  another migration is at work

A run that was killed is put right by the next one.
'''


def main(args=None):
    """Run the command.

    Args:
        args (list[str], optional): The command line. Defaults to None: that
            of the process.

    Returns:
        int: The exit code.
    """
    # Paths may have what the terminal's encoding lacks.
    sys.stdout.reconfigure(errors='backslashreplace')
    parser = make_parser()
    args = parser.parse_args(args)
    for option in ('keep_behaviour', 'original'):
        if getattr(args, option) and not args.config:
            parser.error(f'--{option.replace("_", "-")} needs --config')
    try:
        if args.config:
            return look_at_configs(args)
        return work_on(find_package(args.target), args)
    except ConflictError as error:
        files = ''.join(f'\n  {path}' for path in error.args)
        return fail(
            CONFLICT, 'these files are not what a migration has put '
            f'there, --force overwrites them, with a backup:{files}')
    except (NoMMPoseError, TooOldError) as error:
        return fail(NO_MMPOSE, error)
    except VerificationError as error:
        return fail(UNVERIFIED, error)
    except BusyError as error:
        return fail(BUSY, error)
    except (BlockedError, NoHookError) as error:
        return fail(FAILED, error)
    except OSError as error:
        brings = not (args.config or args.restore)
        return fail(
            FAILED, f'{error}: {WITHOUT_WRITING}'
            if brings and error.errno in READ_ONLY else error)
    except KeyboardInterrupt:
        return fail(FAILED, 'interrupted')


def make_parser():
    """Describe the command line.

    Returns:
        argparse.ArgumentParser: The parser.
    """
    parser = argparse.ArgumentParser(
        prog=os.path.basename(sys.argv[0]),
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--target',
        type=Path,
        metavar='PATH',
        help='the MMPose to work on: a clone, or the folder of the package '
        '(default: the MMPose that this Python imports)')
    parser.add_argument(
        '--link',
        action='store_true',
        help='lay symbolic links instead of copies')
    parser.add_argument(
        '--git',
        action='store_true',
        help='in a git work tree without changes: make a commit, instead of '
        'backups beside the files; so does --restore then')
    parser.add_argument(
        '--force',
        action='store_true',
        help='overwrite files that were edited since the last migration; '
        'what they were is kept beside them. Also go back to an older version')
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        '--dry-run',
        action='store_true',
        help='show what would change, and change nothing')
    action.add_argument(
        '--restore',
        action='store_true',
        help='put back exactly what was there before')
    action.add_argument(
        '--status',
        action='store_true',
        help='say what is installed, and whether an upgrade is due')
    action.add_argument(
        '--config',
        nargs='+',
        type=Path,
        metavar='FILE',
        help='say what the new hook changes for these configs, and touch no '
        'MMPose')
    parser.add_argument(
        '--keep-behaviour',
        action='store_true',
        help='with --config: write each default of the original hook that is '
        'another now where a config relies on it; keeps a backup')
    parser.add_argument(
        '--original',
        type=Path,
        metavar='FILE',
        help='with --config: the hook that the configs were written for '
        '(default: the one in MMPose, or its backup)')
    parser.add_argument(
        '--version', action='version', version=f'%(prog)s {__version__}')
    return parser


def fail(code, message):
    """Say what went wrong, and return the exit code."""
    print(f'{os.path.basename(sys.argv[0])}: {message}', file=sys.stderr)
    return code


def look_at_configs(args):
    """Say what the new hook changes for configs.

    Args:
        args (argparse.Namespace): The command line.

    Returns:
        int: The exit code.
    """
    from .user_configs import check_configs
    if args.original:
        original = args.original.read_text('utf-8'), str(args.original)
    else:
        try:
            original = Migration(find_package(args.target)).original_hook()
        except NoMMPoseError:
            original = None
    if original:
        print(f'Compared with the defaults and tags of {original[1]}:')
    elif args.keep_behaviour:
        return fail(
            FAILED, 'there is no original hook whose behaviour could be kept: '
            'name its file with --original')
    else:
        print('There is no original hook to compare with: only arguments are '
              'checked (--original names its file)')
    comparison = original and compare(*original)
    return FAILED * check_configs(args.config, comparison, args.keep_behaviour,
                                  args.force)


def work_on(package, args):
    """Do what the command line says.

    Args:
        package (Path): The folder of MMPose's package.
        args (argparse.Namespace): The command line.

    Returns:
        int: The exit code.
    """
    version = mmpose_version(package)
    print(f'MMPose {version} in {package}')
    migration = Migration(package, args.force)
    if args.status:
        return show_status(migration)
    if not args.restore:
        check_version('mmpose', version)
        check_environment()
    if args.dry_run:
        return show_plan(migration, args.link, args.git)
    try:
        with migration.lock():
            recovered = migration.recover()
            if recovered:
                print(f'The interrupted run before this one was {recovered}.')
            if args.restore:
                return restore(migration)
            return migrate(migration, args.link, args.git)
    except KeyboardInterrupt:
        # Which may have come once more while everything was put back.
        state = ('the next run puts right what this one has begun'
                 if migration.interrupted else 'and nothing was changed')
        return fail(FAILED, f'interrupted, {state}')


def migrate(migration, link, git):
    """Bring the hook in.

    Args:
        migration (Migration): Where to.
        link (bool): As links.
        git (bool): As a commit.

    Returns:
        int: The exit code.
    """
    tree = migration.git_tree(git)
    plan = migration.plan(link, tree)
    describe(migration, plan)
    for path in migration.own_configs(dict(plan.changes)):
        print(f'  keep   {path}: it is not one of ours')
    print('Importing the hook in a fresh Python ...', flush=True)
    try:
        # Also if nothing is to do: what it imports may be gone since.
        migration.carry_out(plan, migration.verify, tree,
                            f'Add EnhancedTensorBoardHook {__version__}')
    except VerificationError as error:
        raise VerificationError(f'{error}; what was changed was put back')
    done = 'Done' if plan.changes else 'There was nothing to do'
    print(f'{done}: EnhancedTensorBoardHook {__version__} is there, and '
          f'{sys.executable} finds it.\n'
          'In a config: default_hooks = dict(enhanced_tensorboard='
          "dict(type='EnhancedTensorBoardHook'))")
    return 0


def restore(migration):
    """Put back what was there.

    Args:
        migration (Migration): Where.

    Returns:
        int: The exit code.
    """
    tree = migration.git_tree()
    plan = migration.plan_restoration()
    if not plan.changes and migration.manifest() is None:
        print('Nothing was migrated here: nothing to do. '
              f'{migration.origin()}')
        return 0
    describe(migration, plan)
    broken = None
    options = tree, 'Take EnhancedTensorBoardHook out'
    print("Importing MMPose's hooks in a fresh Python ...", flush=True)
    try:
        migration.carry_out(plan, migration.verify_without, *options)
    except VerificationError as error:
        # Was it the restoration, or does MMPose not work here anyway?
        broken = error
        try:
            migration.verify_without()
        except VerificationError:
            pass
        else:
            if not migration.force:
                raise VerificationError(
                    f'{error}, as it would be without what the migration has '
                    'brought: that stays; --force takes it out nevertheless')
        migration.carry_out(plan, lambda: None, *options)
    if installed_into(migration.package):
        print('Done, except for the files that are pip\'s now, and their '
              f'backups: `pip uninstall {DISTRIBUTION}` takes them out.')
    else:
        print('Done: everything is as it was before the migration.')
    return fail(UNVERIFIED, broken) if broken else 0


def show_plan(migration, link, git):
    """Show what a migration would change.

    Args:
        migration (Migration): Where.
        link (bool): As links.
        git (bool): As a commit.

    Returns:
        int: The exit code.
    """
    if migration.interrupted:
        print('A run was interrupted: the next one puts that right first, and '
              'what it does then may differ from this.')
    plan = migration.plan(link, migration.git_tree(git))
    describe(migration, plan, every_file=True)
    for path, content in plan.changes:
        before = read(path)
        # Backups and new files would be thousands of added lines.
        if before is not None:
            sys.stdout.writelines(diff(path, before, content))
    print('Nothing was changed.')
    return 0


def show_status(migration):
    """Say what is installed.

    Args:
        migration (Migration): Where.

    Returns:
        int: The exit code.
    """
    if migration.interrupted:
        print('A run was interrupted: run again, or with --restore, to put it '
              'right.')
    for found in installed_beside(migration.package):
        print(found)
    manifest = migration.manifest()
    if manifest is None:
        print(f'No migration. {migration.origin()}')
        if migration.found_again():
            print(
                f'There was one: {MANIFEST.name} is lost. The next run makes '
                'it again, and --restore goes by what is there.')
        return 0
    kind = 'links' if manifest['linked'] else 'copies'
    print(f'EnhancedTensorBoardHook {manifest["version"]} as {kind}; this is '
          f'{__version__}.')
    if migration.is_older_than(manifest):
        print('This checkout is older: --force would go back to it.')
    elif migration.is_outdated(manifest):
        print('An upgrade is due: run again without --status.')
    else:
        print('It is up to date.')
    installed = installed_into(migration.package)
    if installed:
        print(f'{installed}, too: --restore leaves that to pip.')
    edited = migration.edited(manifest)
    print('Edited since:' if edited else 'Nothing was edited since.')
    for path in edited:
        print(f'  {path}')
    return 0
