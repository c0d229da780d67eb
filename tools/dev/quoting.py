# SPDX-License-Identifier: MIT
"""Text of a file reaches a message through FM_QUOTE alone: what check_layers.py finds where it does not.

In the folders that read files, what a %s of a message takes must be a constant, a path, a word from the lists below, or quoted.
"""

import re

TOKENS = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)

# Names of tensors, keys, tokens, values of configurations are not in these lists, since the file chose them: they stand in
# FM_QUOTE and its relatives.
QUOTED_FOLDERS = ("src/format/", "src/text/", "src/convert/", "src/run/", "models/")
CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
LITERAL = re.compile(r'"(?:\\.|[^"\\\n])*"')
CONVERSION = re.compile(r"%(?:%|[-+ #0]*(\*|\d+)?(?:\.(\*|\d+)?)?(?:hh|h|ll|l|z|j|t)?([a-zA-Z]))")
# These build names and paths that are looked up, not shown.
BUILT = re.compile(r"(?:path|temporary|name|key|buffer|out|copy|none\.path|json\.path)(?: \+ \w+)?")
TRUSTED_CALL = re.compile(
    r"(?:FM_QUOTE|FM_QUOTE_Z|FM_QUOTE_TEXT|fm_quote|fm_quote_flags|fm_file_path|fm_file_format|fm_checkpoint_path|fm_error_message|"
    r"fm_result_text|fm_pickle_kind_name|fm_rung_name|fm_param_name|strerror|utf8proc_errmsg|"
    r"zip_error_strerror|dims_text|foreign_type_name|"
    r"fm_pretok_name|value_text|kind_of)\(.*\)|fm_(?:type|op)_info\(.*\)->name", re.DOTALL)
TRUSTED = re.compile(
    r"(?:\w+_)?quoted|(?:\w+_)?path|dir|folder|temporary|root|uuid|arch|key|word|other|what|fault|expected|known|"
    r"known_names|names|place|list_key|"
    r"prefix|pattern|line|message|hint|reason|more|"
    r"(?:names|keys|kinds|kind_names|affixes|outer)\[.*\]|(?:rows|flags|known|strangers|harmless|all)\[i\]\.\w+|"
    r".*(?:->|\.)(?:path|folder|root|what|first|type_name|model_type|reason)|"
    r"(?:.*(?:->|\.))?(?:arch|family|dtype|info|kernel|spec|node)->(?:name|arch)|\(\*a\)->name|s->name|names\[i\]\.name|"
    r"families\[i\]->model_type|list\[i\]\.kernel->name|hole \+ 2|mark \+ 2")
TRUSTED_IN = {
    # A name that is quoted once it is in its list; made of quoted text; a number.
    ("src/convert/extra.c", "shown"), ("src/format/folder.c", "entry->d_name"), ("src/convert/stream.c", "from"),
    ("src/convert/stream.c", "number"),
    # A byte token's text; the expressions of a pre-tokenizer, which are quoted once they are one text.
    ("src/convert/vocab_bpe.c", "name"), ("src/convert/vocab_pre.c", "regex"),
    # The object that the keys are of: "rope_scaling." and its like.
    ("src/convert/conf.c", "name"), ("src/convert/keys.c", "name"),
    # The name of a key that is written.
    ("src/convert/hybrid.c", "meta->key.data + (llama ? 6 : 0)"),
}


def arguments_at(code, at):
    """The arguments of the call whose first one begins at `at`, split at the commas of that level."""
    found, depth, begin = [], 0, at
    while at < len(code):
        char = code[at]
        if char in "\"'":
            token = TOKENS.match(code, at)
            at = token.end() if token else at + 1
            continue
        if char in ",)" and depth == 0:
            found.append(" ".join(code[begin:at].split()))
            begin = at + 1
            if char == ")":
                break
        depth += (char in "([{") - (char in ")]}")
        at += 1
    return found


def texts_of(arguments):
    """The arguments that the %s of a call's format take; the format is the first argument that begins with a literal."""
    form = next((i for i, a in enumerate(arguments) if re.match(r'(?:[A-Z]\w* )?"', a)), None)
    if form is None:
        return []
    found, at = [], form + 1
    for match in CONVERSION.finditer("".join(literal[1:-1] for literal in LITERAL.findall(arguments[form]))):
        if match.group(3) is None:
            continue
        at += (match.group(1) == "*") + (match.group(2) == "*")
        if match.group(3) == "s" and at < len(arguments):
            found.append(arguments[at])
        at += 1
    return found


def is_trusted(text, file):
    """May a message take the text as it is? Of a choice, both outcomes count."""
    text = text.strip()
    if (file, text) in TRUSTED_IN:
        return True
    choice = re.fullmatch(r"[^?]*\?(.*)", text, re.DOTALL)
    if choice and not LITERAL.match(text) and not TRUSTED_CALL.fullmatch(text):
        depth = 0
        rest = choice.group(1)
        for at, char in enumerate(LITERAL.sub(lambda m: "_" * len(m.group(0)), rest)):
            depth += (char in "(?") - (char == ")")
            if char == ":" and depth == 0:
                return is_trusted(rest[:at], file) and is_trusted(rest[at + 1:], file)
            depth -= char == ":"
    return bool(LITERAL.match(text) or TRUSTED_CALL.fullmatch(text) or TRUSTED.fullmatch(text))


def unquoted(file, code):
    """(line, what) of each text that a message of the file (its path from the root) takes as it is; `code` has no comments."""
    if not file.startswith(QUOTED_FOLDERS) or not file.endswith(".c"):
        return
    for call in CALL.finditer(code):
        arguments = arguments_at(code, call.end())
        if call.group(1) == "fm_arena_printf" or (call.group(1) == "snprintf" and BUILT.fullmatch(arguments[0])):
            continue
        for taken in texts_of(arguments):
            if not is_trusted(taken, file):
                yield (code.count("\n", 0, call.start()) + 1,
                       f"{call.group(1)}: '{taken}' is shown as it is: FM_QUOTE it, if a file chose it")
