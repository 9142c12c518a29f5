"""What the training voices read: quotations of Debian's ``fortunes*`` packages, and a few sentences of ours
where Debian has none. Cleaned to plain sentences and put in a fixed order."""

from __future__ import annotations

import random
import re
from pathlib import Path

FORTUNES = Path("/usr/share/games/fortunes")
_FILES = {
    "en": ("literature", "wisdom", "science", "people", "work", "fortunes", "education", "politics", "art"),
    "de": ("de",),
    "es": ("es",),
    "it": ("it", "italia", "leggi", "paradoxum"),
    "cs": ("cs",),
    "ru": ("ru",),
}
_LETTERS = {"ru": "а-яА-ЯёЁ"}
_FRENCH = """Le petit garçon mange une pomme rouge dans le jardin.
Nous avons rendez-vous demain matin à huit heures et demie.
Pourriez-vous me passer le beurre et la confiture, s'il vous plaît ?
Une vieille femme pousse lentement sa bicyclette bleue.
Il a plu toute la nuit, et la rue est pleine de boue.
Mon frère habite au bord de la mer depuis deux ans.
Vous trouverez la gare au bout de cette avenue.
Je voudrais un peu plus de soupe, si c'est possible.
Les feuilles jaunes tombent sur le toit de la maison.
Beaucoup de musiciens jouent du piano et de la flûte.
Elle ouvre la fenêtre pour regarder passer le bateau.
Votre commande est prête, vous pouvez venir la chercher.
Ma voisine promène son chien blanc tous les soirs.
Combien coûte ce billet pour Bordeaux ?
Depuis hier, le vent souffle fort sur la montagne.
Le facteur apporte une lettre pour votre fils.
Il faut absolument fermer la porte avant de partir.
Nos amis viendront peut-être samedi avec leurs enfants.
Le chat dort sur le fauteuil, près du feu.
Pouvez-vous répéter plus lentement, je vous prie ?
La mairie ouvre à neuf heures, sauf le mercredi.
Un avion passe au-dessus de la ville endormie.
Elle a choisi une robe verte pour la fête de famille.
Je n'ai jamais vu une aussi belle vue sur la vallée.
Mettez un peu d'huile et du poivre dans la poêle."""
_MANDARIN = """我们明天早上八点半去公园跑步。
请问火车站在哪里？我想买一张票。
妈妈在厨房里做饭，爸爸在看报纸。
这本书非常有意思，你也应该读一读。
外面下雨了，别忘了带雨伞。
他每天骑自行车去学校上课。
苹果和葡萄都很新鲜，多少钱一斤？
我的朋友去年搬到北京去工作了。
晚上我喜欢听音乐，也喜欢喝绿茶。
小朋友们在门口玩皮球。
飞机票已经买好了，我们下个月出发。
老师问了一个很难的问题，没有人回答。
冬天的时候，湖面上会结冰。
你可以帮我把这封信寄出去吗？
孩子们都跑到外面去放风筝了。
爷爷每天早上在河边打太极拳。
服务员，请给我们两杯热咖啡。
北方的冬天比南方冷得多。
我忘了把手机放在哪儿了。
这家饭馆的包子非常好吃。
明年春天我打算去西湖旅行。
她的声音又温柔又好听。
请把窗户打开，屋子里太热了。
弟弟不喜欢吃鱼，可是喜欢吃牛肉。
博物馆每个星期一都不开放。"""


def sentences(language: str) -> list[str]:
    """Sentences of 30 to 160 characters in a fixed, shuffled order.

    ``language``: "en", "de", "es", "it", "cs", "ru", "fr" or "cmn". Raises ``FileNotFoundError`` with what to
    install when the Debian packages are missing.
    """
    if language in ("fr", "cmn"):
        return (_FRENCH if language == "fr" else _MANDARIN).splitlines()
    found: set[str] = set()
    letters = _LETTERS.get(language, "a-zA-ZÀ-ž")
    plain = re.compile(rf"[{letters}][{letters} ,;:'’!?.-]+[.!?]")
    for name in _FILES[language]:
        path = FORTUNES / name
        files = (
            sorted(p for p in path.iterdir() if p.is_file() and p.suffix in ("", ".fortunes"))
            if path.is_dir()
            else [path]
        )
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(
                    f"{file} is missing: apt-get install the packages of testing/training/README.md"
                )
            text = file.read_text("utf-8", "replace")
            for quote in re.split(r"\n%\n", text):
                for sentence in re.split(r"(?<=[.!?])\s+", " ".join(quote.split())):
                    if 30 <= len(sentence) <= 160 and plain.fullmatch(sentence) and not sentence.isupper():
                        found.add(sentence)
    ordered = sorted(found)
    random.Random(f"visemes {language}").shuffle(ordered)
    return ordered
