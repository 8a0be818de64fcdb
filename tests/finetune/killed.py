"""Commands of arena-judge that are ended with SIGKILL at moments told beforehand: for tests.

    python -m tests.finetune.killed PLAN.json

PLAN.json is a list of {"arguments": [...], "log": FILE, "kill": [KIND, NUMBER] or null}. Each
command runs in a process of its own, which is forked from one that has imported what takes so long;
what they came to is printed as a JSON list: exit codes, negative for signals. A command that is to
be killed kills itself in its so-manyth moment of a kind:

    backward   in the middle of a step: the gradients are there, the weights are not moved yet
    file       when half of a checkpoint's file is written
    line       when half of a line of the curve is written
    rename     before a draft takes its place
    renamed    after that
    remove     when something of a folder that is let go of is removed, and the rest is not

A kill at a line of output would come when the machine is in the mood; these come always at the same
place.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ENDING = ".training"


def die() -> NoReturn:
    """As a kill from outside: nothing is closed, flushed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Moments:
    """Counts the moments of a kind, and ends the process in one."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.left = kind, number
        getattr(self, f"_at_{kind}")()

    def now(self) -> bool:
        """Whether this is the one."""
        self.left -= 1
        return self.left == 0

    def _at_backward(self) -> None:
        import torch

        whole: Callable[..., Any] = torch.Tensor.backward

        def backward(tensor: Any, *arguments: Any, **named: Any) -> Any:
            whole(tensor, *arguments, **named)
            if self.now():
                die()

        torch.Tensor.backward = backward  # type: ignore[method-assign,assignment]

    def _at_file(self) -> None:
        import safetensors.torch

        whole = safetensors.torch.save_file

        def save_file(tensors: Any, path: Any, *arguments: Any, **named: Any) -> None:
            whole(tensors, path, *arguments, **named)
            if ENDING in str(path) and self.now():
                os.truncate(path, Path(path).stat().st_size // 2)
                die()

        safetensors.torch.save_file = save_file  # type: ignore[assignment]

    def _at_line(self) -> None:
        from finetune.training import curves

        whole = curves.row

        def row(point: Any) -> str:
            text = whole(point)
            return text if not self.now() else text[: len(text) // 2]

        add = curves.Curve.add

        def added(curve: Any, point: Any) -> None:
            curves.row = row
            add(curve, point)
            curves.row = whole
            if self.left <= 0:
                die()

        curves.Curve.add = added  # type: ignore[method-assign]

    def _at_rename(self, *, before: bool = True) -> None:
        whole = os.rename

        def rename(one: Any, other: Any, **named: Any) -> None:
            last = ENDING in f"{one}{other}" and self.now()
            if last and before:
                die()
            whole(one, other, **named)
            if last:
                die()

        os.rename = rename

    def _at_renamed(self) -> None:
        self._at_rename(before=False)

    def _at_remove(self) -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "shutil.rmtree" and self.now():
                first = next((one for one in Path(arguments[0]).iterdir() if one.is_file()), None)
                if first is not None:
                    first.unlink()
                die()

        sys.addaudithook(hook)


def run(arguments: list[str], log: str, kill: list[Any] | None) -> int:
    """A command in a process of its own; how it ended."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if kill is not None:
            Moments(kill[0], kill[1])
        from judge.cli.main import main

        sys.argv = ["arena-judge", *arguments]
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    # What a child would import again and again. No arithmetic: its threads would not be forked.
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import finetune.runs.running
    import finetune.runs.vote_judges  # noqa: F401

    torch.set_num_threads(1)
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps([run(one["arguments"], one["log"], one["kill"]) for one in plan]))


if __name__ == "__main__":
    main()
