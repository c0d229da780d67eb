# SPDX-License-Identifier: MIT
"""Tales: whole stories of a hero, as told by the assistant or given to it.

A told tale has favourite choices that depend on the hero only, taken with a probability of about three in four. The
model can learn them by heart, so its greedy text does not hang on near-ties that a device's rounding could tip;
sampling still finds the other choices. A tale given as material for questions chooses evenly.
"""
import zlib

from scenes import UNKNOWN, Scene
from world import COLOURS, HEROES, PEOPLE, PLACE_NAMES, THINGS, article, at_place, cap

FAVOURITE_SHARE = 0.75
FEELINGS = ["happy", "proud", "glad", "cheerful", "thankful"]
TRAITS = ["curious", "brave", "kind", "shy", "clever", "gentle", "lazy", "cheerful", "quiet", "proud"]
FRIENDS = [h for h in HEROES if h not in ("king", "queen", "cloud", "star", "train", "boat", "girl", "boy")]


class Pen:
    """Chooses words. With a hero, each slot has a favourite; without one, all options are alike."""

    def __init__(self, rng, hero=None):
        self.rng = rng
        self.hero = hero

    def pick(self, slot, options):
        if self.hero is not None and self.rng.random() < FAVOURITE_SHARE:
            return options[zlib.crc32(f"{self.hero}/{slot}".encode()) % len(options)]
        return self.rng.choice(options)


def _lost(p):
    return [
        p.pick("l1", ["One morning {n} lost {his} {c} {o}.", "One day {n}'s {c} {o} was gone."]),
        p.pick("l2", ["{He} looked {at1}, but it was not there.", "{He} searched everywhere {at1}."]),
        p.pick("l3", ["{n} was very sad.", "{n} sat down and cried a little."]),
        p.pick("l4", ["Then a {trait} {friend} called {m} came by.", "Just then {n} met a {friend} called {m}."]),
        p.pick("l5", ["\"I will help you,\" said {m}.", "\"Do not worry,\" said {m}, \"we will find it together.\""]),
        p.pick("l6", ["They walked for a long time, and at last they found the {o} {at2}.",
                      "Together they looked {at2}, and there was the {o}!"]),
        p.pick("l7", ["{n} thanked {m} with all {his} heart.", "{n} hugged {m} and danced for joy."]),
    ], [(["What did {n} lose?"], "The {c} {o}."), (["Who helped {n}?"], "{m}."),
        (["Where was the {o}?", "Where did they find the {o}?"], "{At2}."),
        (["Where did {n} look first?", "Where did {n} search first?"], "{At1}.")]


def _gift(p):
    return [
        p.pick("g1", ["It was the birthday of {m}, the {friend}.", "{m}, the {friend}, had a birthday."]),
        p.pick("g2", ["{n} wanted to give {m} something special.", "{n} had no present yet."]),
        p.pick("g3", ["So {he} went out and looked {at1}.", "All day long {he} worked {at1}."]),
        p.pick("g4", ["There {he} found {ac_o}.", "There {he} made {ac_o}."]),
        p.pick("g5", ["{n} brought it to {m}, who was waiting {at2}.", "In the evening {he} met {m} {at2}."]),
        p.pick("g6", ["\"This is the best present of all,\" said {m}.", "\"How lovely!\" said {m}. \"Thank you.\""]),
    ], [(["Whose birthday was it?", "Who had a birthday?"], "{m}."),
        (["What did {n} give to {m}?", "What was the present?"], "{Ac_o}."),
        (["Where did {n} meet {m}?", "Where was {m}?"], "{At2}.")]


def _storm(p):
    return [
        p.pick("s1", ["One night a great storm came.", "One evening the wind began to howl."]),
        p.pick("s2", ["{n} was {at1} and could not get home.", "{n} was all alone {at1}."]),
        p.pick("s3", ["It was dark, and {he} was afraid.", "The rain fell hard, and {he} shivered."]),
        p.pick("s4", ["Then {he} saw a light. It was a {friend} called {m} with {ac_o}.",
                      "Then a {friend} called {m} came through the rain with {ac_o}."]),
        p.pick("s5", ["\"Come with me,\" said {m}, and they went to a warm room {at2}.",
                      "{m} led {n} to a dry corner {at2}."]),
        p.pick("s6", ["They drank hot tea and told each other stories until the storm was over.",
                      "There they waited until the sun came up."]),
        p.pick("s7", ["From that night on they were friends.", "Since that night {n} is not afraid of storms."]),
    ], [(["Where was {n} when the storm came?"], "{At1}."), (["Who came to help {n}?", "Who helped {n}?"], "{m}."),
        (["What did {m} carry?", "What did {m} bring?"], "{Ac_o}."), (["Where did they go?"], "{At2}.")]


def _seed(p):
    return [
        p.pick("e1", ["One spring {n} found a tiny {c} seed {at1}.",
                     "{n} got a small {c} seed from an old traveller."]),
        p.pick("e2", ["{He} planted it {at2} and watered it every day.", "{He} put it in the earth {at2}."]),
        p.pick("e3", ["For many days nothing happened.", "Days went by and nothing could be seen."]),
        p.pick("e4", ["\"You must be patient,\" said {m}, the {friend}.", "{m}, the {friend}, told {him} to wait."]),
        p.pick("e5", ["So {n} waited and sang to the seed.", "{n} waited through wind and rain."]),
        p.pick("e6", ["One morning a tall {c} flower stood there.", "Then a beautiful {c} flower opened in the sun."]),
        p.pick("e7", ["Everyone came to see it, and {n} learned that good things take time.",
                      "{n} smiled. Some things only need a little time."]),
    ], [(["What colour was the flower?", "What colour was the seed?"], "{Colour}."),
        (["Where did {n} plant the seed?"], "{At2}."),
        (["Who told {n} to be patient?", "Who told {n} to wait?"], "{m}.")]


def _noise(p):
    return [
        p.pick("n1", ["Every night {n} heard a strange noise.", "One night {n} woke up because of a strange noise."]),
        p.pick("n2", ["It came from somewhere {at1}.", "Something was knocking {at1}."]),
        p.pick("n3", ["{n} took {ac_o} and went to look.", "{He} picked up {ac_o} and crept closer."]),
        p.pick("n4", ["\"Who is there?\" {he} asked.", "\"Hello?\" {he} whispered."]),
        p.pick("n5", ["It was only {m}, a small {friend}, who could not sleep.",
                      "Out came {m}, a lonely {friend} who was looking for company."]),
        p.pick("n6", ["{n} laughed and made some warm milk.", "{n} laughed, and the fear was gone."]),
        p.pick("n7", ["Now they meet {at2} every evening.", "The next day they played {at2} together."]),
    ], [(["Where did the noise come from?", "Where was the noise?"], "{At1}."),
        (["Who made the noise?", "What was the friend called?"], "{m}."),
        (["What did {n} take along?", "What did {n} take?"], "{Ac_o}."),
        (["Where do they meet?", "Where did they play?"], "{At2}.")]


def _learn(p):
    return [
        p.pick("k1", ["{n} wanted to learn how to {skill}.", "More than anything {n} wished to {skill}."]),
        p.pick("k2", ["{He} tried it {at1}, but it went wrong.", "The first try {at1} was a disaster."]),
        p.pick("k3", ["Everybody laughed, and {n} wanted to give up.", "{n} fell down and felt foolish."]),
        p.pick("k4", ["But {m}, an old {friend}, said, \"Try again. I will show you.\"",
                      "Then {m}, a wise {friend}, said, \"Nobody learns in one day.\""]),
        p.pick("k5", ["They met {at2} every day and practised.", "Day after day {m} and {n} practised {at2}."]),
        p.pick("k6", ["After {days} days {n} could {skill} better than anyone.",
                      "After {days} days {n} could {skill} at last."]),
        p.pick("k7", ["{m} gave {him} {ac_o} as a prize.", "As a reward {he} got {ac_o}."]),
    ], [(["What did {n} want to learn?"], "To {skill}."), (["Who taught {n}?", "Who helped {n}?"], "{m}."),
        (["Where did they practise?"], "{At2}."), (["How many days did it take?"], "{Days}."),
        (["What was the prize?", "What did {n} get?"], "{Ac_o}.")]


def _share(p):
    return [
        p.pick("h1", ["One day {n} found {ac_o} {at1}.", "{n} had found {ac_o} {at1}."]),
        p.pick("h2", ["{He} wanted to keep it all alone.", "\"It is mine,\" {he} said, and hid it."]),
        p.pick("h3", ["Then {m}, the {friend}, asked, \"May I see it?\"",
                     "But {m}, the {friend}, had nothing at all."]),
        p.pick("h4", ["{n} thought about it for a while.", "{n} looked at {m} and felt sorry."]),
        p.pick("h5", ["\"Let us share it,\" {he} said.", "\"It is yours too,\" {he} said."]),
        p.pick("h6", ["They sat {at2} and played until the stars came out.",
                      "They took it {at2} and had a wonderful day."]),
        p.pick("h7", ["{n} learned that shared joy is twice the joy.", "Sharing made both of them happy."]),
    ], [(["What did {n} find?"], "{Ac_o}."), (["Where did {n} find it?", "Where did {n} find the {o}?"], "{At1}."),
        (["Who did {n} share it with?"], "{m}."), (["Where did they play?", "Where did they go?"], "{At2}.")]


def _letter(p):
    return [
        p.pick("t1", ["One day a letter came for {n}.", "A letter lay in front of {n}'s door."]),
        p.pick("t2", ["It said: \"Please come to the {place2}. Your friend {m}.\"",
                      "In it stood: \"Meet me at the {place2}. {m}.\""]),
        p.pick("t3", ["{n} took {ac_o} and set off.", "{n} packed {ac_o} and left at once."]),
        p.pick("t4", ["The way was long and went past the {place1}.",
                     "{He} walked past the {place1} and sang a song."]),
        p.pick("t5", ["{m}, the {friend}, was already waiting.", "There stood {m}, the {friend}, and waved."]),
        p.pick("t6", ["\"I missed you,\" said {m}. They ate cake until it was dark.",
                      "\"Surprise!\" said {m}. There was a big party with music and cake."]),
    ], [(["Who wrote the letter?"], "{m}."), (["What did {n} take along?", "What did {n} take?"], "{Ac_o}."),
        (["Where did {n} have to go?", "Where did {n} go?"], "To the {place2}."),
        (["What did {n} walk past?", "What did {n} pass on the way?"], "The {place1}.")]


PLOTS = {"lost": _lost, "gift": _gift, "storm": _storm, "seed": _seed, "noise": _noise, "learn": _learn,
         "share": _share, "letter": _letter}
SKILLS = ["swim", "sing", "dance", "fly a kite", "bake bread", "play the drum", "climb trees", "whistle", "skate",
          "read"]
OPENINGS = ["Once upon a time there was a {trait0} {kind} called {n}. {He} lived {home}.",
            "There once lived a {trait0} {kind} {home}. {His} name was {n}.",
            "A {trait0} {kind} called {n} lived {home}."]
ENDINGS = ["In the end {n} was {feeling}.", "{n} went home and was {feeling}.",
           "That evening {n} fell asleep, tired and {feeling}."]


def write_tale(rng, kind=None, thing=None, place=None, told=True):
    """A tale of a `kind` of hero, with `thing` and `place` in it if given -> Scene. told: by the assistant."""
    kind = kind or rng.choice(list(HEROES))
    pen = Pen(rng, kind if told else None)
    usual, he, usual_home = HEROES[kind]
    plots = [name for name in PLOTS if thing is None or name != "seed"]
    plot = PLOTS[pen.pick("plot", plots)]
    friend = pen.pick("friend", [f for f in FRIENDS if f != kind])
    names = sorted({HEROES[friend][0], *PEOPLE[:20]} - {usual})
    home = pen.pick("home", [usual_home] if told else PLACE_NAMES)
    spots = [s for s in PLACE_NAMES if s != home]
    spot2 = place if place and place != home else pen.pick("spot2", spots)
    spot1 = pen.pick("spot1", spots)
    if spot1 == spot2:
        spot1 = spots[spots.index(spot1) - 1]
    colour = pen.pick("colour", COLOURS)
    thing = thing or pen.pick("thing", THINGS)
    n = usual if told else rng.choice(PEOPLE)
    feeling, days = pen.pick("feeling", FEELINGS), pen.pick("days", ["three", "four", "five", "seven", "nine", "ten"])
    m = HEROES[friend][0] if told and HEROES[friend][0] != n else rng.choice([x for x in names if x != n])
    words = {"kind": kind, "n": n, "m": m, "he": he, "He": cap(he), "his": "his" if he == "he" else "her",
             "His": "His" if he == "he" else "Her", "him": "him" if he == "he" else "her", "c": colour,
             "Colour": cap(colour), "o": thing, "ac_o": article(f"{colour} {thing}"),
             "Ac_o": cap(article(f"{colour} {thing}")), "home": at_place(home), "place1": spot1, "place2": spot2,
             "at1": at_place(spot1), "At1": cap(at_place(spot1)), "at2": at_place(spot2), "At2": cap(at_place(spot2)),
             "friend": friend, "trait": pen.pick("trait", TRAITS), "trait0": pen.pick("trait0", TRAITS),
             "feeling": feeling, "days": days, "Days": cap(days), "skill": pen.pick("skill", SKILLS)}
    lines, questions = plot(pen)
    lines = [pen.pick("open", OPENINGS), *lines, pen.pick("end", ENDINGS)]
    questions = questions + [(["Where did {n} live?"], cap(at_place(home)) + "."),
                             (["How was {n} in the end?", "How did {n} feel in the end?"], "{Feeling}."),
                             (["What was the name of the {kind}?", "What was the {kind} called?"], "{n}."),
                             (["What kind of friend was {m}?", "What was {m}?"], "{Friend}."),
                             (["How old was {n}?", "What did {n} eat for breakfast?"], UNKNOWN)]
    words["Feeling"], words["Friend"] = cap(feeling), cap(article(friend))
    text = _fix_articles(" ".join(line.format(**words) for line in lines))
    asked = [([f.format(**words) for f in forms], answer.format(**words)) for forms, answer in questions]
    key = (kind, thing, spot2) if told else (n, thing)
    return Scene("tale", key, text, asked)


def _fix_articles(text):
    """'a old owl' -> 'an old owl': the slots are filled before the vowel is known."""
    words = text.split(" ")
    for i in range(len(words) - 1):
        if words[i] in ("a", "A") and words[i + 1][0] in "aeiou":
            words[i] += "n"
    return " ".join(words)
