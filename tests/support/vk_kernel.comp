#version 460
// SPDX-License-Identifier: MIT
// The kernel of the tests of src/vk: y[i] = x[i] * scale + add + step[0], for i < count.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require

layout(local_size_x_id = 0) in;
layout(constant_id = 3) const uint scale = 1;

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Words { uint at[]; };
layout(push_constant, scalar) uniform Push { Words step; Words x; Words y; uint count; uint add; } pc;

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i < pc.count)
        pc.y.at[i] = pc.x.at[i] * scale + pc.add + pc.step.at[0];
}
