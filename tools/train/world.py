# SPDX-License-Identifier: MIT
"""The small world that the demo model knows: its people, places and things, and how they are put into words.

Everything here is our own text. The world is a village called Lindenbrook; its fixed facts (FACTS) are learned by
heart, while stories combine the word lists freely and are answered from the context.
"""
import zlib

GIRLS = ("Mia Ada Ida Lena Nora Cleo Ruth Vera Tilda Anna Elsa Greta Hilda Iris Juno Kira Lucy Mara Nina Olga Petra "
         "Rosa Sara Tess Una Wanda Yara Zoe Bella Dora Edith Flora Hazel Ivy June Lily Maud Olive Pia Stella").split()
BOYS = ("Tom Ben Max Leo Finn Otto Paul Karl Emil Hugo Ivan Jack Noah Oscar Peter Ravi Sam Theo Udo Victor Walter "
        "Adam Boris Carl David Erik Felix Gus Henry Igor Jonas Kurt Liam Milo Nils Omar Pablo Rolf Simon Tim").split()
PEOPLE = GIRLS + BOYS

# place -> preposition
PLACES = {
    "kitchen": "in", "garden": "in", "barn": "in", "attic": "in", "cellar": "in", "library": "in", "forest": "in",
    "school": "in", "bakery": "in", "stable": "in", "tower": "in", "workshop": "in", "meadow": "in", "cave": "in",
    "orchard": "in", "hall": "in", "park": "in", "museum": "in", "greenhouse": "in", "castle": "in", "cabin": "in",
    "tent": "in", "village": "in", "theatre": "in", "boathouse": "in", "mill": "at", "market": "at", "station": "at",
    "harbour": "at", "well": "at", "gate": "at", "farm": "at", "inn": "at", "church": "at", "lighthouse": "at",
    "fountain": "at", "bridge": "on", "hill": "on", "beach": "on", "island": "on", "roof": "on", "balcony": "on",
    "pier": "on", "river": "by", "lake": "by", "pond": "by", "sea": "by", "stream": "by",
}
PLACE_NAMES = list(PLACES)

THINGS = ("apple ball book lamp kite key drum flute hat coat scarf basket bottle cup spoon plate knife rope map "
          "coin ring bell clock candle mirror brush pencil letter box bag blanket pillow chair ladder hammer "
          "shovel bucket net boat wagon sled whistle violin puppet doll mask crown shell stone feather leaf "
          "flower seed nut pear plum egg cake loaf cheese pie jar pot pan kettle comb button needle ribbon "
          "glove sock boot belt umbrella lantern compass telescope notebook painting vase broom wheel flag "
          "tent marble").split()
COLOURS = "red blue green yellow white black brown grey orange purple pink golden".split()
CONTAINERS = "box bag basket drawer cupboard chest bucket suitcase jar trunk".split()
COUNTABLES = {"apple": "apples", "plum": "plums", "pear": "pears", "nut": "nuts", "egg": "eggs", "coin": "coins",
              "shell": "shells", "marble": "marbles", "button": "buttons", "cookie": "cookies", "stone": "stones",
              "flower": "flowers", "pencil": "pencils", "feather": "feathers", "candle": "candles", "seed": "seeds",
              "book": "books", "bell": "bells", "ribbon": "ribbons", "card": "cards"}
JOBS = ("baker miller teacher doctor farmer fisher gardener tailor painter carpenter blacksmith postman shepherd "
        "sailor cook singer weaver potter librarian beekeeper hunter builder clockmaker musician").split()
PETS = "cat dog rabbit parrot goat pony duck turtle mouse hamster".split()
PET_NAMES = "Pip Fluff Bramble Dot Socks Pepper Biscuit Clover Mittens Nutmeg Pebble Patch Ginger Smoky Tiny".split()
FOODS = ("bread soup cheese rice honey porridge pancakes noodles pie salad cake stew berries fish potatoes "
         "pears").split()
WEATHER = {"sunny": "the sun shone", "rainy": "it rained", "windy": "a strong wind blew", "snowy": "it snowed",
           "foggy": "there was thick fog", "stormy": "there was a storm", "cloudy": "it was cloudy"}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty").split()

# the hero of a told story: kind -> (its usual name, pronoun, where it lives)
HEROES = {
    "fox": ("Rusty", "he", "forest"), "rabbit": ("Clover", "she", "meadow"), "mouse": ("Pip", "he", "mill"),
    "bear": ("Bruno", "he", "cave"), "owl": ("Minerva", "she", "tower"), "cat": ("Mittens", "she", "bakery"),
    "dog": ("Patch", "he", "farm"), "duck": ("Dilly", "she", "pond"), "frog": ("Hopper", "he", "pond"),
    "hedgehog": ("Needle", "he", "garden"), "squirrel": ("Hazel", "she", "park"), "goat": ("Gretel", "she", "hill"),
    "horse": ("Thunder", "he", "stable"), "cow": ("Daisy", "she", "farm"), "sheep": ("Woolly", "she", "meadow"),
    "pig": ("Truffle", "he", "farm"), "bird": ("Skye", "she", "orchard"), "crow": ("Inky", "he", "tower"),
    "bee": ("Buzz", "she", "garden"), "snail": ("Spiral", "he", "garden"), "turtle": ("Shelly", "she", "lake"),
    "otter": ("Ripple", "he", "river"), "beaver": ("Chip", "he", "stream"), "wolf": ("Grey", "he", "forest"),
    "deer": ("Fern", "she", "forest"), "seal": ("Salty", "he", "beach"), "whale": ("Indigo", "she", "sea"),
    "dragon": ("Ember", "she", "castle"), "robot": ("Bolt", "he", "workshop"), "wizard": ("Alder", "he", "tower"),
    "princess": ("Elsa", "she", "castle"), "king": ("Otto", "he", "castle"), "queen": ("Vera", "she", "castle"),
    "knight": ("Hugo", "he", "castle"), "pirate": ("Rolf", "he", "island"), "sailor": ("Nils", "he", "harbour"),
    "baker": ("Nora", "she", "bakery"), "farmer": ("Karl", "he", "farm"), "girl": ("Mia", "she", "village"),
    "boy": ("Tom", "he", "village"), "giant": ("Boulder", "he", "hill"), "fairy": ("Dewdrop", "she", "garden"),
    "ghost": ("Whisper", "he", "attic"), "cloud": ("Puff", "she", "hill"), "star": ("Twinkle", "she", "tower"),
    "snowman": ("Frosty", "he", "park"), "train": ("Rumble", "he", "station"), "boat": ("Marina", "she", "harbour"),
}

# question forms, answer; the things that everyone in Lindenbrook knows
FACTS = [
    (("What is the name of the village?", "Where do the people of this world live?", "What is the village called?"),
     "The village is called Lindenbrook."),
    (("Who is the mayor of Lindenbrook?", "Who is the mayor?"), "The mayor is Stella."),
    (("Who bakes the bread in Lindenbrook?", "Who is the baker of Lindenbrook?", "Who is the baker?"),
     "The baker is Nora."),
    (("Who teaches at the school in Lindenbrook?", "Who is the teacher of Lindenbrook?", "Who is the teacher?"),
     "The teacher is Walter."),
    (("Who keeps the lighthouse?", "Who is the lighthouse keeper?"), "The lighthouse keeper is Otto."),
    (("Who works at the mill?", "Who is the miller of Lindenbrook?", "Who is the miller?"), "The miller is Emil."),
    (("Who mends the clocks in Lindenbrook?", "Who is the clockmaker?"), "The clockmaker is Iris."),
    (("Who is the doctor of Lindenbrook?", "Who is the doctor?"), "The doctor is Ravi."),
    (("What river flows through Lindenbrook?", "What is the name of the river?", "What is the river called?"),
     "The river is called the Silverrun."),
    (("What is the highest hill near Lindenbrook?", "What is the hill called?", "What is the name of the hill?"),
     "The hill is called Lantern Hill."),
    (("What is the forest near Lindenbrook called?", "What is the name of the forest?"),
     "The forest is called the Whisperwood."),
    (("When is market day in Lindenbrook?", "When is the market?", "Which day is market day?"),
     "Market day is Saturday."),
    (("How many people live in Lindenbrook?", "How big is Lindenbrook?"), "Eighty people live in Lindenbrook."),
    (("What stands in the middle of Lindenbrook?", "What is in the middle of the village?"),
     "A great linden tree stands in the middle of Lindenbrook."),
    (("What festival is held in Lindenbrook?", "What is the festival of Lindenbrook?"),
     "The Lantern Festival is held every autumn."),
    (("What colour is the lighthouse?",), "The lighthouse is red and white."),
    (("What colour is the bridge of Lindenbrook?", "What colour is the bridge?"), "The bridge is green."),
    (("What does Nora sell?", "What can I buy at the bakery?"), "The bakery sells bread, cakes and plum pies."),
    (("What is the cat of the bakery called?", "What is the name of the bakery cat?"),
     "The bakery cat is called Mittens."),
    (("How many bridges does Lindenbrook have?", "How many bridges are there?"), "Lindenbrook has three bridges."),
    (("Who lives in the castle?",), "Nobody lives in the castle. It has been empty for a long time."),
    (("What colour is the sky?",), "The sky is blue."), (("What colour is grass?",), "Grass is green."),
    (("What colour is snow?",), "Snow is white."), (("What colour is the sun?",), "The sun is yellow."),
    (("What colour is a lemon?",), "A lemon is yellow."), (("What colour is a raven?",), "A raven is black."),
    (("How many days are in a week?", "How many days does a week have?"), "A week has seven days."),
    (("How many months are in a year?", "How many months does a year have?"), "A year has twelve months."),
    (("How many legs does a spider have?",), "A spider has eight legs."),
    (("How many legs does a dog have?",), "A dog has four legs."),
    (("How many legs does a bird have?",), "A bird has two legs."),
    (("How many legs does a bee have?",), "A bee has six legs."),
    (("What do bees make?",), "Bees make honey."), (("What do cows eat?",), "Cows eat grass."),
    (("What do cats like to chase?",), "Cats like to chase mice."),
    (("What is the season after winter?", "Which season comes after winter?"), "Spring comes after winter."),
    (("What is the season after spring?", "Which season comes after spring?"), "Summer comes after spring."),
    (("What is the season after summer?", "Which season comes after summer?"), "Autumn comes after summer."),
    (("What is the season after autumn?", "Which season comes after autumn?"), "Winter comes after autumn."),
    (("What is ice made of?", "What is snow made of?"), "It is made of frozen water."),
    (("Where does the sun rise?",), "The sun rises in the east."),
    (("Where does the sun set?",), "The sun sets in the west."),
    (("What do you use to tell the time?",), "You use a clock to tell the time."),
    (("What do you use an umbrella for?",), "You use an umbrella to stay dry in the rain."),
]

OPPOSITES = {"hot": "cold", "big": "small", "up": "down", "day": "night", "fast": "slow", "happy": "sad",
             "old": "young",
             "hard": "soft", "wet": "dry", "full": "empty", "open": "closed", "left": "right", "light": "dark",
             "near": "far", "high": "low", "loud": "quiet", "first": "last", "early": "late", "long": "short",
             "clean": "dirty", "strong": "weak", "rich": "poor", "thick": "thin", "good": "bad"}


def article(noun):
    """'apple' -> 'an apple', 'red kite' -> 'a red kite'."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def at_place(place):
    return f"{PLACES[place]} the {place}"


def pronouns(name):
    """(subject, object, possessive) of a person of this world."""
    return ("she", "her", "her") if name in GIRLS else ("he", "him", "his")


def cap(text):
    return text[0].upper() + text[1:]


def is_held_out(*parts):
    """One combination in ten is never trained on: a fixed function of the words, so it needs no list."""
    return zlib.crc32(" ".join(parts).encode()) % 10 == 0
