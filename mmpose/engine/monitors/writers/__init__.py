# Copyright (c) OpenMMLab. All rights reserved.
"""The way of a record out of the training.

.. code-block:: python

    writer = TensorBoardWriter.of(SummaryWriter('runs/1'))
    writer.write(Record(1, lambda: [Scalar('loss', 0.5)]))
    writer.close()

``record`` is what can be written. Every writer has ``write(record)``,
``flush()`` and ``close()``, and most wrap another one:

- ``TensorBoardWriter`` makes events of records; a writer of another format is
  a file like this one, joined in ``EventWriter``.
- ``MirrorWriter`` sends records to experiment trackers, too; another tracker
  is a class in ``mirrors/clients.py``.
- ``BoundedWriter`` drops what the disk has no space for.
- ``ObservedWriter`` delivers measurements to detectors.
- ``BackgroundWriter`` moves all that to a thread; ``ForegroundWriter`` does
  without one.
- ``EventWriter`` joins them for a run. ``run_backend`` says into which
  directory, and ``drain_on_signal`` has a killed run lose nothing.
"""
