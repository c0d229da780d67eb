// SPDX-License-Identifier: MIT
#include "pass/rule.h"

// Next word of letters, digits and underscores; "=", ";" and "?" stand for themselves. False at the end.
static bool next_word(const char **text, char *out, size_t out_bytes)
{
    static const char word_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    *text += strspn(*text, " \n");
    size_t n = strspn(*text, word_chars);
    if (n == 0 && **text != '\0')
        n = 1;
    if (n == 0 || n >= out_bytes)
        return false;
    memcpy(out, *text, n);
    out[n] = '\0';
    *text += n;
    return true;
}

// The variable of a word; FM_RULE_VARS when there are too many or the word is too long.
static uint8_t variable(struct fm_rule *rule, const char *word)
{
    for (uint32_t i = 0; i < rule->n_vars; i++)
        if (strcmp(rule->vars[i], word) == 0)
            return (uint8_t)i;
    if (rule->n_vars == FM_RULE_VARS || strlen(word) >= sizeof(rule->vars[0]))
        return FM_RULE_VARS;
    strcpy(rule->vars[rule->n_vars], word);
    return (uint8_t)rule->n_vars++;
}

// "results = op operands", up to ';' or the end.
static bool parse_statement(struct fm_rule *rule, const char **text, struct fm_rule_statement *out)
{
    char word[32];
    *out = (struct fm_rule_statement){0};
    while (next_word(text, word, sizeof(word)) && strcmp(word, "=") != 0) {
        if (out->n_dst == FM_MAX_DST || (out->dst[out->n_dst++] = variable(rule, word)) == FM_RULE_VARS)
            return false;
    }
    if (!next_word(text, word, sizeof(word)) || (out->op = fm_op_from_name(word)) == FM_OP_COUNT)
        return false;
    while (next_word(text, word, sizeof(word)) && strcmp(word, ";") != 0) {
        if (out->last_optional)
            return false;
        if (strcmp(word, "?") == 0)
            out->last_optional = true;
        else if (out->n_src == FM_MAX_SRC || (out->src[out->n_src++] = variable(rule, word)) == FM_RULE_VARS)
            return false;
    }
    const struct fm_op_info *info = fm_op_info(out->op);
    return out->n_dst == info->n_dst && out->n_src <= info->max_src && out->n_src - out->last_optional >= info->min_src;
}

static bool parse_side(struct fm_rule *rule, const char *text, struct fm_rule_side *side)
{
    while (text[strspn(text, " \n")] != '\0')
        if (side->n == FM_RULE_STATEMENTS || !parse_statement(rule, &text, &side->statement[side->n++]))
            return false;
    return side->n > 0;
}

enum fm_result fm_rule_parse(const char *name, const char *pattern, const char *replacement, struct fm_rule *out_rule)
{
    struct fm_rule rule = {.name = name};
    if (!parse_side(&rule, pattern, &rule.pattern))
        return fm_fail(FM_ARG, "fusion rule %s: bad pattern '%s'", name, pattern);
    uint32_t pattern_vars = rule.n_vars;
    if (!parse_side(&rule, replacement, &rule.replacement) || rule.n_vars != pattern_vars ||
        rule.replacement.n > rule.pattern.n)
        return fm_fail(FM_ARG, "fusion rule %s: bad replacement '%s'", name, replacement);
    *out_rule = rule;
    return FM_OK;
}
