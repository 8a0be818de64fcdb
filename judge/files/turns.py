"""From a cell of a table to the turns of a conversation.

A cell is plain text (one turn), a JSON list of turns as in the Kaggle files, or a list of messages
with their roles; JSON lines and Parquet may hold the lists themselves. Whether a column's text is
JSON is decided once, from its first cells, because a plain answer may well look like a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from judge.files.rows import Cells, Rows, decode_json, quoted

Turns = tuple[str, ...]

PROMPT = "prompt"
RESPONSES = ("response_a", "response_b")
TEXTS = (PROMPT, *RESPONSES)

# Where this share of a column's cells, or less, are no lists, those few are broken lists and
# reported; where more, the column is text.
_BROKEN_SHARE = 0.05
_EMPTY: Turns = ("",)
_BLANK = ("", "null")


class Prompt(NamedTuple):
    """The turns of a prompt, and the answers that were already given to all but the last."""

    turns: Turns
    history: Turns = ()


class _NotTurnsError(ValueError):
    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


def read_turns(rows: Rows, are_json: Mapping[str, bool]) -> dict[str, list[Turns]]:
    """The turns of `prompt`, `response_a` and `response_b`, as many in each cell of a row.

    Args:
        rows: the rows, with the three columns among them.
        are_json: for each of the three whether its text is JSON, as `json_columns` decides.

    Raises:
        InputError: for a cell that holds no turns, or a response with more or fewer of them than
            its prompt.
    """
    prompts = _column(rows, PROMPT, are_json[PROMPT], _prompt)
    answers = [_column(rows, name, are_json[name], _response) for name in RESPONSES]
    turns: dict[str, list[Turns]] = {name: [] for name in TEXTS}
    for at, (prompt, *responses) in enumerate(zip(prompts, *answers, strict=True)):
        asked = prompt.turns or _EMPTY
        turns[PROMPT].append(asked)
        for name, response in zip(RESPONSES, responses, strict=True):
            if len(response) != len(asked):
                response = _matched(rows, at, name, response, prompt)
            turns[name].append(response)
    return turns


def read_prompts(rows: Rows, name: str, is_json: bool) -> list[Prompt]:
    """What each cell of a column asks, whatever the column is called; see `read_turns`."""
    return _column(rows, name, is_json, _prompt)


def read_responses(rows: Rows, name: str, is_json: bool) -> list[Turns]:
    """What each cell of a column answers; nothing where it is empty; see `read_turns`."""
    return _column(rows, name, is_json, _response)


def _matched(rows: Rows, at: int, name: str, response: Turns, prompt: Prompt) -> Turns:
    """A response with the answers before it that the prompt brings along."""
    asked = len(prompt.turns or _EMPTY)
    whole = prompt.history + (response or _EMPTY)
    if len(whole) == asked:
        return whole
    message = f"has {_count(len(response))} where the prompt has {_count(asked)}"
    raise rows.error(message, at, name, "give each turn of the prompt one turn of the response")


def _count(turns: int) -> str:
    return f"{turns} turn{'' if turns == 1 else 's'}"


def _column(rows: Rows, name: str, is_json: bool, meaning: Callable[[Any], Any]) -> list[Any]:
    """Each cell's meaning. Most cells are a list of one string, so that is what is quick."""
    turns = []
    for at, cell in enumerate(rows.columns[name]):
        try:
            turns.append(meaning(_from_json(cell) if is_json and isinstance(cell, str) else cell))
        except _NotTurnsError as error:
            raise rows.error(str(error), at, name, error.mend) from error
    return turns


def _from_json(cell: str) -> Any:
    """A list, or None for an empty cell."""
    if cell.strip() in _BLANK:
        return None
    try:
        value = decode_json(cell)
    except ValueError:
        value = cell
    if not isinstance(value, list):
        message = f"is not a JSON list of turns, as the column's other cells are: {quoted(cell)}"
        raise _NotTurnsError(message, 'write it as ["…"]')
    return value


# --- one cell -------------------------------------------------------------------------------------


def _prompt(value: Any) -> Prompt:
    if _has_messages(value):
        return _asked(_messages(value))
    return Prompt(_strings(value))


def _response(value: Any) -> Turns:
    if not _has_messages(value):
        return _strings(value)
    turns = tuple(text for role, text in _messages(value) if role == "assistant")
    if not turns:
        raise _NotTurnsError("has no assistant message", "give the model's answer, or null")
    return turns


def _asked(messages: list[tuple[str, str]]) -> Prompt:
    turns = [text for role, text in messages if role == "user"]
    history = tuple(text for role, text in messages if role == "assistant")
    system = [text for role, text in messages if role == "system"]
    if not turns or messages[-1][0] == "assistant":
        message = "ends with an assistant message" if turns else "has no user message"
        raise _NotTurnsError(message, "end the prompt with what the two models were asked")
    turns[0] = "\n\n".join([*system, turns[0]])
    return Prompt(tuple(turns), history)


def _has_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _strings(value: Any) -> Turns:
    if isinstance(value, str):
        return (value,)
    if value is None:
        return ()
    if not isinstance(value, list):
        message = f"is {quoted(value)}, not text"
        raise _NotTurnsError(message, "write it as a string or a list of turns")
    for turn in value:
        if not (isinstance(turn, str) or turn is None):
            message = f"has a turn that is {quoted(turn)}, not text"
            raise _NotTurnsError(message, "write every turn as a string")
    return tuple(turn or "" for turn in value)


def _messages(value: list[Any]) -> list[tuple[str, str]]:
    return [(_role(message), _content(message.get("content"))) for message in value]


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role == "developer":
        return "system"
    if role not in ("system", "user", "assistant"):
        held = f"role {quoted(role)}" if isinstance(message, dict) else f"{quoted(message)} for one"
        mend = "write messages as {role, content} with the roles system, user and assistant"
        raise _NotTurnsError(f"has a message with {held}", mend)
    return str(role)


def _content(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if not (isinstance(part, dict) and isinstance(part.get("text"), str)):
            message = f"has a message with content that is no text: {quoted(part)}"
            raise _NotTurnsError(message, "leave the battle out: only text can be judged")
    return "\n".join(part["text"] for part in parts)


# --- a whole column -------------------------------------------------------------------------------


def json_columns(sample: Mapping[str, Cells]) -> dict[str, bool]:
    """Which of `prompt`, `response_a` and `response_b` hold JSON lists as text.

    A column does where all of its cells read as lists of turns, or nearly all in a sample large
    enough to tell a broken list from a text. Beside a plain prompt a response is one turn, so a
    column of longer lists of strings is text there that happens to be JSON. A column with nothing
    in it goes with the others.

    Args:
        sample: the first cells of each column.
    """
    prompt = _is_json(sample[PROMPT], _prompt, any_length=True)
    are_json = {name: _is_json(sample[name], _response, bool(prompt)) for name in RESPONSES}
    are_json[PROMPT] = prompt
    others = any(are_json.values())
    return {name: others if decided is None else decided for name, decided in are_json.items()}


def _is_json(cells: Cells, meaning: Callable[[Any], Any], any_length: bool) -> bool | None:
    """None where no cell is text."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip() not in _BLANK]
    if not texts:
        return None
    broken = 0
    for text in texts:
        try:
            value = _from_json(text)
            turns = meaning(value)
        except _NotTurnsError:
            broken += 1
            continue
        if not any_length and len(turns) != 1 and not _has_messages(value):
            return False
    return broken <= _BROKEN_SHARE * len(texts)
