"""Where a judge that is going to be made may be written."""

from __future__ import annotations

import os
from pathlib import Path

from finetune.folds.table import FILE, TABLE
from finetune.logits.teachers import tables_of
from finetune.rows.sources import parse_extra
from finetune.settings.config import Config
from judge.errors import InputError
from judge.files.folders import folder_target


def judge_target(config: Config, *, force: bool = False) -> Path:
    """The folder that a config names.

    Raises:
        InputError: the judge may not be written there.
    """
    data, model = config.data, config.model
    extras = [parse_extra(one).file for one in data.extra]
    read = [data.battles, data.dev, *extras, *data.held_out, model.init, model.base]
    if data.folds is not None:
        read += [str(Path(data.folds) / name) for name in (FILE, TABLE)]
    read += tables_of(config.distillation.teacher)
    inputs = [one for one in read if one is not None]
    target = folder_target(str(config.run.output), inputs=inputs, force=force)
    for name in (model.init, model.base):
        if name is not None and os.path.isdir(name):
            inside = Path(name).resolve().is_relative_to(target.resolve())
            if inside:
                raise InputError("is what training begins with", file=target, mend="name another")
    return target
