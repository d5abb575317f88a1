# Copyright (c) OpenMMLab. All rights reserved.
"""The pull requests of the series, in their order: what is written by hand.

What each of them holds is worked out from the imports, see ``cut.py``.
"""
from collections import namedtuple

from .imports import HOOK

# name: of the branch. subject: of the commit and the pull request. claims: the
# hook, folders and modules in monitors/; the innermost claim decides, and what
# a claimed module imports comes with it. why: the motivation, in Markdown.
# changes: a line of the changelog, in English and Chinese. use: a use case.
Stage = namedtuple('Stage', 'name subject claims why changes use')


def use_case(arguments):
    """Write a use case.

    Args:
        arguments (str): Arguments of the hook.

    Returns:
        str: A config, in Markdown.
    """
    return ('```python\ndefault_hooks = dict(\n    enhanced_tensorboard=dict('
            f"type='{HOOK}'{arguments}))\n```")


STAGES = (
    # The page says what the branch has; in this one, only what there was.
    Stage(
        'docs', '[Docs] Describe where logs go', (),
        'The page on logging says "Coming soon". This describes what '
        '`LoggerHook` writes, how TensorBoard shows it, and how a hook of '
        "one's own adds a curve.", ('Describe where logs go', '补充日志去向的文档'),
        ''),
    Stage(
        'core', f'[Feature] Add {HOOK}',
        ('hook', 'writers/', 'core/', 'run/metrics',
         'optimization/learning_rate', 'optimization/gradients',
         'optimization/weights'),
        'MMPose logs the loss and the learning rate of a training. Where in '
        'the network gradients vanish or explode, and whether weights move '
        f'at all, is not visible. `{HOOK}` logs gradient norms, weight '
        'histograms, learning rates and metrics to the event file that '
        '`LoggerHook` writes, at the same steps. A monitor is one file, which '
        'declares its arguments and its charts; users register their own.',
        (f'Add `{HOOK}`: gradients, weights, learning rates and metrics in '
         'TensorBoard', f'新增 `{HOOK}`：在 TensorBoard 中查看梯度、权重、'
         '学习率和评测指标'), use_case('')),
    Stage(
        'pictures', f'[Feature] Log pose images with {HOOK}',
        ('poses/train_images', 'poses/val_images'),
        'Wrong keypoint orders, flips, normalisations and boxes do not raise '
        'an error: the model learns from wrong targets. Pictures of what the '
        'model sees, with targets, predictions and heatmaps, show them in the '
        'first minutes of a training.',
        (f'{HOOK}: pictures of training and validation samples with targets, '
         'predictions and heatmaps', f'{HOOK}：训练和验证样本的图片，'
         '包含目标、预测和热图'), use_case(',\n        train_image_interval=200')),
    Stage(
        'keypoints', f'[Feature] Log accuracy by keypoint with {HOOK}',
        ('poses/', ),
        'A single AP does not say which keypoints hold it down. These '
        'monitors measure each keypoint over a validation, and show the '
        'samples that the model gets most wrong.',
        (f'{HOOK}: accuracy by keypoint and the hardest samples of a '
         'validation', f'{HOOK}：按关键点统计的精度，以及验证集中最难的样本'),
        use_case(',\n        log_keypoints=True, hard_samples=8')),
    Stage(
        'diagnosis', f'[Feature] Diagnose wrong keypoints with {HOOK}',
        ('poses/diagnosis/', ),
        'That keypoints are wrong does not say why. Each of these diagnoses '
        'is computed from the predictions that the evaluator gets, and is '
        'one module.',
        (f'{HOOK}: diagnoses of wrong keypoints', f'{HOOK}：错误关键点的诊断'),
        use_case(',\n        log_error_kinds=True')),
    Stage(
        'codec', f'[Feature] Measure what a codec can reach with {HOOK}',
        ('poses/pose_codec', 'poses/codec/'),
        'Encoding keypoints into targets and decoding them again costs '
        'accuracy that no training gains back. This measures how much, on the '
        'data set and the pipeline of the config.',
        (f'{HOOK}: the accuracy that a codec can reach', f'{HOOK}：编解码器可达到的精度'),
        use_case('')),
    Stage(
        'data', f'[Feature] Show the data before it is trained on with {HOOK}',
        ('poses/data/', ),
        'Many trainings that go wrong were wrong before they began: other '
        'annotations than one thinks, an augmentation that moves keypoints '
        'out of the crop. These monitors show what is annotated, and what the '
        'pipeline makes of it, when a training begins.',
        (f'{HOOK}: an overview of the data of training and validation',
         f'{HOOK}：训练数据和验证数据的概览'), use_case('')),
    Stage(
        'augmentation',
        f'[Feature] Show what the pipeline makes of the data with {HOOK}',
        ('poses/data/augmentation', 'poses/data/drawing_process',
         'poses/data/few_samples', 'poses/data/sheet',
         'poses/data/training_targets', 'poses/data/lost_keypoints',
         'poses/data/input_statistics'),
        'An augmentation that is too strong, or that moves the image without '
        'its keypoints, raises no error. These monitors draw the same samples '
        'several times, in a process of their own so that the random numbers '
        'of the training stay the same, and count what is lost.',
        (f'{HOOK}: pictures of the augmentation, and the keypoints that it '
         'loses', f'{HOOK}：数据增强的图片，以及它丢失的关键点'), use_case('')),
    Stage(
        'validation_loss',
        f'[Feature] Log the loss of the validation with {HOOK}',
        ('poses/validation_loss/', ),
        'MMPose logs no loss of the validation. The training loss is of '
        'augmented samples, so it does not tell whether a model overfits. '
        'This computes both on fixed samples that are prepared in the same '
        'way.', (f'{HOOK}: the loss of the validation', f'{HOOK}：验证集的损失'),
        use_case(',\n        val_loss_samples=64')),
    Stage(
        'run', f'[Feature] Log what a run is and costs with {HOOK}',
        ('run/', ),
        'Two runs can be compared if it is known what differs: environment, '
        'hyperparameters, size of the model. And a training that waits for '
        'its data loader is slow without an error.',
        (f'{HOOK}: environment, hyperparameters, model size, throughput and '
         'memory', f'{HOOK}：运行环境、超参数、模型规模、吞吐量和内存'),
        use_case(',\n        hparams=True')),
    Stage(
        'health', f'[Feature] Report anomalies of a training with {HOOK}',
        ('optimization/', 'health/'),
        'Most failed trainings show the cause early: a loss that is NaN, '
        'parameters without gradient, a learning rate that is zero, weights '
        'that do not move. Detectors look for these and write a finding with '
        'its evidence and a suggested action to the log and to TensorBoard.',
        (f'{HOOK}: a report on the anomalies of a training', f'{HOOK}：训练异常报告'),
        use_case(",\n        on_nonfinite='stop'")),
    Stage(
        'comparison', f'[Feature] Compare two runs with {HOOK}',
        ('poses/diagnosis/comparison/', 'run/config_differences'),
        'Whether one model is better than another is more than a difference '
        'of two metrics: for which keypoints, on which instances, and is it '
        'more than chance. This compares a validation with that of another '
        'run, instance by instance.',
        (f'{HOOK}: the differences between two runs by keypoint and instance',
         f'{HOOK}：两次运行按关键点和实例的差异'),
        use_case(",\n        compare='work_dirs/baseline'")),
    Stage(
        'settings', f'[Feature] Find contradictory settings with {HOOK}',
        ('health/settings/', 'health/detectors/settings/',
         'poses/sanity_val/'),
        'Most trainings that go wrong were wrong before they began: a config '
        'was copied from another data set. A swap that is missing, a warm-up '
        'that is longer than the training, a validation in another size raise '
        'no error. This compares config and data set at the first iteration.',
        (f'{HOOK}: settings that contradict each other or the data set',
         f'{HOOK}：相互矛盾或与数据集不符的设置'), use_case('')),
    Stage(
        'samples', f'[Feature] Show the samples of a finding with {HOOK}',
        ('poses/suspect_images', ),
        'A finding on a batch, a loss that is NaN say, comes from one of its '
        'samples. This shows them as the model sees them, with their targets.',
        (f'{HOOK}: pictures of the samples of a finding',
         f'{HOOK}：异常所涉及样本的图片'), use_case('')),
    Stage(
        'lifting', f'[Feature] Log 3D poses of lifting models with {HOOK}',
        ('poses/lifting', ),
        'Pose lifting trains on keypoints, so there is no picture to look '
        'at. This draws the 3D skeletons of input, target and prediction.',
        (f'{HOOK}: 3D poses of lifting models', f'{HOOK}：姿态提升模型的三维姿态'),
        use_case('')),
)
