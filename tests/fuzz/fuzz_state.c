// SPDX-License-Identifier: MIT
// libFuzzer target: the input's first byte says how the rest is a saved state: as it is (even), or with its magic and
// checksum made good (odd), so that what lies behind these is reached. A file that passes holds tokens of the vocabulary,
// and its parts lie within it.
#include <stdlib.h>

#include "fulmen/session.h"
#include "fuzz_file.h"
#include "run/state_check.h"

#define VOCAB 96u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void check(const uint8_t *bytes, size_t size_bytes)
{
    struct fm_state_file file = {0};
    struct fm_source source;
    if (fm_source_memory(bytes, size_bytes, "input", &source) != FM_OK)
        return;
    enum fm_result result = fm_state_file_read(&source, &file);
    if (result == FM_OK) {
        uint64_t tokens_bytes = (uint64_t)file.header.tokens * sizeof(uint32_t);
        fuzz_require(file.state_offset == sizeof(file.header) + tokens_bytes);
        fuzz_require(file.state_offset + file.header.state_bytes + file.header.note_bytes + sizeof(uint64_t) == size_bytes);
        result = fm_state_file_check(&file, VOCAB, NULL, NULL);
        for (uint32_t i = 0; i < file.header.tokens && result == FM_OK; i++)
            fuzz_require(file.tokens[i] < VOCAB);
        fuzz_require(result != FM_OK || file.header.next < VOCAB || file.header.next == FM_TOKEN_NONE);
    }
    fuzz_require(result == FM_OK || result == FM_FORMAT);
    if (result != FM_OK)
        fuzz_message();
    fm_state_file_finish(&file);
    fm_source_close(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes == 0)
        return 0;
    size_t rest = size_bytes - 1;
    uint8_t *bytes = malloc(rest > 0 ? rest : 1); // its end is watched
    if (bytes == NULL)
        return 0;
    memcpy(bytes, data + 1, rest);
    if (data[0] % 2 == 1 && rest >= sizeof(struct fm_state_header) + sizeof(uint64_t)) {
        memcpy(bytes, FM_STATE_MAGIC, sizeof(FM_STATE_MAGIC) - 1);
        struct fm_source source;
        uint64_t sum = 0;
        if (fm_source_memory(bytes, rest, "input", &source) == FM_OK) {
            fuzz_require(fm_state_file_sum(&source, NULL, NULL, &sum) == FM_OK);
            fm_source_close(&source);
        }
        memcpy(bytes + rest - sizeof(sum), &sum, sizeof(sum));
    }
    check(bytes, rest);
    free(bytes);
    return 0;
}
