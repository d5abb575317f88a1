# Copyright (c) OpenMMLab. All rights reserved.
"""Which diagnoses there are: those that modules here and below define."""
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Tuple, Type

from .diagnosis import Diagnosis


def _in_this_folder() -> Tuple[Type[Diagnosis], ...]:
    """Import the modules of this folder and those in it.

    Returns:
        tuple[type[Diagnosis]]: Their diagnoses, in the order of the modules'
        names.
    """
    modules = {
        module.name
        for module in walk_packages([str(Path(__file__).parent)],
                                    f'{__package__}.')
    }
    for module in sorted(modules):
        import_module(module)
    return tuple(
        sorted((cls for cls in Diagnosis.__subclasses__()
                if cls.__module__ in modules),
               key=lambda cls: cls.__module__))


DIAGNOSES = _in_this_folder()
