"""The words of a text, without what two people would write differently."""

import re
import unicodedata
from collections.abc import Sequence

TEXT_CHARACTERS_MAX = 500
"""What is behind is not looked at: an intent is said in a sentence or two."""

_ENGLISH_ENDING = re.compile(r"'(?=(?:d|ll|m|re|s|t|ve)\b)")
_WORD = re.compile(r"[^\W_]+")
_PHRASE_WORD = re.compile(r"[^\W_]*\*?[^\W_]*")
_LETTERS = str.maketrans(
    {"\u2019": "'", "\u02bc": "'", "œ": "oe", "æ": "ae", "ø": "o", "đ": "d", "ł": "l"}
)


def words_of(text: str) -> tuple[str, ...]:
    """The words, casefolded and without accents: "L'Été, déjà ?" is `l ete deja`."""
    return tuple(_WORD.findall(_folded(text)))


def phrase_of(text: str) -> tuple[str, ...]:
    """The words of a phrase, in which `*` is kept."""
    return tuple(word for word in _PHRASE_WORD.findall(_folded(text)) if word)


def fits(phrase: Sequence[str], words: Sequence[str]) -> bool:
    """Whether these are the words of the phrase. The work grows with both lengths, and no worse."""
    reached = {0}
    for wanted in phrase:
        if wanted == "*":
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and _is(words[at], wanted)}
        if not reached:
            return False
    return len(words) in reached


def _is(word: str, wanted: str) -> bool:
    start, star, end = wanted.partition("*")
    if not star:
        return word == wanted
    return len(word) >= len(start) + len(end) and word.startswith(start) and word.endswith(end)


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text[:TEXT_CHARACTERS_MAX])[:TEXT_CHARACTERS_MAX]
    plain = "".join(char for char in decomposed.casefold() if not unicodedata.combining(char))
    return _ENGLISH_ENDING.sub("", plain.translate(_LETTERS))


LIGHT = frozenset(
    # English: articles, pronouns, auxiliaries, prepositions, questions.
    "a an the this that these those some any all each every no not none"
    " i you he she it we they me him her us them my your his its our their mine yours"
    " im ive id ill youre youve youll hes shes weve theyre thats whats wheres whos"
    " am is are was were be been being do does did done have has had will would shall should can"
    " could may might must dont doesnt didnt cant couldnt wont wouldnt isnt arent wasnt havent"
    " of to in on at by for from with without about into out up down over under off"
    " and or but if so than then because as like just very too also only even"
    " there here what which who whom whose when where why how please thanks ok yes"
    # … what anybody wants, and when.
    " want wants wanted need needs get give make let go going come take put know tell say see look"
    " now today tonight tomorrow yesterday morning evening night day week month year"
    " monday tuesday wednesday thursday friday saturday sunday"
    " one two three four five six seven eight nine ten twenty"
    " new old good many much more most less other another again still already ever never"
    # French, the same.
    " le la les l un une des du de d ce cet cette ces c ca cela tout toute tous toutes aucun chaque"
    " je j tu il elle on nous vous ils elles me m te t se s lui leur y en moi toi soi eux"
    " mon ma mes ton ta tes son sa ses notre nos votre vos leurs"
    " suis es est sommes etes sont etait etais etre ete ai as avons avez ont aura aurai avait avoir"
    " au aux a dans sur sous par pour avec sans chez vers entre hors"
    " et ou mais si donc or ni car que qu qui quoi dont comme alors aussi tres trop bien"
    " ne n pas plus moins non oui quel quelle quels quelles quand comment pourquoi combien"
    " svp stp plait merci"
    " veux veut voulez vouloir voudrais voudrait souhaite souhaiterais aimerais peux peut pouvez"
    " pouvoir puis pourrais pourrait pourriez faut faudrait faire fais fait faites besoin dois doit"
    " vais va allez aller viens vient dire dis dites donne donnez mettre"
    " maintenant aujourd hui demain hier soir matin nuit jour semaine mois an annee"
    " lundi mardi mercredi jeudi vendredi samedi dimanche"
    " deux trois quatre cinq six sept huit neuf dix vingt"
    " nouveau nouvelle bon bonne beaucoup peu autre autres encore deja jamais toujours fois".split()
)
"""Words that say little of what is asked for, in English and French."""
