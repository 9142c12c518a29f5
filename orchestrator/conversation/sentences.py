"""What is said where no assistant can say anything: constant sentences, spoken ahead of time."""

from __future__ import annotations

FILLER = "One moment, please."
SORRY = "I am sorry, I have no answer just now. Please say it again."
FULL = "I am talking with as many people as I can just now. Please call again later. Goodbye."
CONSTANT = (FILLER, SORRY, FULL)
LANGUAGE = "en"

_UNHEARD = {
    "de": "Ich verstehe nur Englisch. Drücken Sie die Null für einen Menschen, oder die Eins für einen Rückruf.",
    "fr": "Je ne comprends que l'anglais. Appuyez sur zéro pour parler à quelqu'un, ou sur un pour être rappelé.",
    "es": "Solo entiendo inglés. Pulse cero para hablar con una persona, o uno para que le llamemos.",
    "it": "Capisco solo l'inglese. Prema zero per parlare con una persona, o uno per essere richiamato.",
    "pt": "Só entendo inglês. Prima zero para falar com uma pessoa, ou um para receber uma chamada.",
    "nl": "Ik versta alleen Engels. Druk op nul voor een mens, of op één om teruggebeld te worden.",
}


def unheard(language: str) -> tuple[str, str]:
    """For callers whose language is not recognised: what they can do, and the language in which it is said."""
    tag = language.lower().split("-")[0].split("_")[0]
    if tag in _UNHEARD:
        return _UNHEARD[tag], tag
    return (
        "I understand English only. Press zero for a person, or one to be called back.",
        LANGUAGE,
    )
