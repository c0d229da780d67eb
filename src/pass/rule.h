// SPDX-License-Identifier: MIT
// A fusion rule read from its text (fuse_rules.def).
#ifndef FM_PASS_RULE_H
#define FM_PASS_RULE_H

#include "graph/graph.h"

#define FM_RULE_STATEMENTS 4
#define FM_RULE_VARS 20

struct fm_rule_statement {
    enum fm_op op;
    uint8_t n_dst, n_src;
    uint8_t dst[FM_MAX_DST], src[FM_MAX_SRC]; // variables
    bool last_optional;                       // the last operand may be absent
};

struct fm_rule_side {
    struct fm_rule_statement statement[FM_RULE_STATEMENTS];
    uint32_t n;
};

struct fm_rule {
    const char *name;
    struct fm_rule_side pattern, replacement;
    char vars[FM_RULE_VARS][8];
    uint32_t n_vars;
};

// FM_ARG (a mistake in fuse_rules.def) names the rule and what is wrong.
enum fm_result fm_rule_parse(const char *name, const char *pattern, const char *replacement, struct fm_rule *out_rule);

#endif
