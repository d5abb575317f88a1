# Copyright (c) OpenMMLab. All rights reserved.
"""Import an MMPose in a fresh Python, with the hook or without it."""
import subprocess
import sys

# Nothing is compiled into the tree. Its folder is not put on the path: where
# pip installs, there may be a package that has the name of one of Python's own
# and must come after that.
IMPORT = '''
import os, sys
from importlib.util import module_from_spec, spec_from_file_location
package, hook = sys.argv[1:]
if not sys.path[0]:
    del sys.path[0]
spec = spec_from_file_location(
    'mmpose', os.path.join(package, '__init__.py'),
    submodule_search_locations=[package])
sys.modules['mmpose'] = module_from_spec(spec)
spec.loader.exec_module(sys.modules['mmpose'])
import mmpose.engine.hooks
'''
FIND_HOOK = '''
from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.registry import HOOKS
found = HOOKS.get('EnhancedTensorBoardHook')
assert found is EnhancedTensorBoardHook, 'the registry has another hook'
file = sys.modules[found.__module__].__file__
assert os.path.samefile(file, hook), f'the hook comes from {file}'
EnhancedTensorBoardHook()
'''


class VerificationError(Exception):
    """An MMPose or the hook cannot be imported; the message says why."""


def verify_hook(package, hook):
    """Import the hook.

    Args:
        package (Path): The folder of MMPose's package.
        hook (Path): The file that it has to come from.

    Raises:
        VerificationError: It does not.
    """
    _run(IMPORT + FIND_HOOK, package, hook, 'cannot use the new hook')


def verify_mmpose(package):
    """Import the hooks of an MMPose.

    Args:
        package (Path): The folder of MMPose's package.

    Raises:
        VerificationError: They cannot be imported.
    """
    _run(IMPORT, package, package, 'cannot import mmpose.engine.hooks')


def _run(script, package, hook, problem):
    result = subprocess.run([
        sys.executable, '-B', '-W', 'ignore', '-c', script,
        str(package),
        str(hook)
    ],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
    if result.returncode:
        error = result.stderr.decode('utf-8', 'replace').strip()
        reason = error.splitlines()[-1] if error else 'it was killed'
        raise VerificationError(f'{sys.executable} {problem}: {reason}')
