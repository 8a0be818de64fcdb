"""What the columns of an exported data set mean, for its card."""

from __future__ import annotations

from collections.abc import Mapping

from judge.ballots import CRITERIA, VOTES
from judge.files.labelling import PROBABILITIES
from synth.exporting.files import MESSAGES, NUMBER, TEXT, TURNS, WHOLE

KIND_WORDS: Mapping[str, str] = {
    TEXT: "text",
    NUMBER: "number",
    WHOLE: "whole number",
    TURNS: "texts, one a turn",
    MESSAGES: "messages",
}
_BATTLES: Mapping[str, str] = {
    "id": "the battle's name, by which its records find it",
    "prompt": "what the user asked",
    "response_a": "what the first response answers",
    "response_b": "what the second response answers",
    **dict(zip(PROBABILITIES, ("P(A is better)", "P(B is better)", "P(tie)"), strict=True)),
    "label_from": "whose word these are: annotators, human, or mixed for the mean of the two",
    "ballots": "how many readable ballots the annotators' word is made of",
    "human_a": "share of the people who chose A; empty where nobody was asked",
    "human_b": "the same of B",
    "human_tie": "the same of a tie",
    "model_a": "the model that wrote the first response",
    "model_b": "the model that wrote the second response",
    "reference": "a reference answer",
    "source": "the file that the battle was drawn from",
    "source_id": "its name there",
    "stratum": "what it was drawn as",
    "write": "which responses could not be written",
    "closeness": "how unsure a judge was of it beforehand, 0 to 1",
}
_RECORDS: Mapping[str, str] = {
    "id": "the battle's name",
    "judge": "the annotator",
    "order": "how the battle was shown; in BA the responses had changed places",
    "sample": "the number of the draw, from 0",
    "part": "of a conversation judged in parts, the number of the part, from 0",
    "weight": "what the part counts for",
    **{name: f"the vote on {name.replace('_', ' ')}: A, B, AB or NA" for name in CRITERIA},
    "verdict": "which response is better on the whole: A, B or AB",
    **{
        f"{name}_{vote}": f"the probability of {vote} in it"
        for name in (*CRITERIA, "verdict")
        for vote in VOTES
    },
    **{f"{name}_reason": "the annotator's reason, as it wrote it" for name in CRITERIA},
    "ballot_reason": "the annotator's reason, as it wrote it",
    "critique_a": "the annotator on the first response",
    "critique_b": "the annotator on the second response",
    "cut": "how much of the battle was left out for want of room",
    "reason": "why a record has no votes",
    "reply": "what the model wrote; it speaks of the battle in the order in which it was shown",
    "finish": "why it ended there",
    "attempts": "how often the model was asked",
    "model": "the model, as its server calls it",
    "prompt": "the name of the prompt it was asked with",
    "prompt_version": "the version of that prompt",
    "prompt_digest": "a hash of its words",
    "parameters": "temperature and the like, as JSON",
    "time": "when it was answered, in seconds since 1970",
    "seconds": "how long that took",
    "prompt_tokens": "tokens asked, of all attempts",
    "cached_tokens": "of these, out of the server's cache",
    "completion_tokens": "tokens answered",
    "cost": "dollars, at the prices of the time",
}


def meaning(config: str, column: str) -> str:
    """What a column of `battles` or of `annotations` holds; "" for those that came with a file."""
    return (_BATTLES if config == "battles" else _RECORDS).get(column, "")
