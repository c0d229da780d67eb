// SPDX-License-Identifier: MIT
// Pictures of measurements: panels of lines over one x axis, as a PNG file.
#ifndef FM_TOOLS_PLOT_H
#define FM_TOOLS_PLOT_H

#include "fulmen/base.h"

struct plot_point {
    uint64_t x;
    double y, error; // a bar of y - error to y + error; 0 = none
};

struct plot_line {
    const char *name;
    const struct plot_point *points; // x rising
    size_t n_points;
};

// Lines that share a y axis, which begins at 0.
struct plot_panel {
    const char *y_label;
    const struct plot_line *lines;
    size_t n_lines; // at most 6: colours
};

// Panels one below the other over one x axis in powers of two (0 stands left of the least other x).
// FM_NOMEM, or why the file cannot be written (fm_writer_open).
enum fm_result tool_plot(const char *path, const char *title, const char *x_label, const struct plot_panel *panels, size_t n_panels);

#endif
