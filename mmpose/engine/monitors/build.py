# Copyright (c) OpenMMLab. All rights reserved.
import logging
from types import SimpleNamespace
from typing import List

from mmengine.logging import print_log

from .base import Monitor
from .batch_norms import BatchNormMonitor
from .clipping import ClippingMonitor
from .complexity import ComplexityMonitor
from .environment import EnvironmentMonitor
from .gradients import GradientMonitor
from .graph import GraphMonitor
from .health import Detector, HealthMonitor
from .hparams import HParamsMonitor
from .keypoints import KeypointMonitor
from .learning_rate import LearningRateMonitor
from .lifting import LiftingMonitor
from .loss_scale import LossScaleMonitor
from .losses import LossMonitor
from .metrics import MetricMonitor
from .model_info import ModelInfoMonitor
from .overhead_budget import OverheadBudget
from .poses import TrainImageMonitor, ValImageMonitor
from .sample_pictures import ImageLoader
from .schedule import build_schedule
from .step_detectors import step_detectors
from .system import SystemMonitor
from .telemetry import TelemetryMonitor
from .training_detectors import training_detectors
from .unused_parameters import UnusedParameterMonitor
from .updates import UpdateMonitor
from .weights import WeightMonitor


def build_monitors(given: SimpleNamespace,
                   hist_by_passes: bool) -> List[Monitor]:
    """The monitors that a user has asked for.

    Args:
        given (SimpleNamespace): The arguments of
            :class:`EnhancedTensorBoardHook`, checked, the preset's values in
            the place of None.
        hist_by_passes (bool): See :class:`WeightMonitor`.

    Returns:
        list[Monitor]: In the order in which events reach them.
    """
    # What the health monitor looks for, in what the others write.
    detectors: List[Detector] = []
    images = ImageLoader(given.backend_args)
    schedule = build_schedule(given.grad_norm_interval)
    groups = given.max_layers_to_log
    monitors: List[Monitor] = []
    if given.log_model_stats:
        monitors.append(ModelInfoMonitor(groups, strict=given.strict))
        monitors.append(ComplexityMonitor(groups, strict=given.strict))
    if given.log_graph:
        monitors.append(GraphMonitor(strict=given.strict))
    if given.log_run_info:
        monitors.append(EnvironmentMonitor(strict=given.strict))
        monitors.append(
            HParamsMonitor(given.hparams or (), strict=given.strict))
    if given.log_lr:
        monitors.append(
            LearningRateMonitor(schedule, groups, strict=given.strict))
    if given.log_grad_norm:
        monitors.append(GradientMonitor(schedule, groups, strict=given.strict))
    if given.log_weight_hist:
        monitors.append(
            WeightMonitor(
                build_schedule(given.weight_hist_interval),
                groups,
                by_passes=hist_by_passes,
                strict=given.strict))
    if given.log_train_images and given.train_image_interval:
        monitors.append(
            TrainImageMonitor(
                build_schedule(given.train_image_interval),
                given.max_train_images,
                given.kpt_thr,
                strict=given.strict))
    if given.log_val_images and given.val_image_interval:
        monitors.append(
            ValImageMonitor(
                build_schedule(given.val_image_interval),
                given.max_val_images,
                given.kpt_thr,
                images,
                strict=given.strict))
    if given.log_keypoints or given.hard_samples:
        monitors.append(
            KeypointMonitor(
                given.log_keypoints,
                given.hard_samples,
                given.kpt_thr,
                images,
                strict=given.strict))
    if given.log_train_images or given.log_val_images or given.log_keypoints:
        # It knows itself whether the model is one that lifts.
        monitors.append(
            LiftingMonitor(
                build_schedule(given.train_image_interval)
                if given.log_train_images else None,
                build_schedule(given.val_image_interval)
                if given.log_val_images else None,
                given.max_train_images,
                given.max_val_images,
                given.log_keypoints,
                strict=given.strict))
    if given.log_val_metrics:
        monitors.append(MetricMonitor(strict=given.strict))
    if given.log_system:
        monitors.append(SystemMonitor(schedule, strict=given.strict))
    if given.log_health:
        monitors += [
            UpdateMonitor(schedule, groups, strict=given.strict),
            UnusedParameterMonitor(schedule, strict=given.strict),
            BatchNormMonitor(schedule, strict=given.strict),
            ClippingMonitor(schedule, strict=given.strict),
            LossMonitor(schedule, strict=given.strict),
            # Mixed precision skips updates for a loss that is not finite.
            LossScaleMonitor(schedule, strict=given.strict)
        ]
        if given.grad_norm_interval == 0:
            print_log(
                'EnhancedTensorBoardHook: with grad_norm_interval=0 the '
                'report is made from validations alone. log_grad_norm=False '
                'leaves out only the gradients.',
                logger='current',
                level=logging.INFO)
        detectors += training_detectors()
        detectors += step_detectors(given.on_nonfinite != 'ignore')
        monitors.append(HealthMonitor(detectors, strict=given.strict))
    if monitors:
        monitors.append(
            TelemetryMonitor(schedule, monitors[:], strict=given.strict))
    if given.overhead_budget is not None:
        budget = OverheadBudget(given.overhead_budget,
                                [monitor.guard for monitor in monitors])
        for monitor in monitors:
            monitor.budget = budget
    return monitors
