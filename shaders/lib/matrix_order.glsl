// SPDX-License-Identifier: MIT
// Which elements of a cooperative matrix a lane's components hold. Vulkan leaves that to the device; a kernel that fills matrices
// by components is made for one order (kernels.toml: order), and vk/vk_matrix_order.c finds out which one a device has.
//
// In all orders a lane holds the same places of k in A and in B. Component (j, s) of a lane, number j * FM_ORDER_K + s:
//     of A   row fm_order_row(lane, j),   place s of the lane's FM_ORDER_K places along k
//     of B   column fm_order_col(lane, j), the same place
// Component i of an accumulator is of row fm_order_row(lane, fm_order_sum_row(lane, i)).
// Along a unit of 32 a lane has FM_ORDER_ELEMENTS places, those of piece number fm_order_k(lane).
#ifndef FM_MATRIX_ORDER_GLSL
#define FM_MATRIX_ORDER_GLSL

#if defined(FM_ORDER_QUADS)
// 16x8x16, subgroups of 32: four lanes share two rows of A and one column of B.
#define MM 16u
#define MN 8u
#define MK 16u
#define FM_ORDER_ELEMENTS 8
#define FM_ORDER_K 4
#define FM_ORDER_ROWS 2
#define FM_ORDER_COLS 1
#define fm_order_row(lane, j) ((lane) / 4u + 8u * (j))
#define fm_order_col(lane, j) ((lane) / 4u)
#define fm_order_k(lane) ((lane) % 4u)
#define fm_order_sum_row(lane, i) ((i) / 2u)
#elif defined(FM_ORDER_LANE_K)
// 8x8x8, subgroups of 8: a lane holds one place of k, with all rows and columns.
#define MM 8u
#define MN 8u
#define MK 8u
#define FM_ORDER_ELEMENTS 4
#define FM_ORDER_K 1
#define FM_ORDER_ROWS 8
#define FM_ORDER_COLS 8
#define fm_order_row(lane, j) (j)
#define fm_order_col(lane, j) (j)
#define fm_order_k(lane) (lane)
#define fm_order_sum_row(lane, i) (i)
#endif

#endif
