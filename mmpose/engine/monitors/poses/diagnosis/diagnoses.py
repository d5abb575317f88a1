# Copyright (c) OpenMMLab. All rights reserved.
"""Which diagnoses there are: those that the modules of this folder define."""
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Tuple, Type

from .diagnosis import Diagnosis


def _in_this_folder() -> Tuple[Type[Diagnosis], ...]:
    """Import the modules of this folder, and return their diagnoses.

    Returns:
        tuple[type[Diagnosis]]: In the order of the modules' names.
    """
    modules = {
        f'{__package__}.{module.name}'
        for module in iter_modules([str(Path(__file__).parent)])
    }
    for module in sorted(modules):
        import_module(module)
    return tuple(
        sorted((cls for cls in Diagnosis.__subclasses__()
                if cls.__module__ in modules),
               key=lambda cls: cls.__module__))


DIAGNOSES = _in_this_folder()
