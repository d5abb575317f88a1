# Copyright (c) OpenMMLab. All rights reserved.
from .base import Monitor
from .disk_quota import DiskQuota
from .event_writer import EventWriter
from .failure_guard import FailureGuard
from .gradients import GradientMonitor
from .keypoints import KeypointMonitor
from .learning_rate import LearningRateMonitor
from .metrics import MetricMonitor
from .model_info import ModelInfoMonitor
from .overhead_budget import OverheadBudget
from .poses import TrainImageMonitor, ValImageMonitor
from .record import Histogram, Image, Record, Scalar, Text
from .runner_parts import interrupted_log_dir
from .schedule import Adaptive, Every, Schedule, build_schedule
from .telemetry import TelemetryMonitor
from .weights import WeightMonitor

__all__ = [
    'Adaptive', 'DiskQuota', 'EventWriter', 'Every', 'FailureGuard',
    'GradientMonitor', 'Histogram', 'Image', 'KeypointMonitor',
    'LearningRateMonitor', 'MetricMonitor', 'ModelInfoMonitor', 'Monitor',
    'OverheadBudget', 'Record', 'Scalar', 'Schedule', 'TelemetryMonitor',
    'Text', 'TrainImageMonitor', 'ValImageMonitor', 'WeightMonitor',
    'build_schedule', 'interrupted_log_dir'
]
