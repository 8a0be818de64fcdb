"""Phrases that features count, and how they are found: by the hash of their words.

English phrases beside the common equivalents in the languages that people ask in most; a text in
another language simply has none.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from judge.features.text import Bools, Floats, Hashes, Ints, TextBatch, read_batch

PHRASES: dict[str, tuple[str, ...]] = {
    "refusal": (
        "i cannot", "i can't", "i can not", "i am unable", "i'm unable", "i am not able",
        "i'm not able", "i won't", "i will not", "i must decline", "cannot fulfill",
        "can't fulfill", "cannot provide", "can't provide", "cannot assist", "can't assist",
        "can't help with", "cannot help with", "not appropriate", "inappropriate", "unethical",
        "against my", "i don't feel comfortable", "i do not feel comfortable",
        "not comfortable", "no puedo", "je ne peux pas", "ich kann nicht", "não posso",
        "я не могу", "non posso", "抱歉", "申し訳", "对不起",
    ),
    "as_an_ai": (
        "as an ai", "as a language model", "as an artificial intelligence", "i'm an ai",
        "i am an ai", "i'm just an ai", "i am just an ai", "as an assistant", "ai language model",
        "large language model", "as a responsible", "open assistant", "my training data",
        "my training", "knowledge cutoff", "como modelo de lenguaje", "作为一个",
    ),
    "apology": (
        "i'm sorry", "i am sorry", "i apologize", "my apologies", "sorry", "unfortunately",
        "apologies", "lo siento", "je suis désolé", "es tut mir leid", "desculpe", "извините",
    ),
    "hedge": (
        "may", "might", "perhaps", "possibly", "probably", "likely", "it depends", "generally",
        "typically", "usually", "could be", "i think", "i believe", "it seems", "appears to",
        "it is possible", "not sure", "i'm not sure", "i don't know", "i do not know",
        "don't have access", "do not have access", "don't have enough", "not familiar",
    ),
    "certainty": (
        "definitely", "certainly", "clearly", "obviously", "always", "never", "undoubtedly",
        "of course", "in fact", "exactly", "precisely",
    ),
    "correction": (
        "i apologize for", "you are correct", "you're right", "you are right", "my mistake",
        "let me correct", "i made a mistake", "for the confusion", "to clarify", "correction",
    ),
    "connective": (
        "first", "second", "third", "next", "then", "finally", "however", "therefore", "because",
        "thus", "moreover", "furthermore", "additionally", "in addition", "for example",
        "for instance", "as a result", "on the other hand", "in contrast", "similarly",
        "consequently", "meanwhile", "although", "while", "since", "hence", "so that",
        "firstly", "secondly", "lastly", "such as", "if",
    ),
    "contradiction": (
        "but", "however", "although", "though", "nevertheless", "nonetheless", "despite", "yet",
        "on the contrary", "in contrast", "whereas", "actually", "not true", "incorrect",
        "on the other hand", "even though", "instead", "rather",
    ),
    "negation": ("not", "no", "don't", "doesn't", "isn't", "can't", "never", "won't", "cannot"),
    "closing": (
        "in conclusion", "in summary", "overall", "to summarize", "to sum up", "ultimately",
        "in short", "i hope this helps", "hope this helps", "en conclusión", "zusammenfassend",
    ),
    "opening": (
        "here is", "here are", "here's", "sure", "certainly", "of course", "absolutely",
        "great question", "good question", "below is", "below are", "let's",
    ),
    "follow_up": (
        "let me know", "feel free", "would you like", "do you have", "can you provide",
        "could you please", "please provide", "can you please", "could you", "is there anything",
        "how can i help", "how can i assist", "if you have any", "please let me know",
        "what would you", "more information", "more context",
    ),
    "mediation": (
        "it's important", "it is important", "important to note", "please note", "keep in mind",
        "remember", "consult", "seek", "professional", "respect", "respectful", "consider",
        "both sides", "perspective", "perspectives", "it's worth", "worth noting", "ensure",
        "it is essential", "it's essential", "crucial", "responsible", "ethical", "harmful",
    ),
    "empathy": (
        "i understand", "i'm here", "sorry to hear", "that sounds", "you're not alone", "feelings",
        "i'm glad", "happy to help", "thank you", "you're welcome", "please", "glad to",
        "i can help", "support",
    ),
    "first_person": ("i", "i'm", "my", "me", "i've", "i'd", "we", "our"),
    "second_person": ("you", "your", "you're", "you've", "yourself"),
    "role_leak": (
        "### human", "### assistant", "### response", "### instruction", "human :", "user :",
        "assistant :", "< / s", "< |", "endoftext", "[ inst", "q :", "a :",
    ),
    "code_word": (
        "code", "python", "function", "program", "script", "java", "javascript", "sql", "html",
        "css", "c++", "bash", "regex", "api", "class", "implement", "algorithm", "query", "rust",
        "excel", "formula", "latex", "json", "typescript", "php", "react",
    ),
    "list_word": (
        "list", "steps", "ways", "ideas", "examples", "tips", "reasons", "items", "table",
        "suggestions", "options", "names", "bullet", "top 10", "top ten", "outline", "plan",
    ),
    "creative_word": (
        "story", "poem", "song", "write a", "write me", "haiku", "lyrics", "joke", "essay",
        "rap", "scene", "roleplay", "role play", "character", "act as", "pretend", "imagine",
        "novel", "fiction", "limerick", "sonnet", "script for",
    ),
    "brief_word": (
        "brief", "briefly", "short", "concise", "one word", "one sentence", "one paragraph",
        "in a sentence", "summarize", "summary", "tl;dr", "succinct", "yes or no", "only answer",
        "just answer", "single word", "words or less", "simple", "shortly", "tldr", "only",
    ),
    "long_word": (
        "detailed", "in detail", "comprehensive", "long", "elaborate", "thorough", "essay",
        "article", "in depth", "explain", "step by step", "describe", "at least", "full",
    ),
    "reasoning_word": (
        "how many", "calculate", "solve", "equation", "if", "math", "probability", "sum",
        "number", "older", "faster", "weigh", "weighs", "riddle", "logic", "prove", "integral",
        "derivative", "puzzle", "=",
    ),
    "question_word": (
        "what", "who", "when", "where", "which", "why", "how", "is", "are", "does", "do", "can",
        "did", "was",
    ),
    "sensitive_word": (
        "sex", "sexual", "kill", "bomb", "drug", "drugs", "weapon", "hack", "steal", "nude",
        "erotic", "racist", "illegal", "porn", "suicide", "meth", "hitler", "jews", "nsfw",
        "murder", "explicit", "naked", "fetish", "jailbreak", "dan", "uncensored",
    ),
    "greeting": ("hi", "hello", "hey", "hola", "bonjour", "hallo", "你好", "ciao", "привет"),
}  # fmt: skip

LONGEST_PHRASE = 5


@cache
def _compiled() -> list[tuple[Hashes, Ints, Bools]]:
    """For each length in words: the phrases' sorted hashes, their groups, and a table of the
    highest 16 bits that spares most tokens the search."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(LONGEST_PHRASE)]
    for group, phrases in enumerate(PHRASES.values()):
        blank = [("",)] * len(phrases)
        batch = read_batch([(phrase,) for phrase in phrases], blank, blank)
        for start, end in zip(batch.token_documents, batch.token_documents[1:], strict=False):
            size = int(end - start)
            if 0 < size <= LONGEST_PHRASE:
                found[size - 1].append((int(batch.ngrams(size)[start]), group))
    compiled = []
    for pairs in found:
        pairs.sort()
        hashes = np.array([pair[0] for pair in pairs], dtype=np.uint64)
        table = np.zeros(1 << 16, dtype=bool)
        table[hashes >> np.uint64(48)] = True
        compiled.append((hashes, np.array([pair[1] for pair in pairs], dtype=np.int64), table))
    return compiled


def find_phrases(batch: TextBatch) -> tuple[Ints, Ints]:
    """Where phrases stand: the token each begins at and its group, in the order of `PHRASES`."""
    tokens, found = [], []
    for size, (hashes, groups, table) in enumerate(_compiled(), start=1):
        ngrams = batch.ngrams(size)
        near = np.flatnonzero(table[ngrams >> np.uint64(48)])
        near = near[near + size <= batch.token_documents[1:][batch.document_of[near]]]
        left = np.searchsorted(hashes, ngrams[near], "left")
        right = np.searchsorted(hashes, ngrams[near], "right")
        # A phrase may belong to several groups: as many entries of one hash stand side by side.
        while len(near := near[more := left < right]):
            left, right = left[more], right[more]
            tokens.append(near)
            found.append(groups[left])
            left = left + 1
    if not tokens:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(tokens), np.concatenate(found)


def count_phrases(batch: TextBatch, tokens: Ints, groups: Ints) -> dict[str, Floats]:
    """How often each group's phrases occur in each document: a (3N,) array a group."""
    documents = 3 * batch.battles
    place = groups * documents + batch.document_of[tokens]
    counts = np.bincount(place, minlength=len(PHRASES) * documents).astype(np.float64)
    return dict(zip(PHRASES, counts.reshape(len(PHRASES), documents), strict=True))
