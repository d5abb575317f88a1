# Copyright (c) OpenMMLab. All rights reserved.
from .base import FailureGuard, Monitor
from .event_writer import EventWriter
from .gradients import GradientMonitor
from .learning_rate import LearningRateMonitor
from .metrics import MetricMonitor
from .model_info import ModelInfoMonitor
from .record import Histogram, Record, Scalar, Text
from .schedule import Every
from .weights import WeightMonitor

__all__ = [
    'EventWriter', 'Every', 'FailureGuard', 'GradientMonitor', 'Histogram',
    'LearningRateMonitor', 'MetricMonitor', 'ModelInfoMonitor', 'Monitor',
    'Record', 'Scalar', 'Text', 'WeightMonitor'
]
