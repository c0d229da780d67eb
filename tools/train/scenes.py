# SPDX-License-Identifier: MIT
"""Scenes: short made-up situations with questions that have exactly one right answer in the text.

A scene function takes a random.Random and returns Scene(kind, key, text, questions). `key` names the combination that
decides whether the scene is held out (world.is_held_out); `questions` is a list of (question forms, answer).
"""
from collections import namedtuple

from world import (COLOURS, CONTAINERS, COUNTABLES, DAYS, FOODS, JOBS, NUMBERS, PEOPLE, PET_NAMES, PETS, PLACE_NAMES,
                   PLACES, THINGS, WEATHER, article, at_place, cap, pronouns)

Scene = namedtuple("Scene", "kind key text questions")

UNKNOWN = "The story does not say."
GO = ["went to the {p}", "walked to the {p}", "ran to the {p}", "moved to the {p}", "hurried to the {p}",
      "travelled to the {p}"]
GIVE = ["gave the {o} to {b}", "handed the {o} to {b}", "passed the {o} to {b}"]


def _where(name):
    return [f"Where is {name} now?", f"Where is {name}?", f"Where can we find {name} now?"]


def moves(rng):
    """People go from place to place; the last place of each counts."""
    people = rng.sample(PEOPLE, rng.randint(1, 3))
    path = {p: [] for p in people}
    lines = []
    for step in range(rng.randint(len(people), len(people) + 3)):
        who = people[step] if step < len(people) else rng.choice(people)
        place = rng.choice([p for p in PLACE_NAMES if p not in path[who]])
        path[who].append(place)
        first = rng.choice(["", "First, ", "In the morning, "]) if step == 0 else rng.choice(
            ["", "", "Then ", "Later, ", "After that, "])
        lines.append(f"{first}{who} {rng.choice(GO).format(p=place)}.")
    questions = [(_where(p), cap(at_place(path[p][-1])) + ".") for p in people]
    for p in people:
        if len(path[p]) > 1:
            before = cap(at_place(path[p][-2])) + "."
            questions.append(([f"Where was {p} before the {path[p][-1]}?",
                               f"Where was {p} before going to the {path[p][-1]}?"], before))
            questions.append(([f"Where did {p} go first?", f"Which place did {p} visit first?"],
                              f"To the {path[p][0]}."))
    other = rng.choice([p for p in PEOPLE if p not in people])
    questions.append(([f"Where is {other}?", f"Where is {other} now?"], UNKNOWN))
    return Scene("moves", (people[0], path[people[0]][-1]), " ".join(lines), questions)


def giving(rng):
    """A thing changes hands."""
    a, b, c, d = rng.sample(PEOPLE, 4)
    thing, colour = rng.choice(THINGS), rng.choice(COLOURS)
    place = rng.choice(PLACE_NAMES)
    lines = [rng.choice([f"{a} had {article(colour + ' ' + thing)}.",
                         f"{a} found {article(colour + ' ' + thing)} {at_place(place)}.",
                         f"{a} bought {article(colour + ' ' + thing)}."])]
    found = "found" in lines[0]
    chain = [a, b] + ([c] if rng.random() < 0.6 else []) + ([d] if rng.random() < 0.25 else [])
    for giver, taker in zip(chain, chain[1:]):
        lead = rng.choice(["", "Then ", "Later, "])
        lines.append(f"{lead}{giver} {rng.choice(GIVE).format(o=thing, b=taker)}.")
    if rng.random() < 0.4:
        lines.append(f"{chain[-1]} was {rng.choice(['happy', 'very glad', 'surprised'])}.")
    questions = [([f"Who has the {thing} now?", f"Who has the {thing}?", f"Who has the {thing} at the end?"],
                  f"{chain[-1]}."),
                 ([f"What colour is the {thing}?", f"What colour was the {thing}?"], f"{cap(colour)}."),
                 ([f"Who had the {thing} first?", f"Who had the {thing} at the start?"], f"{a}.")]
    for giver, taker in zip(chain, chain[1:]):
        questions.append(([f"Who gave the {thing} to {taker}?", f"Who did {taker} get the {thing} from?"], f"{giver}."))
        questions.append(([f"To whom did {giver} give the {thing}?", f"Who did {giver} give the {thing} to?"],
                          f"{taker}."))
        questions.append(([f"What did {giver} give to {taker}?"], f"The {thing}."))
    if found:
        questions.append(([f"Where did {a} find the {thing}?"], cap(at_place(place)) + "."))
    return Scene("giving", (a, thing), " ".join(lines), questions)


def hiding(rng):
    """A thing is put somewhere, and perhaps moved by somebody else."""
    a, b = rng.sample(PEOPLE, 2)
    thing = rng.choice([t for t in THINGS if t not in CONTAINERS])
    colour = rng.choice(COLOURS)
    first, second = rng.sample(CONTAINERS, 2)
    place = rng.choice(PLACE_NAMES)
    verb = rng.choice(["put", "hid", "left"])
    lines = [f"{a} was {at_place(place)}.", f"{cap(pronouns(a)[0])} {verb} the {colour} {thing} in the {first}."]
    now, mover = first, a
    if rng.random() < 0.6:
        lines.append(rng.choice([f"Then {b} took the {thing} out of the {first} and put it in the {second}.",
                                 f"Later, {b} moved the {thing} from the {first} to the {second}."]))
        now, mover = second, b
    questions = [([f"Where is the {thing}?", f"Where is the {thing} now?"], f"In the {now}."),
                 ([f"Who {verb} the {thing} in the {first}?"], f"{a}."),
                 ([f"What colour is the {thing}?"], f"{cap(colour)}."),
                 ([f"Where was {a}?"], cap(at_place(place)) + "."),
                 ([f"What did {a} {'put' if verb == 'put' else 'hide' if verb == 'hid' else 'leave'} in the {first}?"],
                  f"The {colour} {thing}.")]
    if mover != a:
        questions.append(([f"Who moved the {thing}?", f"Who moved the {thing} to the {second}?"], f"{b}."))
        questions.append(([f"Where was the {thing} at first?", f"Where was the {thing} before?"], f"In the {first}."))
    return Scene("hiding", (a, thing), " ".join(lines), questions)


def counting(rng):
    """Someone has some, gets some or loses some."""
    a, b = rng.sample(PEOPLE, 2)
    one = rng.choice(list(COUNTABLES))
    many = COUNTABLES[one]
    he, him, _ = pronouns(a)
    start = rng.randint(1, 10)

    def amount(n):
        return f"{NUMBERS[n]} {one if n == 1 else many}"
    lines, total = [f"{a} had {amount(start)}."], start
    questions = [([f"How many {many} did {a} have at first?", f"How many {many} did {a} have at the start?"],
                  f"{cap(NUMBERS[start])}.")]
    change = rng.randint(1, 9)
    if rng.random() < 0.5 and start > 1:
        change = rng.randint(1, start - 1)
        lines.append(rng.choice([f"{cap(he)} gave {NUMBERS[change]} to {b}.", f"{cap(he)} lost {NUMBERS[change]}.",
                                 f"{b} took {NUMBERS[change]} from {him}."]))
        total -= change
    else:
        lines.append(rng.choice([f"{cap(he)} found {NUMBERS[change]} more.", f"{b} gave {him} {NUMBERS[change]} more.",
                                 f"{cap(he)} bought {NUMBERS[change]} more."]))
        total += change
    questions += 2 * [([f"How many {many} does {a} have now?", f"How many {many} does {a} have?",
                        f"How many {many} does {a} have in the end?"], f"{cap(NUMBERS[total])}.")]
    return Scene("counting", (a, one, NUMBERS[start]), " ".join(lines), questions)


def profile(rng):
    """Who people are: job, home, pet, food."""
    people = rng.sample(PEOPLE, rng.randint(1, 2))
    lines, questions = [], []
    jobs, foods = rng.sample(JOBS, 2), rng.sample(FOODS, 2)
    places, colours = rng.sample(PLACE_NAMES, 2), rng.sample(COLOURS, 2)
    pets, names = rng.sample(PETS, 2), rng.sample(PET_NAMES, 2)
    for i, who in enumerate(people):
        he, _, his = pronouns(who)
        facts = [(f"{cap(he)} lives in {article(colours[i] + ' house')} near the {places[i]}.",
                  [([f"Where does {who} live?"], f"Near the {places[i]}."),
                   ([f"What colour is {who}'s house?"], f"{cap(colours[i])}."),
                   ([f"Who lives near the {places[i]}?"], f"{who}.")]),
                 (f"{cap(he)} has {article(pets[i])} called {names[i]}.",
                  [([f"What pet does {who} have?", f"What kind of pet does {who} have?"], f"{cap(article(pets[i]))}."),
                   ([f"What is {who}'s {pets[i]} called?", f"What is the name of {who}'s {pets[i]}?"], f"{names[i]}."),
                   ([f"Who has {article(pets[i])}?"], f"{who}.")]),
                 (f"{cap(his)} favourite food is {foods[i]}.",
                  [([f"What is {who}'s favourite food?", f"What does {who} like to eat?"], f"{cap(foods[i])}.")])]
        rng.shuffle(facts)
        kept = facts[:rng.randint(1, 3)]
        lines.append(f"{who} is {article(jobs[i])}.")
        questions.append(([f"What is {who}'s job?", f"What does {who} do for work?", f"What is {who}?"],
                          f"{cap(article(jobs[i]))}."))
        questions.append(([f"Who is the {jobs[i]}?"], f"{who}."))
        for line, asked in kept:
            lines.append(line)
            questions += asked
        for line, asked in facts[len(kept):]:
            if "Who" not in asked[0][0][0]:
                questions.append((asked[0][0], UNKNOWN))
    return Scene("profile", (people[0], jobs[0]), " ".join(lines), questions)


def race(rng):
    """An order of three."""
    a, b, c = rng.sample(PEOPLE, 3)
    place = rng.choice(PLACE_NAMES)
    told = rng.choice([
        f"{a}, {b} and {c} ran a race to the {place}. {a} came first, {b} came second and {c} came last.",
        f"There was a race to the {place}. {a} won. {b} was second. {c} was last.",
        f"{c}, {a} and {b} raced to the {place}. {a} was faster than {b}. {b} was faster than {c}."])
    questions = [([f"Who won the race?", "Who came first?", "Who was the fastest?"], f"{a}."),
                 (["Who came second?", "Who was second?"], f"{b}."),
                 (["Who came last?", "Who was the slowest?"], f"{c}."),
                 (["Where did they run?", "Where did the race end?"], f"To the {place}.")]
    return Scene("race", (a, place), told, questions)


def compare(rng):
    """Older, taller, heavier: two sentences to be chained."""
    a, b, c = rng.sample(PEOPLE, 3)
    more, most, least = rng.choice([("older", "oldest", "youngest"), ("taller", "tallest", "shortest"),
                                    ("stronger", "strongest", "weakest"), ("louder", "loudest", "quietest")])
    lines = [f"{a} is {more} than {b}.", f"{b} is {more} than {c}."]
    rng.shuffle(lines)
    questions = [([f"Who is the {most}?", f"Who is the {most} of the three?"], f"{a}."),
                 ([f"Who is the {least}?", f"Who is the {least} of the three?"], f"{c}."),
                 ([f"Is {a} {more} than {c}?"], "Yes."), ([f"Is {c} {more} than {a}?"], "No.")]
    return Scene("compare", (a, b, more), " ".join(lines), questions)


def week(rng):
    """What happened on which day."""
    start, n = rng.randrange(7), rng.randint(2, 4)
    who = rng.choice(PEOPLE)
    kinds = rng.sample(list(WEATHER), n)
    places = rng.sample(PLACE_NAMES, n)
    lines, questions = [], []
    for i in range(n):
        day = DAYS[(start + i) % 7]
        lines.append(f"On {day} {WEATHER[kinds[i]]} and {who} stayed {at_place(places[i])}.")
        questions.append(([f"Where was {who} on {day}?", f"Where did {who} stay on {day}?"],
                          cap(at_place(places[i])) + "."))
        questions.append(([f"What was the weather on {day}?", f"How was the weather on {day}?"], f"{cap(kinds[i])}."))
        questions.append(([f"On which day was {who} {at_place(places[i])}?"], f"On {day}."))
    return Scene("week", (who, places[0]), " ".join(lines), questions)


def market(rng):
    """Buying and comparing amounts."""
    a, b = rng.sample(PEOPLE, 2)
    (one, two) = rng.sample(list(COUNTABLES), 2)
    n, m = rng.sample(range(2, 13), 2)
    colour = rng.choice(COLOURS)
    text = (f"{a} and {b} went to the market. {a} bought {NUMBERS[n]} {COUNTABLES[one]} and {b} bought {NUMBERS[m]} "
            f"{COUNTABLES[two]}. They carried everything home in {article(colour + ' basket')}.")
    questions = [([f"What did {a} buy?"], f"{cap(NUMBERS[n])} {COUNTABLES[one]}."),
                 ([f"What did {b} buy?"], f"{cap(NUMBERS[m])} {COUNTABLES[two]}."),
                 ([f"How many {COUNTABLES[one]} did {a} buy?"], f"{cap(NUMBERS[n])}."),
                 ([f"How many {COUNTABLES[two]} did {b} buy?"], f"{cap(NUMBERS[m])}."),
                 ([f"Who bought the {COUNTABLES[one]}?"], f"{a}."), ([f"Who bought the {COUNTABLES[two]}?"], f"{b}."),
                 (["What colour was the basket?"], f"{cap(colour)}."),
                 (["Where did they go?"], "To the market.")]
    return Scene("market", (a, one, NUMBERS[n]), text, questions)


SCENES = [moves, giving, hiding, counting, profile, race, compare, week, market]
assert all(p in ("in", "at", "on", "by") for p in PLACES.values())
