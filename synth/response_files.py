"""Files of prompts, and of one model's responses to them, in the forms that benchmarks have.

A row has an id (`id`, or `question_id` as in MT-Bench and Arena-Hard, `uid`, `prompt_id`), a prompt
(`prompt`, `instruction` as in AlpacaEval, `question`, `turns`) and a response (`response`,
`output`, `completion`, `answer`, `choices`); or a whole conversation as a list of messages
(`messages`, `conversation`). What cells may look like is said in `judge.files.turns`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from judge.errors import InputError
from judge.files.labelling import LABEL_COLUMNS
from judge.files.rows import Cells, Rows, as_text, decode_json, quoted, stream_rows
from judge.files.sources import source_name
from judge.files.turns import Prompt, Turns, json_columns, read_prompts, read_responses

IDS = ("id", "question_id", "uid", "prompt_id")
PROMPTS = ("prompt", "instruction", "question", "turns")
RESPONSES = ("response", "output", "completion", "answer", "choices")
TALKS = ("messages", "conversation")

# Columns that mean something in a battle table, and something else in a file of prompts.
_BATTLE = {
    *("id", "prompt", "response_a", "response_b", "model_a", "model_b"),
    *("write", "source", "source_id", "stratum", "closeness"),
    *LABEL_COLUMNS,
}
_STRUCTURED = ("turns", "choices", *TALKS)  # never plain text
_CHUNK_ROWS = 1024  # enough to tell what a column holds


class Entry(NamedTuple):
    """A row.

    Attributes:
        row: its number in the file, as an editor counts.
        id: None in a file without ids.
        prompt: None in a file without prompts.
        response: no turns where the cell is empty.
        others: how many more responses the row has, of which none is taken.
        more: the other cells.
    """

    row: int
    id: str | None
    prompt: Prompt | None
    response: Turns
    others: int
    more: dict[str, object]


class TextFile:
    """A file of prompts or responses, opened as far as to know its columns.

    Args:
        source: its name; "-" for standard input.

    Raises:
        InputError: it cannot be read, or has no rows.
    """

    def __init__(self, source: str) -> None:
        self.name = source_name(source)
        self._chunks = stream_rows(source, required=(), chunk_rows=_CHUNK_ROWS)
        first = next(self._chunks, None)
        if first is None:
            raise InputError("has no rows", file=self.name, mend="give it some")
        self._first = first
        columns = first.columns
        self.id = next((name for name in IDS if name in columns), None)
        self.prompt = next((name for name in (*PROMPTS, *TALKS) if name in columns), None)
        self.response = next((name for name in (*RESPONSES, *TALKS) if name in columns), None)

    def error(self, message: str, row: int, column: str | None, mend: str) -> InputError:
        """What is wrong with a row."""
        return InputError(message, file=self.name, row=row, column=column, mend=mend)

    def need(self, what: Literal["prompt", "response"]) -> None:
        """Raises an InputError where the file has no column of prompts, or of responses."""
        if getattr(self, what) is None:
            found = ", ".join(quoted(name) for name in itertools.islice(self._first.columns, 20))
            names = (*(PROMPTS if what == "prompt" else RESPONSES), *TALKS)
            mend = f"call it one of {', '.join(names)}"
            raise InputError(f"has no column of {what}s; found {found}", file=self.name, mend=mend)

    def sample(self) -> Cells:
        """The first cells of its prompts, as text."""
        if self.prompt is None:
            return []
        cells = self._first.columns[self.prompt]
        return [cell if isinstance(cell, str) else json.dumps(cell, default=str) for cell in cells]

    def entries(self, prompts: Cells, *, responses: bool) -> Iterator[Entry]:
        """Its rows.

        Args:
            prompts: the first prompts of the file that has them, for telling lists from text.
            responses: whether responses are read.
        """
        prompt_json, response_json = self._forms(prompts)
        for rows in itertools.chain([self._first], self._chunks):
            ids = (
                [as_text(cell) for cell in rows.columns[self.id]] if self.id else [None] * len(rows)
            )
            asked = self._prompts(rows, prompt_json)
            answers, others = self._responses(rows, response_json) if responses else (None, None)
            names = [name for name in rows.columns if name not in self._used]
            for at, row in enumerate(rows.numbers):
                yield Entry(
                    row,
                    ids[at],
                    asked[at] if asked else None,
                    answers[at] if answers else (),
                    others[at] if others else 0,
                    {name: rows.columns[name][at] for name in names},
                )

    def close(self) -> None:
        """Gives the file back."""
        self._chunks.close()

    @property
    def _used(self) -> set[str | None]:
        return {*_BATTLE, self.id, self.prompt, "input" if self.prompt == "instruction" else None}

    def _forms(self, prompts: Cells) -> tuple[bool, bool]:
        """Whether prompts, and responses, that are text are lists as JSON."""
        columns = self._first.columns
        own = columns[self.prompt] if self.prompt and self.prompt not in _STRUCTURED else []
        said = columns[self.response] if self.response else []
        prompt = json_columns({"prompt": own, "response_a": [], "response_b": []})["prompt"]
        around = self.sample() or prompts
        forms = json_columns({"prompt": around, "response_a": said, "response_b": []})
        return prompt, forms["response_a"]

    def _prompts(self, rows: Rows, is_json: bool) -> list[Prompt] | None:
        name = self.prompt
        if name is None:
            return None
        cells = _decoded(rows, name) if name in _STRUCTURED else rows.columns[name]
        if name == "instruction" and "input" in rows.columns:
            cells = [_joined(*both) for both in zip(cells, rows.columns["input"], strict=True)]
        cells = [_asked(_said(cell)) for cell in cells]
        return read_prompts(replace(rows, columns={name: cells}), name, is_json)

    def _responses(self, rows: Rows, is_json: bool) -> tuple[list[Turns], list[int]]:
        name = self.response
        assert name is not None
        cells = _decoded(rows, name) if name in _STRUCTURED else rows.columns[name]
        others = [0] * len(cells)
        if name == "choices":
            others = [max(0, len(cell) - 1) if isinstance(cell, list) else 0 for cell in cells]
            cells = [_first_choice(cell) for cell in cells]
        cells = [_said(cell) for cell in cells]
        return read_responses(replace(rows, columns={name: cells}), name, is_json), others


def _decoded(rows: Rows, name: str) -> Cells:
    """Cells of a column that is never plain text; in CSV it is JSON."""
    found: Cells = []
    for at, cell in enumerate(rows.columns[name]):
        if isinstance(cell, str) and cell.strip():
            try:
                cell = decode_json(cell)
            except ValueError:
                what = f"is no JSON: {quoted(cell)}"
                raise rows.error(what, at, name, "write it as a JSON list") from None
        found.append(cell)
    return found


def _joined(instruction: object, more: object) -> object:
    """Alpaca's instructions may have what they speak of in a column of its own."""
    if isinstance(instruction, str) and isinstance(more, str) and more.strip():
        return f"{instruction}\n\n{more}"
    return instruction


def _said(cell: object) -> object:
    """Messages as they are everywhere: those of Arena-Hard have turns without a role, and answers
    within their content."""
    if not isinstance(cell, list) or not cell or not all(isinstance(turn, dict) for turn in cell):
        return cell
    turns = [{**turn, "content": _content(turn.get("content"))} for turn in cell]
    return turns if any("role" in turn for turn in turns) else [turn["content"] for turn in turns]


def _content(content: Any) -> Any:
    if isinstance(content, Mapping) and isinstance(content.get("answer"), str):
        return content["answer"]
    return content


def _asked(cell: object) -> object:
    """A conversation that a model has ended without what it said: others answer for themselves."""
    if not isinstance(cell, list) or not all(isinstance(turn, dict) for turn in cell):
        return cell
    ended = bool(cell) and cell[-1].get("role") == "assistant"
    return [turn for turn in cell if turn.get("role") != "assistant"] if ended else cell


def _first_choice(cell: object) -> object:
    """The first of several samples of a response."""
    first = cell[0] if isinstance(cell, list) and cell else None
    if not isinstance(first, dict):
        return first
    for name in ("turns", "message", "text"):
        if name in first:
            return [first[name]] if name == "message" else first[name]
    return first.get("content")
