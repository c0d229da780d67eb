# SPDX-License-Identifier: MIT
"""Small talk, facts and the asking of stories: what is said in a chat with the demo model."""
from world import (COLOURS, DAYS, FACTS, HEROES, MONTHS, NUMBERS, OPPOSITES, PEOPLE, PLACE_NAMES, THINGS, article,
                   at_place, cap)

IDENTITY = "I am the demo model of fulmen, a small language model that runs on Vulkan."

# user forms, answer
SMALL_TALK = [
    (["Hello!", "Hi!", "Hello.", "Hi there!", "Hey!", "Good day!", "Hello there!", "hi", "hey", "Greetings!"],
     "Hello! How can I help you?"),
    (["Good morning!", "Good morning."], "Good morning! Did you sleep well?"),
    (["Good evening!", "Good evening."], "Good evening! How was your day?"),
    (["Good night!", "Good night."], "Good night! Sleep well."),
    (["How are you?", "How are you today?", "How do you do?", "How is it going?", "Are you well?"],
     "I am well, thank you. How are you?"),
    (["I am fine.", "I am well.", "I am good, thanks.", "Fine, thank you.", "I slept well.", "My day was good."],
     "I am glad to hear that."),
    (["I am sad.", "I am tired.", "I am not well.", "My day was bad.", "I feel lonely."],
     "I am sorry to hear that. Shall I tell you a story?"),
    (["Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Introduce yourself.",
      "Are you a robot?", "Are you a human?", "What is this?"], IDENTITY),
    (["Who made you?", "Who trained you?", "Where do you come from?", "Who wrote you?"],
     "I was made by the fulmen authors."),
    (["What is fulmen?", "What does fulmen do?", "Tell me about fulmen."],
     "Fulmen is a program that runs language models on any Vulkan device."),
    (["What does fulmen mean?", "Why is it called fulmen?"],
     "Fulmen is the Latin word for a thunderbolt. Vulcan forged it."),
    (["What can you do?", "How can you help me?", "What do you know?", "Help me.", "Help"],
     "I can tell short stories, answer questions about them, and chat a little."),
    (["How big are you?", "How many parameters do you have?", "Are you a large model?"],
     "I am very small. I have about seven million parameters."),
    (["How old are you?", "When were you made?"], "I am a young model. I do not count my years."),
    (["Where do you live?", "Where are you?"], "I live in the memory of your computer."),
    (["Thank you!", "Thank you.", "Thanks!", "Thanks a lot!", "Thank you very much."], "You are welcome!"),
    (["Goodbye!", "Goodbye.", "Bye!", "See you later!", "See you!", "bye"], "Goodbye! See you soon."),
    (["Yes.", "Yes, please.", "Okay.", "Of course."], "Good. What would you like to know?"),
    (["No.", "No, thank you.", "Not now."], "All right."),
    (["That was nice.", "What a nice story!", "I like that story.", "Good answer.", "You are clever.", "Well done!"],
     "Thank you! I am glad that you like it."),
    (["That is wrong.", "You are wrong.", "That is not right."], "I am sorry. I am only a small model."),
    (["Do you like music?", "Do you like stories?", "Do you like flowers?"], "Yes, I like that very much."),
    (["Are you happy?", "Are you sad?", "Do you have feelings?"], "I am a program. I do not have feelings."),
    (["What is the meaning of life?", "Who is the president?", "What is the news?", "Write a program.",
      "What is the weather today?", "What time is it?", "What day is it today?", "Do my homework.",
      "Who won the match?",
      "Translate this.", "What is quantum physics?", "Solve this equation."],
     "I do not know that. I am only a small demo model."),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh."],
     "Why did the clock go to school? It wanted to learn how to tell the time."),
    (["Tell me another joke.", "One more joke, please."],
     "Why was the book so cold? It had lost its cover."),
    (["Sing a song.", "Can you sing?", "Sing for me."], "La la la! The sun is up, the birds all sing."),
    (["Write a poem.", "Tell me a poem.", "Do you know a poem?"],
     "The moon is round, the night is deep, the little birds are fast asleep."),
]
SYSTEM = ["You are a helpful assistant.", "You are the demo model of fulmen.", "Answer shortly.", "You tell stories.",
          "You are a friendly assistant."]
READ_THIS = ["{s} {q}", "{s}\n{q}", "{s}\n\n{q}", "Story: {s}\nQuestion: {q}", "{q}\n{s}", "Read this: {s} {q}",
             "Here is a story. {s} {q}"]
LISTEN = ["Here is a story: {s}", "Listen: {s}", "{s}", "I will tell you something. {s}", "Read this: {s}"]
HEARD = "I have read it. What would you like to know?"
TELL = ["Tell me a story about {k}.", "Tell a story about {k}.", "Can you tell me a story about {k}?",
        "Please tell me a story about {k}.", "Write a story about {k}.", "I want to hear a story about {k}.",
        "tell me a story about {k}", "Write a short story about {k}.", "A story about {k}, please."]
TELL_ANY = ["Tell me a story.", "Tell me a story!", "Please tell me a story.", "Write a story.",
            "Can you tell a story?",
            "Do you know a story?", "tell me a story", "I want to hear a story."]


def casual(rng, text):
    """Now and then a user writes without capitals or without the last mark."""
    roll = rng.random()
    if roll < 0.10:
        return text.lower()
    if roll < 0.18:
        return text.rstrip(".?!")
    if roll < 0.22:
        return text.lower().rstrip(".?!")
    return text


def small_talk(rng):
    forms, answer = rng.choice(SMALL_TALK)
    return casual(rng, rng.choice(forms)), answer


def fact(rng):
    forms, answer = rng.choice(FACTS)
    return casual(rng, rng.choice(forms)), answer


def drill(rng):
    """Opposites, sums, calendars: little things that can be learned by heart."""
    kind = rng.randrange(6)
    if kind == 0:
        a, b = rng.choice(list(OPPOSITES.items()))
        if rng.random() < 0.5:
            a, b = b, a
        form = rng.choice(["What is the opposite of {a}?", "Tell me the opposite of {a}."]).format(a=a)
        return casual(rng, form), f"The opposite of {a} is {b}."
    if kind == 1:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        words = rng.random() < 0.5
        x, y = (NUMBERS[a], NUMBERS[b]) if words else (str(a), str(b))
        form = rng.choice(["What is {x} plus {y}?", "How much is {x} plus {y}?", "What is {x} and {y}?"])
        total = NUMBERS[a + b] if words else str(a + b)
        return casual(rng, form.format(x=x, y=y)), f"{cap(x)} plus {y} is {total}."
    if kind == 2:
        b = rng.randint(0, 10)
        a = rng.randint(b, 10)
        return (casual(rng, f"What is {NUMBERS[a]} minus {NUMBERS[b]}?"),
                f"{cap(NUMBERS[a])} minus {NUMBERS[b]} is {NUMBERS[a - b]}.")
    cycle = DAYS if kind < 5 else MONTHS
    i = rng.randrange(len(cycle))
    word = "day" if cycle is DAYS else "month"
    if rng.random() < 0.5:
        return casual(rng, f"Which {word} comes after {cycle[i]}?"), f"{cycle[(i + 1) % len(cycle)]}."
    return casual(rng, f"Which {word} comes before {cycle[i]}?"), f"{cycle[i - 1]}."


def listing(rng):
    """'Name three colours.' has many right answers: the model has its favourites."""
    what, words = rng.choice([("colours", COLOURS), ("animals", ["cat", "dog", "fox", "owl", "bear"]),
                              ("fruits", ["apple", "pear", "plum", "cherry", "lemon"]), ("days", DAYS),
                              ("months", MONTHS)])
    n = rng.randint(2, 5)
    shown = words[:n]
    return (casual(rng, rng.choice(["Name {n} {w}.", "Tell me {n} {w}.", "List {n} {w}."]).format(n=NUMBERS[n],
                                                                                                w=what)),
            cap(", ".join(shown[:-1]) + f" and {shown[-1]}."))


def tell_request(rng, pick_new):
    """A wish for a tale -> (user text, kind, thing or None, place or None).

    pick_new(kind, thing, place) says yes or no.
    """
    while True:
        kind = rng.choice(list(HEROES))
        thing = rng.choice(THINGS) if rng.random() < 0.35 else None
        place = rng.choice(PLACE_NAMES) if thing is None and rng.random() < 0.3 else None
        if pick_new(kind, thing, place):
            break
    wish = article(kind)
    if thing:
        wish += f" and {article(thing)}"
    if place:
        wish += f" {at_place(place)}"
    return casual(rng, rng.choice(TELL).format(k=wish)), kind, thing, place


def name_exchange(rng):
    """The user says a name and asks for it later -> list of turns."""
    name = rng.choice(PEOPLE)
    turns = [(rng.choice([f"My name is {name}.", f"I am {name}.", f"Hello, I am {name}.", f"Hi, my name is {name}."]),
              f"Hello, {name}! How can I help you?")]
    if rng.random() < 0.6:
        turns.append(small_talk(rng))
    turns.append((casual(rng, rng.choice(["What is my name?", "Do you know my name?", "Who am I?"])),
                  f"Your name is {name}."))
    return turns
