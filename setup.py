# Copyright (c) OpenMMLab. All rights reserved.
"""The hook as a package of its own that pip puts beside MMPose.

Nothing of it is in a folder named ``mmpose``: that would hide an MMPose that
is installed as editable, which is found after ``site-packages``.
"""
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

try:
    from setuptools.command.editable_wheel import editable_wheel
except ImportError:  # Before setuptools 64.
    editable_wheel = develop

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmpose_enhanced_tensorboard'
URL = 'https://github.com/DH-dot131/mmpose'
ENGINE = 'mmpose/engine'
HOOK = 'EnhancedTensorBoardHook'
# The presets are in a folder of this name in _base_, and configs for generated
# data in another one beside _base_.
DEMO = 'enhanced_tensorboard'
MODULE = 'mmpose.engine.hooks.enhanced_tensorboard_hook'
NOT_EDITABLE = '''
EnhancedTensorBoardHook cannot be installed as editable. To work on it, run
    python tools/link_patch.py
which links this checkout into your MMPose; to use it, run `pip install .`
'''


class BuildWithConfigs(build_py):
    """Also put the configs in place.

    Those that a migration brings into an MMPose are as they are here. In
    ``.mim`` are those without a base in MMPose; they name the hook as the
    package does. A config whose data has to be generated stays with its
    generator, in the checkout.
    """

    def run(self):
        # What an earlier build has left would be packed as well, and that was
        # once a folder named mmpose.
        for package in ('mmpose', PACKAGE):
            shutil.rmtree(str(Path(self.build_lib, package)), True)
        super().run()
        for place, content in self._configs().items():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode('utf-8'))

    def get_outputs(self, include_bytecode=1):
        return super().get_outputs(include_bytecode) + list(
            map(str, self._configs()))

    def _configs(self):
        """What else to write, by place."""
        found = {}
        for file in sorted((ROOT / 'configs').rglob('*.py')):
            config = file.relative_to(ROOT)
            if config.parts[1] == DEMO:
                continue
            text = file.read_text('utf-8')
            package = Path(self.build_lib, PACKAGE)
            found[package / 'hook_migration' / config] = text
            if config.parent.name == DEMO:
                found[package / '.mim' / config] = name_package(text)
        # What the command mmpose-train runs.
        found[package / 'train.py'] = (ROOT /
                                       'tools/train.py').read_text('utf-8')
        return found


def name_package(config):
    """Let a config take the hook from the package.

    Args:
        config (str): The text of the config.

    Returns:
        str: The same with another name for the hook, whose import registers
        it.
    """
    text = config.replace(f'{MODULE}.', f'{PACKAGE}.')
    return text.replace(f"type='{HOOK}'", f"type='{PACKAGE}.{HOOK}'")


def not_editable(command):
    """Refuse an editable installation.

    The package is put together from folders that are in other places here.

    Args:
        command (type): The command that makes one. Its options have to be
            known, or setuptools complains of them first.

    Returns:
        type: One that says what to do instead.
    """

    class NotEditable(command):

        def initialize_options(self):
            raise SystemExit(NOT_EDITABLE)

    return NotEditable


def find_packages():
    """Find the folders that are packages, whatever their depth.

    Returns:
        dict[str, str]: Each package's name and its folder in the checkout.
    """
    found = {
        f'{PACKAGE}.hooks': f'{ENGINE}/hooks',
        f'{PACKAGE}.hook_migration': 'tools/hook_migration',
    }
    monitors = ROOT / ENGINE / 'monitors'
    for folder in {file.parent for file in monitors.rglob('*.py')}:
        path = folder.relative_to(ROOT / ENGINE)
        found['.'.join([PACKAGE, *path.parts])] = f'{ENGINE}/{path.as_posix()}'
    return dict(sorted(found.items()))


def read_version():
    """Read the version without importing the package.

    Returns:
        str: The version.
    """
    text = (ROOT / 'tools/hook_migration/__init__.py').read_text('utf-8')
    return re.search(r"__version__ = '(.+)'", text).group(1)


def read_description():
    """Read the README, with links that lead somewhere from anywhere.

    Returns:
        str: Markdown.
    """

    def absolute(match):
        image, text, path = match.groups()
        kind = 'raw' if image else 'blob'
        return f'{image}[{text}]({URL}/{kind}/main/{path})'

    text = (ROOT / 'README.md').read_text('utf-8')
    return re.sub(r'(!?)\[([^]]*)\]\((?!\w+:|#)([^)]+)\)', absolute, text)


packages = find_packages()
setup(
    name='mmpose-enhanced-tensorboard',
    version=read_version(),
    description='See a pose model train: EnhancedTensorBoardHook for MMPose',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    author='OpenMMLab',
    url=URL,
    project_urls={
        'Documentation': f'{URL}/blob/main/docs/en/index.md',
        'Changelog': f'{URL}/blob/main/CHANGELOG.md',
        'Issues': f'{URL}/issues',
        'MMPose': 'https://github.com/open-mmlab/mmpose',
    },
    # No classifier for the licence: it must not be said twice.
    classifiers=[
        'Development Status :: 5 - Production/Stable',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.8',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Visualization',
    ],
    keywords='mmpose, pose estimation, TensorBoard, training, monitoring',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.8',
    package_dir={
        '': 'tools/package',
        **packages
    },
    packages=[PACKAGE, *packages],
    py_modules=['mmpose_migrate_hook', 'mmpose_train_tensorboard'],
    # Not mmpose: it is there already, often as a clone that pip does not know,
    # and pip would replace that or fail to build what MMPose asks for.
    install_requires=['mmengine>=0.8', 'tensorboard'],
    extras_require={'configs': ['libcst']},
    entry_points={
        'console_scripts': [
            'mmpose-migrate-hook=mmpose_migrate_hook:main',
            'mmpose-train=mmpose_train_tensorboard:main',
        ]
    },
    cmdclass={
        'build_py': BuildWithConfigs,
        'develop': not_editable(develop),
        'editable_wheel': not_editable(editable_wheel)
    })
