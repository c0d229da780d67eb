// SPDX-License-Identifier: MIT
// A checkpoint folder as training frameworks leave it: the tensors of one file or of many shards under one set of
// names. safetensors and PyTorch zip archives. Only directories are held in memory; tensor data stays in the files.
#ifndef FM_FORMAT_CHECKPOINT_H
#define FM_FORMAT_CHECKPOINT_H

#include "format/file.h"

struct fm_checkpoint; // opaque; owns its files. Read-only once open: any thread may read.

// Open what `path` names. A folder is searched for, first found: model.safetensors, model.safetensors.index.json with
// its shards, pytorch_model.bin, pytorch_model.bin.index.json with its shards. A path to a file: that file alone, or an
// index when its name ends in ".index.json". Shards lie beside their index; a name of one with a path in it is refused.
// Every tensor that an index names is in the shard that it names. FM_IO, FM_FORMAT, FM_UNSUPPORTED (a model that needs
// no conversion, GGUF, among them), FM_NOMEM; the message starts with the path of the file concerned.
enum fm_result fm_checkpoint_open(const char *path, struct fm_checkpoint **out_checkpoint);
void fm_checkpoint_close(struct fm_checkpoint **checkpoint);

bool fm_checkpoint_is_index(const char *path); // of shards, by its name

// What was opened: the path of the single file or of the index.
const char *fm_checkpoint_path(const struct fm_checkpoint *checkpoint);
// Tensors in the order of the shards, each shard's in file order, so that reading them in turn reads files from front
// to back. Tensors of a type without enum fm_type are listed too: type is FM_TYPE_NONE, type_name the file's own word.
// At most FM_TENSOR_DIMS dimensions; a scalar has n_dims 0, a tensor without elements a dimension that is 0.
uint32_t fm_checkpoint_count(const struct fm_checkpoint *checkpoint);
const struct fm_tensor *fm_checkpoint_at(const struct fm_checkpoint *checkpoint, uint32_t index);
const struct fm_tensor *fm_checkpoint_find(const struct fm_checkpoint *checkpoint, const char *name); // NULL: absent
// The file that holds tensor `index`, for messages ("PATH: tensor 'x' ...") and metadata.
const struct fm_file *fm_checkpoint_file_of(const struct fm_checkpoint *checkpoint, uint32_t index);
// After the last read: FM_CHANGED when one of the files was changed since it was opened.
enum fm_result fm_checkpoint_unchanged(const struct fm_checkpoint *checkpoint);
// Bytes of all tensors, shared data counted for each.
uint64_t fm_checkpoint_data_bytes(const struct fm_checkpoint *checkpoint);

#endif
