# Copyright (c) OpenMMLab. All rights reserved.
from .base import Monitor
from .batch_norms import BatchNormMonitor
from .build import build_monitors
from .clipping import ClippingMonitor
from .complexity import ComplexityMonitor
from .disk_quota import DiskQuota
from .environment import EnvironmentMonitor
from .event_writer import EventWriter
from .failure_guard import FailureGuard
from .gradients import GradientMonitor
from .graph import GraphMonitor
from .health import Detector, HealthMonitor
from .health_report import Finding, HealthReport
from .hparams import HParamsMonitor
from .keypoints import KeypointMonitor
from .layout import scalar_layout
from .learning_rate import LearningRateMonitor
from .lifting import LiftingMonitor
from .loss_detectors import NonfiniteLossDetector
from .loss_scale import LossScaleMonitor
from .losses import LossMonitor
from .metrics import MetricMonitor
from .model_info import ModelInfoMonitor
from .nonfinite_stop import NonfiniteStop, NonfiniteTrainingError
from .overhead_budget import OverheadBudget
from .poses import TrainImageMonitor, ValImageMonitor
from .record import Histogram, Image, Record, Scalar, Text
from .runner_parts import (bare_model, interrupted_log_dir, is_averaged,
                           is_sharded)
from .sample_pictures import ImageLoader
from .schedule import Adaptive, Every, Schedule, build_schedule
from .step_detectors import step_detectors
from .system import SystemMonitor
from .telemetry import TelemetryMonitor
from .training_detectors import training_detectors
from .unused_parameters import UnusedParameterMonitor
from .updates import UpdateMonitor
from .weights import WeightMonitor

__all__ = [
    'Adaptive', 'BatchNormMonitor', 'ClippingMonitor', 'ComplexityMonitor',
    'Detector', 'DiskQuota', 'EnvironmentMonitor', 'EventWriter', 'Every',
    'FailureGuard', 'Finding', 'GradientMonitor', 'GraphMonitor',
    'HParamsMonitor', 'HealthMonitor', 'HealthReport', 'Histogram', 'Image',
    'ImageLoader', 'KeypointMonitor', 'LearningRateMonitor', 'LiftingMonitor',
    'LossMonitor', 'LossScaleMonitor', 'MetricMonitor', 'ModelInfoMonitor',
    'Monitor', 'NonfiniteLossDetector', 'NonfiniteStop',
    'NonfiniteTrainingError', 'OverheadBudget', 'Record', 'Scalar', 'Schedule',
    'SystemMonitor', 'TelemetryMonitor', 'Text', 'TrainImageMonitor',
    'UnusedParameterMonitor', 'UpdateMonitor', 'ValImageMonitor',
    'WeightMonitor', 'bare_model', 'build_monitors', 'build_schedule',
    'interrupted_log_dir', 'is_averaged', 'is_sharded', 'scalar_layout',
    'step_detectors', 'training_detectors'
]
