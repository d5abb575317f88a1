# Copyright (c) OpenMMLab. All rights reserved.
import pytest
from hook_migration import command, migration
from migrated_trees import fresh, make_tree


@pytest.fixture
def tree(tmp_path):
    """The part of a pip-installed MMPose that is read or changed."""
    return make_tree(tmp_path / 'a site', fresh)


@pytest.fixture
def run(capsys, monkeypatch):
    """A function that runs the tool here, without a fresh Python.

    Returns the exit code and all that was printed.
    """
    for check in ('verify', 'verify_without'):
        monkeypatch.setattr(migration.Migration, check, lambda self: None)

    def run(tree, *options):
        capsys.readouterr()
        code = command.main(['--target', str(tree), *options])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run
