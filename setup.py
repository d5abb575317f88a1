# Copyright (c) OpenMMLab. All rights reserved.
"""The patch as a package that pip lays beside an installed MMPose.

Not one file of MMPose's is in it or changed by it: pip can take it out again,
and either can be upgraded without the other.
"""
import re
import shutil
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
COMMAND = 'mmpose_enhanced_tensorboard'


class BuildWithConfigs(build_py):
    """Also puts the configs where an installed MMPose has its own."""

    def run(self):
        # An earlier build may have left files that are gone now.
        for package in ('mmpose', COMMAND):
            shutil.rmtree(str(Path(self.build_lib, package)), True)
        super().run()
        for source, place in self._configs():
            self.mkpath(str(Path(place).parent))
            self.copy_file(source, place)

    def get_outputs(self, include_bytecode=1):
        places = [place for _, place in self._configs()]
        return super().get_outputs(include_bytecode) + places

    def _configs(self):
        target = Path(self.build_lib, 'mmpose', '.mim')
        for file in sorted((ROOT / 'configs').rglob('*.py')):
            yield str(file), str(target / file.relative_to(ROOT))


class NotEditable(Command):
    """A way to this folder alone would not be found inside of MMPose."""

    user_options = []

    def initialize_options(self):
        raise SystemExit('This cannot be installed as editable: lay links '
                         'with `python tools/link_patch.py`.')


def read_version():
    """Read the version without importing the package.

    Returns:
        str: The version.
    """
    text = (ROOT / 'tools/hook_migration/__init__.py').read_text('utf-8')
    return re.search(r"__version__ = '(.+)'", text).group(1)


setup(
    name='mmpose-enhanced-tensorboard',
    version=read_version(),
    description='See a pose model train: EnhancedTensorBoardHook for MMPose',
    long_description=(ROOT / 'README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    license='Apache License 2.0',
    python_requires='>=3.8',
    package_dir={COMMAND: 'tools/hook_migration'},
    # The folders of MMPose without an __init__.py: that is MMPose's.
    packages=['mmpose.engine.hooks', 'mmpose.engine.monitors', COMMAND],
    # Not mmpose: it is there already, often as a clone that pip does not know,
    # and pip would replace that or fail to build what MMPose asks for.
    install_requires=['tensorboard'],
    extras_require={'configs': ['libcst']},
    entry_points={
        'console_scripts': [f'mmpose-migrate-hook={COMMAND}.command:main']
    },
    cmdclass={
        'build_py': BuildWithConfigs,
        'develop': NotEditable,
        'editable_wheel': NotEditable
    })
