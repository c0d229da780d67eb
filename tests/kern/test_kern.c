// SPDX-License-Identifier: MIT
// The kernel suite on one device: every problem, every rung that the device reaches. One line per failure, with the
// command that repeats it.
// Usage: test_kern [--device SEL] [--rung RUNG] [--op OP] [--kernel TEXT] [--problem TEXT] [--seed N] [--quick] [--as-is] [--part I/N]
//        [-v]
// --quick: not every problem on every kernel, but every kind of problem that fits a kernel (src/check/choose.h).
// --as-is: only kernels that the selector takes on the device as it is, not those of the rungs below.
// --part I/N: part I, from 1, of the kernels in N parts.
#include "check/check.h"

#include <stdio.h>
#include <stdlib.h>

struct report_state {
    const char *device;
    bool verbose;
    double worst;
};

static void report(void *user, const struct fm_check_result *r)
{
    struct report_state *s = user;
    const char *kernel = r->kernel ? r->kernel->name : "-";
    if (r->worst > s->worst)
        s->worst = r->worst;
    if (!r->passed)
        printf("FAIL %s rung=%s problem=%s seed=%u: %s\n     repeat: test_kern --device '%s' --rung %s --problem '%s' --seed %u\n", kernel,
               fm_rung_name(r->rung), r->problem->name, r->seed, r->message, s->device, fm_rung_name(r->rung), r->problem->name, r->seed);
    else if (s->verbose)
        printf("ok   %s rung=%s problem=%s worst=%.3f of the bound\n", kernel, fm_rung_name(r->rung), r->problem->name, r->worst);
    fflush(stdout);
}

static int fail(enum fm_result r)
{
    printf("%s: %s\n", fm_result_text(r), fm_error_message());
    return 1;
}

int main(int argc, char **argv)
{
    struct fm_check_params params = {.seed = 1, .max_rung = FM_RUNG_COUNT - 1, .report = report};
    const char *device = NULL;
    struct report_state state = {0};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "-v") == 0) {
            state.verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--quick") == 0) {
            params.quick = true;
            continue;
        }
        if (strcmp(argv[i], "--as-is") == 0) {
            params.as_is = true;
            continue;
        }
        if (strcmp(argv[i], "--device") == 0)
            device = value;
        else if (strcmp(argv[i], "--rung") == 0)
            params.max_rung = fm_rung_from_name(value);
        else if (strcmp(argv[i], "--op") == 0)
            params.op = value;
        else if (strcmp(argv[i], "--kernel") == 0)
            params.kernel = value;
        else if (strcmp(argv[i], "--problem") == 0)
            params.problem = value;
        else if (strcmp(argv[i], "--seed") == 0)
            params.seed = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--part") == 0 && sscanf(value, "%u/%u", &params.part, &params.parts) == 2 && params.part >= 1 &&
                 params.part <= params.parts)
            params.part--;
        else {
            printf("unknown option %s\n", argv[i]);
            return 2;
        }
        i++;
    }
    if (params.max_rung == FM_RUNG_COUNT) {
        printf("unknown rung; one of base sg f16 dot cm cmr\n");
        return 2;
    }
    params.user = &state;
    struct fm_caps *caps;
    size_t count, index;
    enum fm_result r = fm_vk_probe(&caps, &count);
    if (r)
        return fail(r);
    struct fm_vk *vk = NULL;
    r = fm_vk_choose(caps, count, device, &index);
    if (!r)
        r = fm_vk_open(&caps[index], &vk);
    if (r) {
        fm_free(caps);
        return fail(r);
    }
    state.device = caps[index].name;
    printf("device: %s, rung %s\n", state.device, fm_rung_name(fm_caps_rung(&caps[index])));
    struct fm_check_totals totals = {0};
    r = fm_check_run(vk, &params, &totals);
    uint32_t messages = fm_vk_validation_messages(vk);
    fm_vk_close(&vk);
    fm_free(caps);
    printf("%u kernels, worst error %.3f of its bound, %u validation messages\n", totals.kernels, state.worst, messages);
    printf("%u passed, %u failed, 0 skipped\n", totals.passed, totals.failed);
    if (r)
        return fail(r);
    return totals.failed > 0 || totals.passed == 0 || messages > 0;
}
