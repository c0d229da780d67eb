// SPDX-License-Identifier: MIT
// Drawn at three times its size and averaged down, so that edges are smooth.
#include "plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fulmen/writer.h"

#include <stb_easy_font.h>
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

#define FINE 3          // drawn pixels per pixel of the picture, both ways
#define WIDTH 1000      // all in pixels of the picture
#define PANEL_HEIGHT 360
#define HEAD 48         // title
#define FOOT 56         // numbers and label of the x axis
#define LEFT 96
#define RIGHT 190       // names of lines
#define GAP 22          // above each panel's frame
#define TEXT 1.5        // magnification of the font, whose capitals are 7 high
#define TITLE 1.8
#define N_COLOURS 6

struct canvas {
    uint8_t *rgb; // [height * FINE, WIDTH * FINE, 3]
    int height;
};

// Of the x axis: logarithms of its ends. 0 stands one power of two left of the least other number.
struct x_scale {
    double low, high;
    uint64_t least;
};

struct frame {
    double left, right, top, bottom, y_most; // y_most: value at the top
};

static const uint32_t colours[N_COLOURS] = {0x1f5fa8, 0xc8451b, 0x2e8b57, 0x8a3f9e, 0xb8860b, 0x444444};
#define BLACK 0x202020u
#define GREY 0xdadadau

// ---- shapes ------------------------------------------------------------------------------------------------------

static void put(struct canvas *c, int x, int y, uint32_t colour)
{
    if (x < 0 || y < 0 || x >= WIDTH * FINE || y >= c->height * FINE)
        return;
    uint8_t *p = c->rgb + ((size_t)y * WIDTH * FINE + (size_t)x) * 3;
    p[0] = (uint8_t)(colour >> 16);
    p[1] = (uint8_t)(colour >> 8);
    p[2] = (uint8_t)colour;
}

static void box(struct canvas *c, double x0, double y0, double x1, double y1, uint32_t colour)
{
    for (int y = (int)lround(y0 * FINE); y < (int)lround(y1 * FINE); y++)
        for (int x = (int)lround(x0 * FINE); x < (int)lround(x1 * FINE); x++)
            put(c, x, y, colour);
}

static void disc(struct canvas *c, double x, double y, double radius, uint32_t colour)
{
    int r = (int)ceil(radius * FINE), cx = (int)lround(x * FINE), cy = (int)lround(y * FINE);
    for (int dy = -r; dy <= r; dy++)
        for (int dx = -r; dx <= r; dx++)
            if (dx * dx + dy * dy <= radius * FINE * radius * FINE)
                put(c, cx + dx, cy + dy, colour);
}

static void stroke(struct canvas *c, double x0, double y0, double x1, double y1, double radius, uint32_t colour)
{
    int steps = (int)ceil(hypot(x1 - x0, y1 - y0) * FINE) + 1;
    for (int i = 0; i <= steps; i++)
        disc(c, x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps, radius, colour);
}

static double text_width(const char *text, double size)
{
    char copy[128];
    snprintf(copy, sizeof(copy), "%s", text);
    return stb_easy_font_width(copy) * size;
}

// `align`: share of the text's width that lies left of x.
static void put_text(struct canvas *c, double x, double y, double size, double align, const char *text, uint32_t colour)
{
    struct { float x, y, z; uint8_t rgba[4]; } corner[4 * 2048];
    char copy[128];
    snprintf(copy, sizeof(copy), "%s", text);
    int quads = stb_easy_font_print(0, 0, copy, NULL, corner, sizeof(corner));
    x -= text_width(text, size) * align;
    for (int q = 0; q < quads; q++)
        box(c, x + corner[q * 4].x * size, y + corner[q * 4].y * size, x + corner[q * 4 + 2].x * size, y + corner[q * 4 + 2].y * size,
            colour);
}

// ---- axes --------------------------------------------------------------------------------------------------------

static struct x_scale scale_of(const struct plot_panel *panels, size_t n_panels)
{
    struct x_scale s = {.least = UINT64_MAX};
    uint64_t most = 1;
    bool zero = false;
    for (size_t p = 0; p < n_panels; p++)
        for (size_t l = 0; l < panels[p].n_lines; l++)
            for (size_t i = 0; i < panels[p].lines[l].n_points; i++) {
                uint64_t x = panels[p].lines[l].points[i].x;
                zero = zero || x == 0;
                s.least = x > 0 && x < s.least ? x : s.least;
                most = x > most ? x : most;
            }
    if (s.least == UINT64_MAX)
        s.least = 1;
    s.low = log2((double)s.least) - (zero ? 1 : 0);
    s.high = log2((double)most);
    if (s.high - s.low < 1)
        s.high = s.low + 1;
    return s;
}

static double x_of(const struct x_scale *s, const struct frame *f, uint64_t x)
{
    double at = x > 0 ? log2((double)x) : s->low;
    return f->left + (at - s->low) / (s->high - s->low) * (f->right - f->left);
}

static double y_of(const struct frame *f, double y)
{
    return f->bottom - y / f->y_most * (f->bottom - f->top);
}

// A step of 1, 2 or 5 times a power of ten, of which about five reach `most`.
static double tick_of(double most)
{
    double rough = most / 5, power = pow(10, floor(log10(rough))), share = rough / power;
    return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

static const char *power_text(uint64_t x, char out[24])
{
    if (x >= 1u << 20 && x % (1u << 20) == 0)
        snprintf(out, 24, "%lluM", (unsigned long long)(x >> 20));
    else if (x >= 1u << 10 && x % (1u << 10) == 0)
        snprintf(out, 24, "%lluK", (unsigned long long)(x >> 10));
    else
        snprintf(out, 24, "%llu", (unsigned long long)x);
    return out;
}

static void draw_x_axis(struct canvas *c, const struct x_scale *s, const struct frame *f, bool numbers)
{
    char text[24];
    double free_from = -1;
    bool zero = s->low < log2((double)s->least);
    for (int power = zero ? -1 : (int)ceil(s->low); power <= (int)floor(s->high + 1e-9); power++) {
        uint64_t x = power < 0 ? 0 : 1ull << power;
        if (x > 0 && x < s->least)
            continue;
        double at = x_of(s, f, x), half = text_width(power_text(x, text), TEXT) / 2;
        box(c, at - 0.5, f->top, at + 0.5, f->bottom, GREY);
        if (numbers && at - half > free_from) {
            put_text(c, at, f->bottom + 10, TEXT, 0.5, text, BLACK);
            free_from = at + half + 8;
        }
    }
}

static void draw_axes(struct canvas *c, const struct x_scale *s, const struct plot_panel *panel, const struct frame *f, bool numbers)
{
    double tick = tick_of(f->y_most);
    char text[32];
    draw_x_axis(c, s, f, numbers);
    for (double y = 0; y <= f->y_most * 1.0001; y += tick) {
        double at = y_of(f, y);
        box(c, f->left, at - 0.5, f->right, at + 0.5, GREY);
        snprintf(text, sizeof(text), "%.*f", tick < 1 ? (int)ceil(-log10(tick)) : 0, y);
        put_text(c, f->left - 8, at - 5, TEXT, 1, text, BLACK);
    }
    box(c, f->left - 1, f->top, f->left + 1, f->bottom, BLACK);
    box(c, f->left - 1, f->bottom - 1, f->right, f->bottom + 1, BLACK);
    put_text(c, f->left, f->top - 18, TEXT, 0, panel->y_label, BLACK);
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static void draw_line(struct canvas *c, const struct x_scale *s, const struct frame *f, const struct plot_line *line, uint32_t colour)
{
    for (size_t i = 0; i < line->n_points; i++) {
        const struct plot_point *p = &line->points[i];
        double x = x_of(s, f, p->x), y = y_of(f, p->y);
        if (i > 0)
            stroke(c, x_of(s, f, p[-1].x), y_of(f, p[-1].y), x, y, 1, colour);
        if (p->error > 0)
            stroke(c, x, y_of(f, fmax(0, p->y - p->error)), x, y_of(f, fmin(f->y_most, p->y + p->error)), 0.6, colour);
        disc(c, x, y, 3, colour);
    }
}

static void draw_panel(struct canvas *c, const struct x_scale *s, const struct plot_panel *panel, double top, bool last)
{
    struct frame f = {.left = LEFT, .right = WIDTH - RIGHT, .top = top + GAP, .bottom = top + PANEL_HEIGHT - 8, .y_most = 0};
    for (size_t l = 0; l < panel->n_lines; l++)
        for (size_t i = 0; i < panel->lines[l].n_points; i++)
            f.y_most = fmax(f.y_most, panel->lines[l].points[i].y * 1.08);
    if (f.y_most <= 0)
        f.y_most = 1;
    draw_axes(c, s, panel, &f, last);
    for (size_t l = 0; l < panel->n_lines; l++) {
        uint32_t colour = colours[l % N_COLOURS];
        double y = f.top + 10 + (double)l * 22;
        draw_line(c, s, &f, &panel->lines[l], colour);
        stroke(c, f.right + 16, y, f.right + 40, y, 1, colour);
        disc(c, f.right + 28, y, 3, colour);
        put_text(c, f.right + 50, y - 5, TEXT, 0, panel->lines[l].name, BLACK);
    }
}

struct png {
    struct fm_writer *file;
    enum fm_result result;
};

static void put_png(void *user, void *data, int bytes)
{
    struct png *png = user;
    if (png->result == FM_OK)
        png->result = fm_writer_write(png->file, data, (uint64_t)bytes);
}

static enum fm_result write_png(const struct canvas *c, const char *path)
{
    uint8_t *out = malloc((size_t)WIDTH * (size_t)c->height * 3);
    struct png png = {0};
    if (out == NULL)
        return FM_NOMEM;
    for (int y = 0; y < c->height; y++)
        for (int i = 0; i < WIDTH * 3; i++) {
            unsigned sum = 0;
            for (int dy = 0; dy < FINE; dy++)
                for (int dx = 0; dx < FINE; dx++)
                    sum += c->rgb[((size_t)(y * FINE + dy) * WIDTH * FINE + (size_t)(i / 3 * FINE + dx)) * 3 + (size_t)(i % 3)];
            out[(size_t)y * WIDTH * 3 + (size_t)i] = (uint8_t)(sum / (FINE * FINE));
        }
    png.result = fm_writer_open(path, 0, &png.file);
    if (png.result == FM_OK && stbi_write_png_to_func(put_png, &png, WIDTH, c->height, 3, out, WIDTH * 3) == 0)
        png.result = FM_NOMEM;
    free(out);
    if (png.result == FM_OK)
        png.result = fm_writer_finish(&png.file);
    fm_writer_discard(&png.file);
    return png.result;
}

enum fm_result tool_plot(const char *path, const char *title, const char *x_label, const struct plot_panel *panels, size_t n_panels)
{
    struct canvas c = {.height = HEAD + (int)n_panels * PANEL_HEIGHT + FOOT};
    size_t bytes = (size_t)WIDTH * FINE * (size_t)c.height * FINE * 3;
    struct x_scale scale = scale_of(panels, n_panels);
    if ((c.rgb = malloc(bytes)) == NULL)
        return FM_NOMEM;
    memset(c.rgb, 255, bytes);
    put_text(&c, LEFT, 16, TITLE, 0, title, BLACK);
    for (size_t p = 0; p < n_panels; p++)
        draw_panel(&c, &scale, &panels[p], HEAD + (double)p * PANEL_HEIGHT, p + 1 == n_panels);
    put_text(&c, (LEFT + WIDTH - RIGHT) / 2.0, c.height - 24, TEXT, 0.5, x_label, BLACK);
    enum fm_result result = write_png(&c, path);
    free(c.rgb);
    return result;
}
