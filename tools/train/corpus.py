# SPDX-License-Identifier: MIT
"""Documents for training and held-out questions, made from scenes, tales and talk; all of it repeatable from a seed.

A training document is a list of (text, weight): the loss of a token counts by the weight of the part it is in.
"""
import random
from collections import namedtuple

import scenes
import tales
import talk
from world import HEROES, is_held_out

ANSWER_WEIGHT = 1.0
CONTEXT_WEIGHT = 0.15
START, END = "<|im_start|>", "<|im_end|>"
# widths of the training rows, in tokens, and the rows of each in one training step
BUCKETS = ((192, 256), (512, 112), (1024, 40))

Question = namedtuple("Question", "kind prompt answer")


def _scene(rng, held_out):
    """A scene or a material tale on the wanted side of the split."""
    while True:
        make = rng.choice(scenes.SCENES + [lambda r: tales.write_tale(r, told=False)] * 2)
        s = make(rng)
        if is_held_out(s.kind, *s.key) == held_out:
            return s


def _told_tale(rng, held_out=False):
    """(request, tale Scene) for a tale told by the assistant. The split covers the pairs of hero and thing."""
    if rng.random() < 0.12 and not held_out:
        # a wish without a subject gets the first hero most of the time
        kind = min(int(rng.expovariate(0.9)), len(HEROES) - 1)
        return rng.choice(talk.TELL_ANY), tales.write_tale(rng, kind=list(HEROES)[kind])

    def fits(kind, thing, place):
        if thing is None and place is None:
            return not held_out
        return is_held_out("told", kind, thing or place) == held_out
    request, kind, thing, place = talk.tell_request(rng, fits)
    return request, tales.write_tale(rng, kind=kind, thing=thing, place=place)


def _ask(rng, questions):
    forms, answer = rng.choice(questions)
    return rng.choice(forms), answer


def _block(rng):
    """One subject of a conversation -> list of (user, assistant)."""
    roll = rng.random()
    if roll < 0.40:
        s = _scene(rng, False)
        q, a = _ask(rng, s.questions)
        turns = [(rng.choice(talk.READ_THIS).format(s=s.text, q=talk.casual(rng, q)), a)]
    elif roll < 0.55:
        s = _scene(rng, False)
        turns = [(rng.choice(talk.LISTEN).format(s=s.text), talk.HEARD)]
        q, a = _ask(rng, s.questions)
        turns.append((talk.casual(rng, q), a))
    elif roll < 0.73:
        request, s = _told_tale(rng)
        turns = [(request, s.text)]
    elif roll < 0.76:
        return talk.name_exchange(rng)
    else:
        return [rng.choice([talk.small_talk, talk.small_talk, talk.fact, talk.fact, talk.drill, talk.listing])(rng)]
    while rng.random() < 0.55:
        q, a = _ask(rng, s.questions)
        turns.append((talk.casual(rng, q), a))
    return turns


def user_part(text):
    return f"{START}user\n{text}{END}\n{START}assistant\n"


def _plain(rng):
    """A tale without chat marks, for plain completion."""
    kind = list(HEROES)[min(int(rng.expovariate(0.6)), len(HEROES) - 1)]
    return [(tales.write_tale(rng, kind=kind).text + END, ANSWER_WEIGHT)]


def document(rng, limit_tokens, count_tokens):
    """One training document of at most limit_tokens: [(text, weight)], or None if the first subject is too long.

    count_tokens(text) -> int. A document is filled with subjects until the next one would not fit.
    """
    if rng.random() < 0.08:
        parts = _plain(rng)
        return parts if count_tokens(parts[0][0]) + 1 < limit_tokens else None
    parts = [("<|endoftext|>", 0.0)] if rng.random() < 0.15 else []
    if rng.random() < 0.15:
        parts.append((f"{START}system\n{rng.choice(talk.SYSTEM)}{END}\n", CONTEXT_WEIGHT))
    used = sum(count_tokens(t) for t, _ in parts) + 1
    empty = True
    while True:
        turns = _block(rng)
        if empty and rng.random() < 0.2:
            turns = [talk.small_talk(rng)] + turns
        for user, assistant in turns:
            new = [(user_part(user), CONTEXT_WEIGHT), (assistant + END, ANSWER_WEIGHT), ("\n", CONTEXT_WEIGHT)]
            size = sum(count_tokens(t) for t, _ in new)
            if used + size > limit_tokens:
                return None if empty else parts
            parts += new
            used += size
            empty = False


def held_out_questions(seed, n):
    """n questions on held-out scenes: the prompt ends where the answer must begin; the answer is exact."""
    rng = random.Random(f"held-out {seed}")
    out = []
    while len(out) < n:
        s = _scene(rng, True)
        q, a = _ask(rng, s.questions)
        form = rng.choice(talk.READ_THIS)
        out.append(Question(s.kind, user_part(form.format(s=s.text, q=q)), a))
    return out


def held_out_tale_questions(seed, n):
    """n questions in a second turn, on a held-out tale that the assistant is said to have told in the first."""
    rng = random.Random(f"held-out tale {seed}")
    out = []
    while len(out) < n:
        request, s = _told_tale(rng, held_out=True)
        q, a = _ask(rng, s.questions)
        out.append(Question("second turn", user_part(request) + s.text + END + "\n" + user_part(q), a))
    return out


def held_out_stories(seed, n):
    """n held-out stories as plain text, for perplexity."""
    rng = random.Random(f"held-out text {seed}")
    return [_scene(rng, True).text for _ in range(n)]


def sample_texts(seed, n):
    """Text for training the tokenizer: n subjects of conversation, without special tokens."""
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(n):
        for user, assistant in _block(rng):
            yield "user\n" + user
            yield "assistant\n" + assistant
    for text in talk.SYSTEM:
        yield "system\n" + text
