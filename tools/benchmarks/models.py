# Copyright (c) OpenMMLab. All rights reserved.
"""The models whose real parameter shapes are measured."""
import tempfile
from pathlib import Path
from typing import List

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmpose.registry import MODELS

CONFIGS = {
    'RTMPose-m': 'rtmpose/coco/rtmpose-m_8xb256-420e_coco-256x192',
    'ResNet-50': 'topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192',
    'HRNet-w32': 'topdown_heatmap/coco/'
    'td-hm_hrnet-w32_8xb64-210e_coco-256x192',
    'HRNet-w48': 'topdown_heatmap/coco/'
    'td-hm_hrnet-w48_8xb32-210e_coco-256x192',
}
VIT = 'ViT, 300 M'
NAMES = (*CONFIGS, VIT)


def load_config(path: str) -> Config:
    """A config of the installed MMPose.

    Args:
        path (str): Below ``body_2d_keypoint``, without '.py'.

    Returns:
        Config: The config.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'config.py')
        file.write_text(f"_base_ = ['mmpose::body_2d_keypoint/{path}.py']\n")
        return Config.fromfile(str(file))


def build(name: str) -> nn.Module:
    """A model with random weights.

    Args:
        name (str): One of ``NAMES``.

    Returns:
        nn.Module: The model of an upstream config, or the ViT.
    """
    if name == VIT:
        return _vit()
    cfg = load_config(CONFIGS[name]).model
    cfg.backbone.pop('init_cfg', None)
    return MODELS.build(cfg)


def fill_gradients(model: nn.Module) -> List[Tensor]:
    """Give every parameter a random gradient.

    Returns:
        list[Tensor]: The gradients.
    """
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return [parameter.grad for parameter in model.parameters()]


def num_bytes(tensors: List[Tensor]) -> int:
    """What tensors hold, in bytes."""
    return sum(t.numel() * t.element_size() for t in tensors)


def _vit(depth: int = 24, width: int = 1024) -> nn.Module:
    """The encoder of ViT-L, 16x16 patches of 256x192 pixels."""
    model = nn.Module()
    model.patch_embed = nn.Conv2d(3, width, 16, 16)
    model.pos_embed = nn.Parameter(torch.zeros(1, 16 * 12 + 1, width))
    model.layers = nn.ModuleList(
        nn.TransformerEncoderLayer(width, 16, 4 * width) for _ in range(depth))
    model.norm = nn.LayerNorm(width)
    return model
