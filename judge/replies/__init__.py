"""From the text of a reply to the votes it holds, and where in the text each stands.

A reply is read as the strict JSON it was asked to be; if it is not that, as what models write
instead: JSON in a fence, with single quotes or other keys, or a vote a line. Nothing is guessed.
What cannot be read for certain is `Unreadable`, with the reason in a few words.

A reply may quote the battle, and the battle may hold what looks like votes. So the votes are those
of the last block that has all of them: an earlier one counts as quotation or draft where the reply
opens with other words, and as a contradiction where the reply opens with votes. What stands inside
a JSON string, or after a `>`, is no vote.
"""

from judge.replies.items import Unreadable, Vote
from judge.replies.phrases import WORDS
from judge.replies.reading import LONGEST, read_votes
from judge.replies.strict import strict_votes
from judge.replies.texts import Texts, read_texts

__all__ = [
    "LONGEST",
    "WORDS",
    "Texts",
    "Unreadable",
    "Vote",
    "read_texts",
    "read_votes",
    "strict_votes",
]
