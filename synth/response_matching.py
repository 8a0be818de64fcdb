"""Which response is to which prompt, over the files of several models.

Texts wait in temporary files (`judge.view.spool`); in memory are ids, hashes and numbers, some 300
bytes a prompt.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from contextlib import ExitStack, closing
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from judge.errors import InputError
from judge.files.turns import Prompt, Turns
from judge.view.spool import Spool
from synth.response_files import Entry, TextFile

_NONE = -1


class Matched:
    """Prompts, and who has answered them.

    Attributes:
        models: whose responses they are.
        ids: P ids of prompts, all different: the file's, or their numbers from 0.
        digests: P hashes of prompts, whatever blanks surround them.
        columns: the other columns of the file of prompts.
        unasked: of each model, the responses to prompts that are not among the prompts.
        others: of each model, the responses beside the first to a prompt, which are not taken.
    """

    def __init__(self, models: Sequence[str] = ()) -> None:
        self.models = tuple(models)
        self.ids: list[str] = []
        self.digests: list[bytes] = []
        self.columns: dict[str, None] = {}
        self.unasked = dict.fromkeys(models, 0)
        self.others = dict.fromkeys(models, 0)
        self._prompts, self._responses = Spool(), Spool()
        self._lengths = array("l")  # turns of each prompt, then answers that come with it
        self._numbers = [array("q") for _ in models]  # by prompt, where the response lies

    def __len__(self) -> int:
        return len(self.ids)

    def add_prompt(self, name: str | None, entry: Entry, more: bool) -> int:
        """The number of a new prompt; without a name its number is its id."""
        assert entry.prompt is not None
        kept = entry.more if more else {}
        self.columns.update(dict.fromkeys(kept))
        self.ids.append(str(len(self.ids)) if name is None else name)
        self.digests.append(digest(entry.prompt))
        self._lengths.extend((len(entry.prompt.turns), len(entry.prompt.history)))
        self._prompts.add(json.dumps([*entry.prompt, kept], default=str))
        for numbers in self._numbers:
            numbers.append(_NONE)
        return len(self.ids) - 1

    def add_response(self, model: int, place: int, response: Turns) -> None:
        """Keeps a model's response to a prompt."""
        self._numbers[model][place] = len(self._responses)
        self._responses.add(json.dumps(response))

    def lengths(self, place: int) -> tuple[int, int]:
        """How many turns a prompt has, and how many answers come with it."""
        return self._lengths[2 * place], self._lengths[2 * place + 1]

    def present(self) -> npt.NDArray[np.bool_]:
        """(P, M) who has answered what."""
        answered = [np.asarray(numbers, dtype=np.int64) != _NONE for numbers in self._numbers]
        return np.column_stack(answered) if answered else np.empty((len(self), 0), np.bool_)

    def prompt(self, place: int) -> tuple[Prompt, dict[str, object]]:
        """A prompt, and the cells of the other columns."""
        turns, history, more = json.loads(self._prompts[place])
        return Prompt(tuple(turns), tuple(history)), more

    def response(self, model: int, place: int) -> Turns:
        """A model's response to a prompt, as its file has it."""
        return tuple(json.loads(self._responses[self._numbers[model][place]]))

    def close(self) -> None:
        """Gives the temporary files back."""
        self._prompts.close()
        self._responses.close()


def read_matched(matched: Matched, prompts: str | None, responses: Sequence[str]) -> None:
    """Reads a file of prompts, and one of responses for each model; see `iter_pairs`."""
    with ExitStack() as stack:
        given = None
        if prompts is not None:
            given = stack.enter_context(closing(TextFile(prompts)))
            given.need("prompt")
        files = [stack.enter_context(closing(TextFile(name))) for name in responses]
        for file in files:
            file.need("response")
        every = [given, *files] if given is not None else files
        by_id = _matched_by_id(every, files)
        named = by_id or (given is not None and given.id is not None)
        reading = _Reading(matched, by_id, named)
        asked = next(file for file in every if file.prompt).sample()
        if given is not None:
            reading.prompts(given, asked)
        # Those that have prompts first: the others say by id which of them they answer.
        for model in sorted(range(len(files)), key=lambda at: files[at].prompt is None):
            reading.responses(files[model], model, asked, adds=given is None)


def _matched_by_id(every: Sequence[TextFile], files: Sequence[TextFile]) -> bool:
    """Whether rows belong together by their ids, or else by their prompts."""
    nameless = next((file for file in every if file.id is None), None)
    if nameless is None:
        if not any(file.prompt for file in every):
            files[0].need("prompt")
        return True
    for file in every:
        if file.prompt is None:
            what = "has no prompts to be matched by"
            if file is not nameless:
                what = f"{what}, and {nameless.name} has no ids"
            raise InputError(what, file=file.name, mend="add ids to all files, or the prompts")
    return False


class _Reading:
    """Adds what files have to what is there already."""

    def __init__(self, matched: Matched, by_id: bool, named: bool) -> None:
        self._matched = matched
        self._by_id, self._named = by_id, named
        self._places: dict[object, int] = {}  # by id, or by prompt and how often it came before
        self._ids: dict[str, None] = {}

    def prompts(self, file: TextFile, sample: list[object]) -> None:
        """Reads the file of prompts."""
        came: dict[bytes, int] = {}
        for entry in file.entries(sample, responses=False):
            self._add(file, entry, self._key(file, entry, came), more=True)

    def responses(self, file: TextFile, model: int, sample: list[object], *, adds: bool) -> None:
        """Reads a model's responses; adds prompts where there is no file of them."""
        matched, name = self._matched, self._matched.models[model]
        came: dict[bytes, int] = {}
        seen: set[int] = set()
        for entry in file.entries(sample, responses=True):
            key = self._key(file, entry, came)
            place = self._places.get(key)
            if place is None and adds and entry.prompt is not None:
                place = self._add(file, entry, key, more=False)
            if place is None:
                matched.unasked[name] += 1
                continue
            if place in seen:
                raise _again(file, entry)
            seen.add(place)
            matched.others[name] += entry.others
            if entry.prompt is not None and digest(entry.prompt) != matched.digests[place]:
                what = f"is another prompt than that of {matched.ids[place]!r} elsewhere"
                mend = "give the row the id of its prompt, or leave the column out"
                raise file.error(what, entry.row, file.prompt, mend)
            if any(turn.strip() for turn in entry.response):
                _check_turns(file, entry, *matched.lengths(place))
                matched.add_response(model, place, entry.response)

    def _key(self, file: TextFile, entry: Entry, came: dict[bytes, int]) -> object:
        if self._by_id:
            return _id(file, entry)
        assert entry.prompt is not None
        found = digest(entry.prompt)
        number = came[found] = came.get(found, -1) + 1
        return found, number

    def _add(self, file: TextFile, entry: Entry, key: object, *, more: bool) -> int:
        if entry.prompt is None or not any(turn.strip() for turn in entry.prompt.turns):
            raise file.error("is empty", entry.row, file.prompt, "give the prompt or drop the row")
        name = _id(file, entry) if self._named else None
        if name in self._ids:
            raise _again(file, entry)
        if name is not None:
            self._ids[name] = None
        place = self._places[key] = self._matched.add_prompt(name, entry, more)
        return place


def digest(prompt: Prompt) -> bytes:
    """What a prompt is known by, whatever blanks surround it."""
    drawn = blake2b(digest_size=16)
    for texts in prompt:
        drawn.update(len(texts).to_bytes(4, "big"))
        for text in texts:
            raw = text.strip().encode("utf-8", "surrogatepass")
            drawn.update(len(raw).to_bytes(8, "big") + raw)
    return drawn.digest()


def _id(file: TextFile, entry: Entry) -> str:
    if entry.id is None:
        mend = "give every row an id, or leave the column out"
        raise file.error("is empty", entry.row, file.id, mend)
    return entry.id


def _again(file: TextFile, entry: Entry) -> InputError:
    what = f"{entry.id!r} stands there a second time"
    return file.error(what, entry.row, file.id, "give every prompt an id of its own")


def _check_turns(file: TextFile, entry: Entry, turns: int, history: int) -> None:
    said = len(entry.response)
    if said not in (turns, turns - history):
        what = f"has {said} turn{'' if said == 1 else 's'} where the prompt has {turns}"
        mend = "give each turn of the prompt one turn of the response"
        raise file.error(what, entry.row, file.response, mend)
