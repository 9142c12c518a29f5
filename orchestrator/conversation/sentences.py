"""What is said where no assistant can say anything: constant sentences, spoken ahead of time."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.language import primary_language

LANGUAGE = "en"
GREETING = "Hello, I am an automatic assistant. How can I help you?"


@dataclass(frozen=True, slots=True)
class Sentences:
    """In one ``language``.

    ``greeting``: of an assistant without one of its own; ``filler``: a reply takes long; ``sorry``: none comes;
    ``repeat``: what was said was not heard; ``keys``: nor again and again; ``full``: too many callers; ``limit``:
    the call has lasted as long as it may; ``unheard``: the language is not recognised, and what is left to do.
    """

    language: str
    greeting: str
    filler: str
    sorry: str
    repeat: str
    keys: str
    full: str
    limit: str
    unheard: str

    @property
    def kept(self) -> tuple[str, ...]:
        """Those that must never wait for a voice."""
        return self.filler, self.sorry, self.repeat, self.keys, self.full, self.limit, self.unheard


_ALL = (
    Sentences(
        "en",
        GREETING,
        "One moment, please.",
        "I am sorry, I have no answer just now. Please say it again.",
        "I did not hear that. Please say it again.",
        "I cannot understand you just now. Press zero for a person, or one to be called back.",
        "I am talking with as many people as I can just now. Please call again later. Goodbye.",
        "I have to end our call here. Thank you for calling. Goodbye.",
        "I understand English only. Press zero for a person, or one to be called back.",
    ),
    Sentences(
        "de",
        "Guten Tag, ich bin ein automatischer Assistent. Was kann ich für Sie tun?",
        "Einen Moment, bitte.",
        "Es tut mir leid, ich habe gerade keine Antwort. Bitte sagen Sie es noch einmal.",
        "Das habe ich nicht gehört. Bitte sagen Sie es noch einmal.",
        "Ich kann Sie gerade nicht verstehen. "
        "Drücken Sie die Null für einen Menschen, oder die Eins für einen Rückruf.",
        "Ich spreche gerade mit so vielen Menschen, wie ich kann. Bitte rufen Sie später an. Auf Wiederhören.",
        "Ich muss unser Gespräch hier beenden. Danke für Ihren Anruf. Auf Wiederhören.",
        "Ich verstehe nur Englisch. Drücken Sie die Null für einen Menschen, oder die Eins für einen Rückruf.",
    ),
    Sentences(
        "fr",
        "Bonjour, je suis un assistant automatique. Que puis-je faire pour vous ?",
        "Un instant, s'il vous plaît.",
        "Je suis désolé, je n'ai pas de réponse pour le moment. Veuillez répéter.",
        "Je n'ai pas entendu. Veuillez répéter.",
        "Je ne vous comprends pas pour le moment. "
        "Appuyez sur zéro pour parler à quelqu'un, ou sur un pour être rappelé.",
        "Je parle déjà avec autant de personnes que possible. Veuillez rappeler plus tard. Au revoir.",
        "Je dois terminer notre appel ici. Merci de votre appel. Au revoir.",
        "Je ne comprends que l'anglais. Appuyez sur zéro pour parler à quelqu'un, ou sur un pour être rappelé.",
    ),
    Sentences(
        "es",
        "Hola, soy un asistente automático. ¿En qué puedo ayudarle?",
        "Un momento, por favor.",
        "Lo siento, ahora no tengo respuesta. Dígalo otra vez, por favor.",
        "No le he oído. Dígalo otra vez, por favor.",
        "Ahora no le entiendo. Pulse cero para hablar con una persona, o uno para que le llamemos.",
        "Estoy hablando con tantas personas como puedo. Llame más tarde, por favor. Adiós.",
        "Tengo que terminar nuestra llamada aquí. Gracias por llamar. Adiós.",
        "Solo entiendo inglés. Pulse cero para hablar con una persona, o uno para que le llamemos.",
    ),
    Sentences(
        "it",
        "Buongiorno, sono un assistente automatico. Come posso aiutarla?",
        "Un momento, per favore.",
        "Mi dispiace, adesso non ho una risposta. Lo ripeta, per favore.",
        "Non ho sentito. Lo ripeta, per favore.",
        "Adesso non la capisco. Prema zero per parlare con una persona, o uno per essere richiamato.",
        "Sto parlando con tutte le persone che posso. Richiami più tardi, per favore. Arrivederci.",
        "Devo terminare qui la nostra chiamata. Grazie per aver chiamato. Arrivederci.",
        "Capisco solo l'inglese. Prema zero per parlare con una persona, o uno per essere richiamato.",
    ),
    Sentences(
        "pt",
        "Olá, sou um assistente automático. Em que posso ajudar?",
        "Um momento, por favor.",
        "Lamento, agora não tenho resposta. Diga outra vez, por favor.",
        "Não ouvi. Diga outra vez, por favor.",
        "Agora não o consigo entender. Prima zero para falar com uma pessoa, ou um para receber uma chamada.",
        "Estou a falar com tantas pessoas quantas posso. Ligue mais tarde, por favor. Adeus.",
        "Tenho de terminar aqui a nossa chamada. Obrigado por ligar. Adeus.",
        "Só entendo inglês. Prima zero para falar com uma pessoa, ou um para receber uma chamada.",
    ),
    Sentences(
        "nl",
        "Hallo, ik ben een automatische assistent. Waarmee kan ik u helpen?",
        "Een ogenblik, alstublieft.",
        "Het spijt me, ik heb nu geen antwoord. Zeg het alstublieft nog eens.",
        "Dat heb ik niet gehoord. Zeg het alstublieft nog eens.",
        "Ik kan u nu niet verstaan. Druk op nul voor een mens, of op één om teruggebeld te worden.",
        "Ik praat nu met zoveel mensen als ik kan. Bel later nog eens. Tot ziens.",
        "Ik moet ons gesprek hier beëindigen. Bedankt voor het bellen. Tot ziens.",
        "Ik versta alleen Engels. Druk op nul voor een mens, of op één om teruggebeld te worden.",
    ),
)
_BY_LANGUAGE = {each.language: each for each in _ALL}


def sentences_in(language: str) -> Sentences:
    """Those of a language (BCP 47), English ones where there are none."""
    return _BY_LANGUAGE.get(primary_language(language), _BY_LANGUAGE[LANGUAGE])
