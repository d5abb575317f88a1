# Copyright (c) OpenMMLab. All rights reserved.
"""The rules of the house: who imports whom, and how large a file may be."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mmpose.engine import monitors

HOUSE = Path(monitors.__file__).resolve().parent
# Each may import what stands behind it, and of the rooms in a tuple only
# itself.
FLOORS = (('optimization', 'poses', 'run', 'health'), ('core', ),
          ('writers', ))
FLOOR_OF = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
MODULES_OF_A_FOLDER = 16
LINES_OF_A_MODULE = 400
LINES_OF_THE_HOOK = 250
MODULES_MORE = 20
HEAVY = ('mmdet', 'mmpose.models', 'matplotlib', 'tensorboard',
         'torch.utils.tensorboard')
FILES = sorted(HOUSE.rglob('*.py'))


def room_of(file: Path) -> str:
    parts = file.relative_to(HOUSE).parts
    return parts[0] if len(parts) > 1 else ''


def imports_of(file: Path):
    """The modules that a file imports, and whether when it is imported.

    What only a type checker imports does not count.
    """

    def walk(node, at_once):
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_once
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = file.relative_to(HOUSE.parent).with_suffix('').parts
                base = base[:len(base) - node.level]
                module = '.'.join((*base, *filter(None, [node.module])))
            else:
                module = node.module
            yield module, at_once
        inside = isinstance(node, (ast.FunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_once and not inside)

    return list(walk(ast.parse(file.read_text('utf-8')), True))


@pytest.mark.parametrize(
    'file', FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_imports_go_one_way(file):
    room = room_of(file)
    for module, at_once in imports_of(file):
        if module.startswith('monitors.'):
            other = module.split('.')[1]
            allowed = other == room or (FLOOR_OF.get(other, -1) > FLOOR_OF.get(
                room, -1))
            assert allowed, f'{room} imports {module}'
        if module.split('.')[0] == 'mmpose':
            assert room == 'poses', f'only poses imports {module}'
        if at_once:
            # MMPose's own visualizer imports matplotlib.
            assert room == 'poses' and 'matplotlib' in module or (
                not module.startswith(HEAVY)), f'{module} is heavy'


@pytest.mark.parametrize(
    'file', FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_a_module_holds_one_idea(file):
    assert len(file.read_text('utf-8').splitlines()) <= LINES_OF_A_MODULE


def test_a_folder_answers_one_question():
    for folder in {file.parent for file in FILES}:
        modules = [
            file for file in folder.glob('*.py') if file.stem != '__init__'
        ]
        assert len(modules) <= MODULES_OF_A_FOLDER, folder


def test_the_hook_is_what_a_config_may_say():
    hook = HOUSE.parent / 'hooks' / 'enhanced_tensorboard_hook.py'
    lines = hook.read_text('utf-8').splitlines()
    assert len(lines) < LINES_OF_THE_HOOK


def test_a_config_without_the_hook_does_not_wait_for_it():
    """By the modules that importing MMPose's hooks costs more than before."""
    script = '''
import importlib, sys, types
name = 'mmpose.engine.hooks.enhanced_tensorboard_hook'
sys.modules[name] = types.ModuleType(name)
sys.modules[name].EnhancedTensorBoardHook = None
import mmpose.engine.hooks
before = set(sys.modules)
del sys.modules[name]
importlib.import_module(name)
print(*set(sys.modules) - before)
'''
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', script],
                            check=True,
                            stdout=subprocess.PIPE,
                            universal_newlines=True)
    new = result.stdout.split()
    assert 5 < len(new) <= MODULES_MORE, sorted(new)
    assert not [module for module in new if module.startswith(HEAVY)]
