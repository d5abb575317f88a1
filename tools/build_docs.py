# Copyright (c) OpenMMLab. All rights reserved.
"""Build the documentation in all languages; a warning is an error.

``make docs`` calls this. Each language is a folder of ``docs`` with an
``index.md``, and is built into the folder of that name in ``docs/_build``.
"""
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / 'docs'
# Sphinx names its own words after a locale.
LOCALES = dict(zh_cn='zh_CN')


def main():
    built = [build(index.parent) for index in sorted(DOCS.glob('*/index.md'))]
    for page in built:
        print(f'==> {page}')


def build(folder, docs=DOCS):
    """Build the pages of one language.

    Args:
        folder (Path): The folder of the language.
        docs (Path): Where ``conf.py`` is and ``_build`` is to be.

    Returns:
        Path: The first page.
    """
    out = docs / '_build' / folder.name
    language = LOCALES.get(folder.name, folder.name)
    result = subprocess.run([
        sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b',
        'html', '-c',
        str(docs), '-D', f'language={language}', '-d',
        str(docs / '_build' / 'doctrees' / folder.name),
        str(folder),
        str(out)
    ])
    if result.returncode:
        sys.exit(f'docs: {folder} has errors or warnings, see above')
    return out / 'index.html'


if __name__ == '__main__':
    main()
