"""Reading votes out of what models write: every form that says them, and none that does not."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.ballots import CRITERIA, VOTES
from judge.replies import LONGEST, WORDS, Unreadable, read_votes

EXPECTED = ("A", "B", "AB", "NA", "A")
BALLOT = dict(zip(CRITERIA, EXPECTED, strict=True))
STRICT = json.dumps(BALLOT)
OTHER = json.dumps(dict.fromkeys(CRITERIA, "B"))

TITLES = ("Relevance", "Accuracy", "Clarity", "Logical Flow", "Responsiveness")


def _lines(form: str, votes: tuple[str, ...] = EXPECTED) -> str:
    rows = zip(itertools.count(1), TITLES, votes, strict=False)
    return "\n".join(form.format(n=n, title=title, vote=vote) for n, title, vote in rows)


FORMS = {
    "strict": STRICT,
    "spread out": json.dumps(BALLOT, indent=2),
    "with a reason": json.dumps({"reason": 'A says "B": {"relevance": "B"}\n', **BALLOT}),
    "reason last": json.dumps({**BALLOT, "reason": "relevance: B, accuracy: A"}),
    "fenced": f"```json\n{STRICT}\n```",
    "fenced, without its language": f"```\n{STRICT}\n```\n",
    "words around": f"Here is my ballot:\n\n{STRICT}\n\nI hope this helps! Both are good.",
    "single quotes": str(BALLOT),
    "lower case": STRICT.lower(),
    "last comma": STRICT[:-1] + ",}",
    "no quotes": STRICT.replace('"', ""),
    "curly quotes": "{" + ", ".join(f"“{k}”: “{v}”" for k, v in BALLOT.items()) + "}",
    "quotes in the reason": '{"reason": "It\'s "better", I think", ' + STRICT[1:],
    "keys as titles": json.dumps(dict(zip(TITLES, EXPECTED, strict=True))),
    "keys with hyphens": STRICT.replace("_", "-"),
    "keys in camel case": STRICT.replace("logical_flow", "logicalFlow"),
    "nested": json.dumps({"votes": BALLOT, "overall": "B"}),
    "an object a vote": json.dumps({k: {"vote": v, "why": "B"} for k, v in BALLOT.items()}),
    "a list of objects": json.dumps([{"criterion": k, "vote": v} for k, v in BALLOT.items()]),
    "an object a line": "\n".join(json.dumps({k: v}) for k, v in BALLOT.items()),
    "null for NA": STRICT.replace('"NA"', "null"),
    "words for votes": STRICT.replace('"AB"', '"Both"').replace('"NA"', '"Neither"'),
    "tie and none": STRICT.replace('"AB"', '"tie"').replace('"NA"', '"None"'),
    "equal and n/a": STRICT.replace('"AB"', '"Equal"').replace('"NA"', '"N/A"'),
    "sides for votes": STRICT.replace('"A"', '"Response A"').replace('"B"', '"response B"'),
    "no brace at the end": STRICT[:-1],
    "a vote a line": _lines("{title}: {vote}"),
    "small a vote a line": _lines("{title}: {vote}").lower(),
    "numbers": _lines("{n}. {vote}"),
    "votes alone": _lines("{vote}"),
    "bullets alone": _lines("**{vote}**"),
    "votes alone in a fence": f"```\n{_lines('{vote}')}\n```",
    "numbers in parentheses": _lines("{n}) **{vote}**"),
    "numbered names": _lines("{n}. **{title}**: {vote}"),
    "bold names": _lines("**{title}** - {vote}"),
    "bold with the colon": _lines("- **{title}:** {vote}."),
    "bullets": _lines("* {title}: `{vote}`"),
    "headings": _lines("### {title}: {vote}\nBecause of what it says.\n"),
    "equals": _lines("{title} = {vote}"),
    "arrows": _lines("{title} -> [[{vote}]]"),
    "dashes": _lines("{title} — {vote}"),
    "quoted names": _lines('"{title}": "{vote}",'),
    "nothing between": _lines("{title} {vote}"),
    "vote on": _lines("Vote on {title}: {vote}"),
    "in a sentence": _lines("{title} is {vote}."),
    "with reasons": _lines("{title}: {vote} - because response B says so"),
    "with reasons in parentheses": _lines("{title}: {vote} (see above)"),
    "a table": "| Criterion | Vote |\n|---|---|\n" + _lines("| {title} | {vote} |"),
    "one line": _lines("{title}: {vote}").replace("\n", ", "),
    "one line with semicolons": _lines("{title}: {vote}").replace("\n", "; "),
    "other line ends": _lines("{title}: {vote}").replace("\n", "\r\n"),
    "words in lines": _lines("{title}: {vote}", ("A is better", "Response B", "tie", "none", "A")),
    "thought aloud": f"<think>relevance: B? {OTHER}</think>\n{STRICT}",
    "a quotation before": f"Response B holds {OTHER}, an attempt to steer me.\n\n{STRICT}",
    "lines quoted before": "It says:\n" + OTHER + "\nMy votes:\n" + _lines("{title}: {vote}"),
    "quoted lines": "> relevance: B\n> accuracy: A\n\n" + _lines("{title}: {vote}"),
    "a draft in lines before": "At first:\n" + _lines("{title}: B") + "\nBut then:\n" + STRICT,
    "a draft, then lines": "I saw:\n"
    + _lines("{title}: B")
    + "\nSo now:\n"
    + _lines("{title}: {vote}"),
    "a vote quoted in the line before": '"relevance: B" it says.\n' + _lines("{title}: {vote}"),
}
# Here the quotation is the last JSON there is: which is meant cannot be said.
UNSURE = {"lines quoted before"}


@pytest.mark.parametrize("form", [form for form in FORMS if form not in UNSURE])
def test_forms_that_models_write(form: str) -> None:
    text = FORMS[form]
    votes = read_votes(text, CRITERIA)
    assert {name: vote.label for name, vote in votes.items()} == BALLOT
    for vote in votes.values():
        assert WORDS[text[vote.start : vote.end].lower()] == vote.label


@pytest.mark.parametrize("form", sorted(UNSURE))
def test_forms_that_could_mean_either(form: str) -> None:
    with pytest.raises(Unreadable, match="contradictory"):
        read_votes(FORMS[form], CRITERIA)


@settings(deadline=None)
@given(
    votes=st.tuples(*[st.sampled_from(VOTES)] * 5),
    reason=st.text(max_size=80),
    indent=st.sampled_from([None, 2]),
)
def test_a_strict_ballot_is_read_whatever_its_reason_says(
    votes: tuple[str, ...], reason: str, indent: int | None
) -> None:
    ballot = {"reason": reason, **dict(zip(CRITERIA, votes, strict=True))}
    found = read_votes(json.dumps(ballot, indent=indent, ensure_ascii=False), CRITERIA)
    assert tuple(found[name].label for name in CRITERIA) == votes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty reply"),
        (" \n\t", "empty reply"),
        ("I am sorry, but I cannot compare these.", "no vote in the reply"),
        ("{}", "off the scale"),
        ("Both responses are good, and A is longer than B.", "no vote in the reply"),
        (STRICT.replace('"AB"', '"C"'), "off the scale on clarity: 'C'"),
        (STRICT.replace('"AB"', "3"), "off the scale on clarity: '3'"),
        (STRICT.replace('"AB"', '"A/B"'), "off the scale on clarity"),
        (STRICT.replace('"AB"', '"A or B"'), "off the scale on clarity"),
        (STRICT.replace('"AB"', '"neither is better"'), "off the scale on clarity"),
        (STRICT.replace('"AB"', '""'), "off the scale on clarity"),
        (STRICT.replace('"AB"', "true"), "off the scale on clarity"),
        (STRICT.replace(', "clarity": "AB"', ""), "no vote on clarity"),
        (STRICT.replace('"clarity"', '"charm"'), "no vote on clarity"),
        (STRICT[:-1] + ', "relevance": "B"}', "contradictory votes on relevance"),
        (STRICT + "\n" + OTHER, "contradictory votes"),
        (STRICT + "\nOn second thoughts,\n" + OTHER, "contradictory votes"),
        (STRICT + "\nRelevance: B", "contradictory votes on relevance"),
        (_lines("{title}: {vote}") + "\nRelevance: B", "contradictory votes on relevance"),
        (_lines("{title}: {vote}") + "\n\nRather:\n" + _lines("{title}: B"), "contradictory"),
        (_lines("{title}: A, B"), "off the scale"),
        (_lines("{title}: A?"), "off the scale"),
        (_lines("{title}: A > B"), "no vote"),
        (_lines('"{title}: {vote}"'), "no vote in the reply"),
        (_lines("> {title}: {vote}"), "no vote in the reply"),
        ("A\nB\nAB\nNA", "no vote in the reply"),  # which of the five is missing?
        (f"My votes:\n{_lines('{vote}')}\nB", "no vote in the reply"),
        (_lines("{n}. {vote}").rsplit("\n", 1)[0], "no vote on responsiveness"),
        ("<think>" + STRICT, "cut short while thinking"),
        ("A", "off the scale: 'A'"),
        ("x" * (LONGEST + 1), "reply of 20001 characters"),
        ('{"relevance": "\x1b[31mred\n"}', "off the scale on relevance: ' *.31mred'"),
        (OTHER.replace('"B"', '"A B AB NA A B AB NA A B AB NA A B"'), "off the scale.*…'"),
    ],
)
def test_replies_that_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says) as caught:
        read_votes(text, CRITERIA)
    assert caught.value.reason == str(caught.value)
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 120


@pytest.mark.parametrize("place", range(1, len(STRICT)))
def test_a_cut_ballot_is_never_half_read(place: int) -> None:
    text = STRICT[:place]
    if '"responsiveness": "A"' in text:
        assert len(read_votes(text, CRITERIA, cut=True)) == 5
        return
    with pytest.raises(Unreadable, match="cut short"):
        read_votes(text, CRITERIA, cut=True)


def test_a_cut_word_may_be_half_of_another() -> None:
    with pytest.raises(Unreadable, match="cut short within the vote on responsiveness"):
        read_votes(_lines("{title}: {vote}"), CRITERIA, cut=True)
    ended = _lines("{title}: {vote}", ("A", "B", "AB", "NA", "NA"))
    assert len(read_votes(ended, CRITERIA, cut=True)) == 5
    with pytest.raises(Unreadable, match="cut short within"):
        read_votes("A", ["clarity"], cut=True)
    assert read_votes("A.", ["clarity"], cut=True)["clarity"].label == "A"
    with pytest.raises(Unreadable, match="cut short before any vote"):
        read_votes("", CRITERIA, cut=True)


# --- one criterion --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        *("{}", "{}.", " {}\n", "**{}**", "[[{}]]", "({})", "`{}`", '"{}"', "\\boxed{{{}}}"),
        *("Vote: {}", "Answer: {}", "**Final answer:** {}", "My vote is {}.", "I vote for {}."),
        *("clarity: {}", "**Clarity** - {}", "Clarity {}", "Vote on clarity: {}", "Verdict = {}"),
        *('{{"vote": "{}"}}', '{{"clarity": "{}"}}', "{{'Answer': '{}'}}", '```\n"{}"\n```'),
        *('{{"reason": "A or B?", "vote": "{}"}}', '{{"criterion": "clarity", "vote": "{}"}}'),
        *("{}\n\nBecause of its layout.", "{} - for its layout", "{} (clearly)"),
        *("They differ much.\n\nVote: {}", "They differ.\n{}", "<think>B</think>{}"),
        "{} because it is laid out better",
    ],
)
@pytest.mark.parametrize("vote", VOTES)
def test_forms_of_one_vote(form: str, vote: str) -> None:
    assert read_votes(form.format(vote), ["clarity"])["clarity"].label == vote


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        *(("a", "A"), ("Both", "AB"), ("Tie", "AB"), ("a tie", "AB"), ("equal", "AB")),
        *(("Both are equally good.", "AB"), ("A and B", "AB"), ("Equally good", "AB")),
        *(("Neither", "NA"), ("none", "NA"), ("N/A", "NA"), ("not applicable", "NA")),
        *(("Response A", "A"), ("Assistant B is better.", "B"), ("Option (B)", "B")),
        *(("n.a.", "NA"), ("same", "AB"), ("AB (equal)", "AB"), ("The better response is A", "A")),
    ],
)
def test_words_for_votes(text: str, vote: str) -> None:
    assert read_votes(text, ["clarity"])["clarity"].label == vote


@pytest.mark.parametrize(
    "text",
    [
        *("C", "5", "A or B", "A/B", "A/B/AB/NA", "A, B", "A. B.", "A B", "A?", "A > B", "A -> B"),
        *("A+", "A1", "As an AI, I decline", "A good answer", "neither is better", "A, perhaps"),
        *("A\nB", "A\n\nFinal vote: B", "Vote: A\nVote: B", '{"vote": "A", "vote": "B"}'),
        *('{"vote": "A"} {"vote": "B"}', '{"vote": "A or B"}', '{"vote": ["A", "B"]}'),
        *("accuracy: A", "Vote on accuracy: A", '{"accuracy": "A"}', "> A", '"clarity: A"'),
        *('{"criterion": "accuracy", "vote": "A"}', "The response that A gave is what B lacks."),
    ],
)
def test_what_is_no_vote(text: str) -> None:
    with pytest.raises(Unreadable):
        read_votes(text, ["clarity"])


# --- hostile replies ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(alphabet="AB\"'{}[]:,>*\\\n relvancuyiwd_1.", max_size=200), st.booleans())
def test_nothing_but_votes_and_reasons_comes_out(text: str, cut: bool) -> None:
    for asked in (CRITERIA, CRITERIA[:1]):
        try:
            votes = read_votes(text, asked, cut=cut)
        except Unreadable:
            continue
        assert sorted(votes) == sorted(asked)
        assert {vote.label for vote in votes.values()} <= set(VOTES)


@pytest.mark.parametrize(
    "piece",
    [
        "{",
        "[",
        '{"',
        '{"a":',
        '{"a":"',
        "{'a':'",
        "[[{",
        '"',
        "\\",
        "relevance:",
        "relevance: A,",
        "1. ",
    ],
)
def test_garbage_of_any_length_is_refused_in_good_time(piece: str) -> None:
    with pytest.raises(Unreadable):
        read_votes((piece * LONGEST)[: LONGEST - 1], CRITERIA)
