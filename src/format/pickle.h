// SPDX-License-Identifier: MIT
// The pickle of a PyTorch state dict: a machine that knows the opcodes and callables which rebuild tensors, and nothing
// else. It calls no code that a file names. Internal to format/.
#ifndef FM_FORMAT_PICKLE_H
#define FM_FORMAT_PICKLE_H

#include "base/arena.h"
#include "format/file.h"

struct fm_pickle_host {
    void *user;
    // Where in the file the storage of this key lies. FM_FORMAT when there is none.
    enum fm_result (*find_storage)(void *user, struct fm_text key, uint64_t *out_offset, uint64_t *out_bytes);
    // Called for each tensor of the state dict in its order; the tensor has all but a name.
    enum fm_result (*add_tensor)(void *user, struct fm_text name, const struct fm_tensor *tensor);
};

// Run the pickle in `bytes`, which must leave a dict from names to tensors, and hand out its tensors. Stack, memo,
// nesting and memory are bounded. FM_FORMAT, FM_UNSUPPORTED (an opcode or callable that is not needed to rebuild
// tensors, an entry that is no tensor, strides that are not contiguous), FM_NOMEM.
enum fm_result fm_pickle_read(const uint8_t *data, uint64_t size_bytes, const struct fm_pickle_host *host);

#endif
