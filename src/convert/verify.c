// SPDX-License-Identifier: MIT
// The last check of a conversion: the file is read as the runtime will read it. Names, shapes, keys and the tokenizer
// are looked at, not the weights.
#include "convert/output.h"
#include "models/arch.h"
#include "text/tokenizer.h"

static enum fm_result read_model(const struct fm_file *file)
{
    struct fm_arena arena = {0};
    struct fm_graph graph = {0};
    struct fm_config config;
    const struct fm_arch *arch;
    struct fm_tokenizer *tokenizer = NULL;
    const struct fm_graph_options options = {.kv_type = {FM_TYPE_F32, FM_TYPE_F32}};
    enum fm_result r = fm_arch_open(file, &arena, &arch, &config);
    if (r == FM_OK)
        r = fm_arch_build(arch, &config, file, &options, &graph);
    if (r == FM_OK)
        r = fm_tokenizer_create(file, &tokenizer);
    fm_tokenizer_destroy(&tokenizer);
    fm_graph_finish(&graph);
    fm_arena_finish(&arena);
    return r;
}

enum fm_result fm_conv_verify(const char *temp_path, const char *path)
{
    struct fm_file *file = NULL;
    // Under the name that the user gave: the temporary one would only puzzle in a message.
    enum fm_result r = fm_file_open_as(temp_path, path, &file);
    if (r == FM_OK)
        r = read_model(file);
    fm_file_close(&file);
    return r == FM_OK ? r : fm_fail_prefix(r, "the converted model does not load");
}
