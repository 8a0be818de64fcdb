"""In which language a text is written: by its script, and where scripts are shared by the small
words that hold sentences together.

No model and no download, for tables by language and not for routing: a short text without a word of
grammar has no language here (`UNKNOWN`) rather than a guessed one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache

UNKNOWN = "unknown"
# Enough to tell, and no megabyte is looked through.
_CHARACTERS = 500
# Letters of a script that is not the text's first one.
_LEAST = 8
# Words of grammar that there must be among a text's words: code has hardly any.
_SHARE = 0.08
_NOISE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_WORDS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

_SCRIPTS = {
    "Latin": r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "Han": r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
    "Kana": r"\u3041-\u3096\u30a1-\u30fa\u30fc\uff66-\uff9d",
    "Hangul": r"\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "Cyrillic": r"\u0400-\u052f",
    "Arabic": r"\u0620-\u064a\u066e-\u06d3\u0750-\u077f",
    "Devanagari": r"\u0900-\u0963",
    "Greek": r"\u0370-\u03ff\u1f00-\u1fff",
    "Hebrew": r"\u05d0-\u05ea",
    "Thai": r"\u0e01-\u0e4e",
    "Bengali": r"\u0980-\u09e3",
    "Tamil": r"\u0b82-\u0bd7",
    "Telugu": r"\u0c00-\u0c63",
    "Georgian": r"\u10a0-\u10ff",
    "Armenian": r"\u0531-\u0587",
}
# A sign of these says as much as several letters, so that a Chinese question about an English term
# is Chinese.
_WEIGHT = {"Han": 3, "Kana": 2, "Hangul": 3}
_LANGUAGE = {
    "Hangul": "ko",
    "Devanagari": "hi",
    "Greek": "el",
    "Hebrew": "he",
    "Thai": "th",
    "Bengali": "bn",
    "Tamil": "ta",
    "Telugu": "te",
    "Georgian": "ka",
    "Armenian": "hy",
}
# What tells the languages of one script apart. Russian has its hard sign before soft vowels only.
_SIGNS = {
    "Cyrillic": (
        ("uk", "[іїєґІЇЄҐ]"),
        ("ru", "[ыэёЫЭЁ]"),
        ("sr", "[јљњћђџЈЉЊЋЂЏ]"),
        ("bg", "[ъЪ](?![еёюя])"),
    ),
    "Arabic": (("ur", "[ٹڈڑےںہ]"), ("fa", "[پچژگکی]")),
}
_OTHERWISE = {"Cyrillic": "ru", "Arabic": "ar"}

_GRAMMAR = {
    "en": "the of and to in is that it for was on are with as this be at by from or an have not "
    "what how why who which when where can you your my me does do did if there would could "
    "should about they we write explain give make between please into but has were its it's "
    "what's i'm don't tell describe generate solve discuss than best need vs "
    "design am i've non",
    "es": "el la los las un una de del que en es por con para se no como más su lo al pero sus "
    "qué cómo cuál cuáles quién dónde cuándo está son esta este hay ser puedo puedes sobre entre "
    "muy también eres hola tu mi me dame escribe haz",
    "fr": "le la les un une des de du et en est que qui dans pour pas sur au aux avec ce cette il "
    "elle je tu vous nous ne se par sont mais ou où comment quel quelle quels quelles "
    "pourquoi peux être c'est j'ai d'un d'une qu'est moi écris donne bonjour",
    "de": "der die das und ist nicht ein eine einen einem einer zu mit von für auf den dem im es "
    "sich auch als an wie was wer warum ich du sie wir ihr bei aus nach wird sind oder kann "
    "kannst mir dir bitte schreibe welche über hat werden zum zur gibt",
    "it": "il lo la gli le un una di del della dei delle che in per non con si sono come più "
    "anche da al alla nel nella ma cosa chi quale quali perché dove quando questo questa mi ti "
    "sei scrivi puoi io tra fra",
    "pt": "os as um uma de do da dos das que em no na nos nas para por com não se mais "
    "como mas ao são foi você eu me meu sua seu qual quais quem onde quando porque está isso "
    "sobre escreva também pode olá faça",
    "nl": "de het een en van is dat in op te met voor niet zijn aan er maar om hoe wat wie waarom "
    "waar ik je jij wij ze ook als bij naar uit dan nog wordt kan kun heeft deze dit welke mij "
    "mijn schrijf geef of door",
    "sv": "och att det är en ett som på för av med den till inte om har jag du vi kan hur vad var "
    "vem varför från men så eller mig min skriv finns vilka när ska detta",
    "da": "og at det er en et som på for af med den til ikke om har jeg du vi kan hvordan hvad "
    "hvor hvem hvorfor fra men så eller mig min skriv findes hvilke når skal dette",
    "no": "og det er en et som på for av med den til ikke om har jeg du vi kan hvordan hva hvor "
    "hvem hvorfor fra men så eller meg min skriv finnes hvilke når skal dette",
    "fi": "ja on ei se että oli hän mutta kun niin kuin mitä mikä miten miksi missä kuka minä sinä "
    "ovat tai jos voi voit olen myös joka minun kerro kirjoita onko",
    "pl": "na do się nie jest że to jak co czy dla od po przez ale są za ma być kto gdzie "
    "dlaczego który która które ja mi mnie jaki jaka jakie napisz oraz tym może",
    "cs": "na se je že to do jak co pro ale za po od by být jsou který která které "
    "jsem kde proč kdo nebo mi mě jaký jaká napiš nebo také si při",
    "ro": "și în de la cu pe nu este un care că din pentru mai sunt ce cum sau dar să se al ale "
    "lui fi am cine unde când mi îmi scrie despre",
    "hu": "az és hogy nem van egy is ez de mi ki hol mert csak mint meg vagy el én te volt "
    "milyen mikor miért hogyan lehet kell írj nekem már",
    "tr": "ve bir bu için ile ne mi da de nasıl nedir neden kim hangi çok daha olan olarak gibi "
    "ben sen bana var yok ama veya en mı mu mü değil kadar yaz",
    "id": "yang dan di ke dari ini itu untuk dengan pada adalah tidak apa bagaimana siapa mengapa "
    "dalam akan atau juga saya anda kamu bisa ada seorang oleh sebagai buatkan tentang jelaskan",
    "vi": "là của và không các một có được cho những với trong này người tôi bạn để về từ như thế "
    "nào gì hãy đã khi viết làm sao ra",
    "ca": "el la els les un una de del que en és per amb no com més seva però què quin quina "
    "aquest aquesta són també dels puc sobre entre",
}


def language(text: str) -> str:
    """The ISO 639-1 code of a text's language, `UNKNOWN` where that cannot be told.

    Code, addresses and what stands behind the first five hundred characters are not looked at.
    """
    head = _NOISE.sub(" ", text[: 2 * _CHARACTERS])[:_CHARACTERS]
    for script in _scripts(head):
        found = _of_script(script, head)
        if found != UNKNOWN:
            return found
    return UNKNOWN


def _of_script(script: str, head: str) -> str:
    if script == "Latin":
        return _by_grammar(head)
    if script in ("Han", "Kana"):
        kana, han = (len(_letters(name).findall(head)) for name in ("Kana", "Han"))
        return "ja" if 10 * kana > han else "zh"
    if script in _SIGNS:
        counts = {code: len(re.findall(sign, head)) for code, sign in _SIGNS[script]}
        code = max(counts, key=counts.__getitem__)
        return code if counts[code] else _OTHERWISE[script]
    return _LANGUAGE[script]


def named(word: str) -> str:
    """A language as a file names it ("English", "EN", "pt-BR"), by its code where that is known."""
    plain = word.strip().lower()
    return _NAMES.get(plain) or _NAMES.get(re.split(r"[-_]", plain)[0]) or word.strip()


def _scripts(text: str) -> list[str]:
    """The scripts of a text's letters, the one of most first; of the others only what is no mere
    symbol in a formula. Latin may be code, and the text around it in another script."""
    if text.isascii():
        return ["Latin"]
    counts = {
        script: _WEIGHT.get(script, 1) * len(_letters(script).findall(text)) for script in _SCRIPTS
    }
    first, *others = sorted(counts, key=lambda script: -counts[script])
    return [first, *(s for s in others if counts[s] >= _LEAST)] if counts[first] else []


@cache
def _letters(script: str) -> re.Pattern[str]:
    return re.compile(f"[{_SCRIPTS[script]}]")


@cache
def _speaks_for() -> dict[str, tuple[tuple[str, float], ...]]:
    """Each word of grammar with the languages that have it; the more have it, the less it says.
    Words of one letter are left out: in code they are names."""
    have: dict[str, list[str]] = {}
    for code, words in _GRAMMAR.items():
        for word in dict.fromkeys(words.split()):
            have.setdefault(word, []).append(code)
    return {word: tuple((code, 1 / len(codes)) for code in codes) for word, codes in have.items()}


def _by_grammar(text: str) -> str:
    """The Latin-script language that most words of grammar speak for, if it leads."""
    said = _speaks_for()
    scores: defaultdict[str, float] = defaultdict(float)
    words = _WORDS.findall(text.lower().replace("’", "'"))
    for word in words:
        for code, weight in said.get(word, ()):
            scores[code] += weight
    most = max(scores.values(), default=0.0)
    if most < _SHARE * max(len(words), 1) or not most:
        return UNKNOWN
    leading = [code for code, score in scores.items() if score > most - 1e-9]
    # Where they are even it is English, if that is among them: most of what is written is.
    return leading[0] if len(leading) == 1 else "en" if "en" in leading else UNKNOWN


_NAMES = {code: code for code in (*_GRAMMAR, *_LANGUAGE.values(), "zh", "ja", "ru", "uk", "ar")}
_NAMES |= {code: code for code in ("fa", "ur", "bg", "sr")}
_NAMES |= {
    "english": "en",
    "spanish": "es",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "portuguese": "pt",
    "dutch": "nl",
    "swedish": "sv",
    "danish": "da",
    "norwegian": "no",
    "finnish": "fi",
    "polish": "pl",
    "czech": "cs",
    "romanian": "ro",
    "hungarian": "hu",
    "turkish": "tr",
    "indonesian": "id",
    "vietnamese": "vi",
    "catalan": "ca",
    "chinese": "zh",
    "japanese": "ja",
    "korean": "ko",
    "russian": "ru",
    "ukrainian": "uk",
    "bulgarian": "bg",
    "serbian": "sr",
    "arabic": "ar",
    "persian": "fa",
    "urdu": "ur",
    "hindi": "hi",
    "greek": "el",
    "hebrew": "he",
    "thai": "th",
    "bengali": "bn",
    "tamil": "ta",
    "telugu": "te",
    "georgian": "ka",
    "armenian": "hy",
    "unknown": UNKNOWN,
}
