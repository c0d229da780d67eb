// SPDX-License-Identifier: MIT
// fulmen: language models on any Vulkan device. Open a device, open and load a model, create a session, generate.
// examples/chat.c shows all of it in 40 lines.
//
// Results are enum fm_result; fm_error_message has one line about the last failure of the calling thread. Out-params
// come last, begin with out_ and are written on success only. All-zero parameter structs mean defaults.
#ifndef FULMEN_FULMEN_H
#define FULMEN_FULMEN_H

#include "fulmen/base.h"
#include "fulmen/convert.h"
#include "fulmen/device.h"
#include "fulmen/model.h"
#include "fulmen/profile.h"
#include "fulmen/session.h"
#include "fulmen/text.h"
#include "fulmen/writer.h"

#endif
