"""Text of battles to token ids by a model's tokenizer, none of which the text can have made up.

Special tokens (`[SEP]`, `<|im_end|>`, `</s>`) tell a model where things begin and end. Text that
spells one must not become one, and three things see to that: what chat templates use is spaced
apart, as for prompted judges, and so is whatever this tokenizer calls special; the tokenizer is
told to split what is left; and since normalisers may make a special token of what did not look like
one (full-width brackets, say), ids that are special all the same are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from judge.encoding import sound
from judge.errors import ArenaJudgeError
from judge.prompting import spaced

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

# What is encoded at once: the tokenizer keeps more than ids of it, a hundred bytes a token.
_CHARACTERS = 2_000_000
_ROLES = ("bos", "eos", "pad", "cls", "sep", "mask")
# What text becomes byte by byte where it has no other tokens, and some trainers call special.
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class TextTokenizer:
    """A model's tokenizer, for text that may be hostile.

    Args:
        tokenizer: a fast one of `transformers`, or one of the `tokenizers` package. It is copied:
            truncation and padding, which some models bring along, would change the ids.

    Attributes:
        before, after: the ids that the model wants at the two ends of a sequence.
        separator: the id that parts sections; None where the tokenizer has none.
        special: the ids that no text becomes.

    Raises:
        ArenaJudgeError: the tokenizer is a slow one.
    """

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(backend, Tokenizer):
            raise ArenaJudgeError(
                f"{type(tokenizer).__name__} is a slow tokenizer; put the model's tokenizer.json "
                "beside it"
            )
        self._tokenizer: Tokenizer = Tokenizer.from_str(backend.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        roles = {role: getattr(tokenizer, f"{role}_token_id", None) for role in _ROLES}
        self.separator: int | None = roles["sep"]
        self.before, self.after = self._around()
        self.special = self._special(tokenizer, {id for id in roles.values() if id is not None})
        self._is_special = np.zeros(
            max(self._tokenizer.get_vocab_size(), *self.special, 0) + 1, bool
        )
        self._is_special[list(self.special)] = True
        self._spelled = _spelled(self._tokenizer, self.special)

    def words(self, text: str) -> Ids:
        """The ids of a few trusted words."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int32)

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ints]:
        """The ids of N texts, one after the other, and the (N + 1,) places where each begins and
        the last one ends."""
        parts: list[Ids] = []
        counts: list[int] = []
        for batch in _batches(texts):
            safe = sound([self._apart(text) for text in batch])
            for encoding in self._tokenizer.encode_batch_fast(safe, add_special_tokens=False):
                ids = np.array(encoding.ids, dtype=np.int32)
                parts.append(ids)
                counts.append(len(ids))
        starts = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(counts, out=starts[1:])
        ids = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        made_up = self._is_special[ids]
        if made_up.any():
            gone = np.concatenate([[0], np.cumsum(made_up)])
            ids, starts = ids[~made_up], starts - gone[starts]
        return ids, starts

    def _apart(self, text: str) -> str:
        text = spaced(text)
        return self._spelled.sub(lambda found: found[0] + " ", text) if self._spelled else text

    def _around(self) -> tuple[Ids, Ids]:
        encoding = self._tokenizer.encode("a", add_special_tokens=True)
        ids = np.array(encoding.ids, dtype=np.int32)
        own = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
        if not len(own):
            return ids, ids[:0]
        return ids[: own[0]], ids[own[-1] + 1 :]

    def _special(self, tokenizer: Any, roles: set[int]) -> frozenset[int]:
        """All that is called special or has a role, but for the token of what is unknown, which
        text may well be."""
        added = self._tokenizer.get_added_tokens_decoder()
        found = {id for id, token in added.items() if token.special}
        found -= {id for id in found if _BYTE.fullmatch(added[id].content)}
        found |= set(getattr(tokenizer, "all_special_ids", ()))
        spelled = getattr(self._tokenizer.model, "unk_token", None)
        unknown = getattr(tokenizer, "unk_token_id", None)
        if unknown is None and isinstance(spelled, str):
            unknown = self._tokenizer.token_to_id(spelled)
        return frozenset(found - {unknown} | roles)


def _spelled(tokenizer: Tokenizer, special: frozenset[int]) -> re.Pattern[str] | None:
    """The first characters of what spells a special token that is not spaced apart anyway."""
    texts = {tokenizer.id_to_token(id) or "" for id in special}
    texts = {text for text in texts if len(text) > 1 and spaced(text) == text}
    if not texts:
        return None
    # By first characters, so that the expression looks at few places.
    rest: dict[str, list[str]] = {}
    for text in sorted(texts, key=len, reverse=True):
        rest.setdefault(text[0], []).append(re.escape(text[1:]))
    return re.compile(
        "|".join(f"{re.escape(first)}(?={'|'.join(ends)})" for first, ends in sorted(rest.items()))
    )


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for place, text in enumerate(texts):
        if size and size + len(text) > _CHARACTERS:
            yield texts[start:place]
            start, size = place, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]
