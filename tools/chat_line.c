// SPDX-License-Identifier: MIT
#include "chat_line.h"

#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "tool.h"

// Bracketed paste: the terminal writes these two around what is pasted, once it is asked to.
#define PASTE_BEGIN "\033[200~"
#define PASTE_END L"\033[201~"
#define PASTE_END_CHARS 6
#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
#define AT_ONCE_MS 20 // lines that follow one another that fast are no typing

struct chat_line {
    EditLine *edit;
    History *past;
    bool brackets; // the terminal knows bracketed paste
    bool goes_on;  // the line at hand continues a message
    char *text;    // of the message so far
    size_t bytes, cap;
};

// ---- the terminal --------------------------------------------------------------------------------------------------

static struct termios before; // the terminal, as it was found
static bool known;
static bool brackets_asked; // it was asked to mark what is pasted

// From a signal handler: the process ends without closing its editor.
static void restore_terminal(void)
{
    if (known)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    ssize_t written = brackets_asked ? write(STDOUT_FILENO, PASTE_OFF, strlen(PASTE_OFF)) : 0;
    (void)written;
}

// The editor reads and shows characters of the locale, and messages are UTF-8: where the locale is another, or none, its
// characters are those of C.UTF-8.
static void choose_characters(void)
{
    static const char *const names[] = {"", "C.UTF-8", "C.utf8", "en_US.UTF-8"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (setlocale(LC_CTYPE, names[i]) != NULL && strcmp(nl_langinfo(CODESET), "UTF-8") == 0)
            return;
}

static void ask_for_brackets(const struct chat_line *l, bool on)
{
    if (l->brackets) {
        brackets_asked = true;
        fputs(on ? PASTE_ON : PASTE_OFF, stdout);
        fflush(stdout);
    }
}

// ---- keys ----------------------------------------------------------------------------------------------------------

static char *prompt(EditLine *edit)
{
    static char first[] = "> ", next[] = ". ";
    struct chat_line *l = NULL;
    el_get(edit, EL_CLIENTDATA, &l);
    return l != NULL && l->goes_on ? next : first;
}

// What was pasted goes into the line as it is: its line feeds do not send it.
static unsigned char on_paste(EditLine *edit, int key)
{
    wchar_t c, last[PASTE_END_CHARS] = {0}, *text = NULL;
    size_t count = 0, cap = 0, kept = 0;
    bool ended = false, enough = true;
    (void)key;
    // To its end, whatever happens: what is left would be taken for keys.
    while (!ended && el_wgetc(edit, &c) == 1) {
        wmemmove(last, last + 1, PASTE_END_CHARS - 1);
        last[PASTE_END_CHARS - 1] = c;
        ended = wmemcmp(last, PASTE_END, PASTE_END_CHARS) == 0;
        if (enough && count + 2 > cap) {
            wchar_t *more = realloc(text, (cap = cap * 2 + 1024) * sizeof(*text));
            enough = more != NULL;
            text = enough ? more : text;
        }
        if (enough)
            text[count++] = c;
    }
    if (ended && enough)
        count -= PASTE_END_CHARS;
    if (!enough)
        count = 0;
    for (size_t i = 0; i < count; i++) {
        if (text[i] == L'\r' && i + 1 < count && text[i + 1] == L'\n')
            continue;
        c = text[i] == L'\r' ? L'\n' : text[i];
        if (c == L'\n' || c == L'\t' || (c >= L' ' && c != 0x7f)) // what the terminal would obey is left out
            text[kept++] = c;
    }
    while (kept > 0 && text[kept - 1] == L'\n')
        kept--;
    bool fits = enough && kept == 0;
    if (kept > 0) {
        text[kept] = L'\0';
        fits = el_winsertstr(edit, text) == 0;
    }
    free(text);
    return fits ? CC_REFRESH : CC_REFRESH_BEEP;
}

// Enter, on a terminal that does not mark what is pasted: more that is there already belongs to the same message.
static unsigned char on_enter(EditLine *edit, int key)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    (void)key;
    if (poll(&input, 1, AT_ONCE_MS) == 1 && (input.revents & POLLIN) != 0 && el_insertstr(edit, "\n") == 0)
        return CC_REFRESH;
    fputc('\n', stdout);
    fflush(stdout);
    return CC_NEWLINE;
}

static void bind_keys(struct chat_line *l)
{
    el_set(l->edit, EL_ADDFN, "fulmen-paste", "what the terminal marks as pasted", on_paste);
    el_set(l->edit, EL_BIND, PASTE_BEGIN, "fulmen-paste", NULL);
    if (l->brackets)
        return;
    el_set(l->edit, EL_ADDFN, "fulmen-enter", "sends a message, or begins a new line of what is pasted", on_enter);
    el_set(l->edit, EL_BIND, "^J", "fulmen-enter", NULL);
    el_set(l->edit, EL_BIND, "^M", "fulmen-enter", NULL);
}

// ---- life ----------------------------------------------------------------------------------------------------------

struct chat_line *chat_line_open(void)
{
    struct chat_line *l = calloc(1, sizeof(*l));
    const char *terminal = getenv("TERM");
    HistEvent event;
    if (l == NULL)
        return NULL;
    choose_characters();
    known = tcgetattr(STDIN_FILENO, &before) == 0;
    l->brackets = isatty(STDOUT_FILENO) && terminal != NULL && terminal[0] != '\0' && strcmp(terminal, "dumb") != 0;
    l->edit = el_init("fulmen", stdin, stdout, stderr);
    l->past = history_init();
    if (l->edit == NULL || l->past == NULL) {
        chat_line_close(&l);
        return NULL;
    }
    history(l->past, &event, H_SETSIZE, 500);
    el_set(l->edit, EL_CLIENTDATA, l);
    el_set(l->edit, EL_PROMPT, prompt);
    el_set(l->edit, EL_EDITOR, "emacs");
    el_set(l->edit, EL_HIST, history, l->past);
    bind_keys(l);
    el_source(l->edit, NULL);
    return l;
}

void chat_line_close(struct chat_line **editor)
{
    struct chat_line *l = *editor;
    if (l == NULL)
        return;
    *editor = NULL;
    if (l->past != NULL)
        history_end(l->past);
    if (l->edit != NULL)
        el_end(l->edit);
    free(l->text);
    free(l);
}

// ---- reading -------------------------------------------------------------------------------------------------------

static bool append(struct chat_line *l, const char *line, size_t bytes)
{
    if (l->bytes + bytes + 1 > l->cap) {
        size_t cap = (l->bytes + bytes + 1) * 2;
        char *more = realloc(l->text, cap);
        if (more == NULL)
            return false;
        l->text = more;
        l->cap = cap;
    }
    for (size_t i = 0; i < bytes; i++)
        if (line[i] != '\0') // messages end at a NUL
            l->text[l->bytes++] = line[i];
    l->text[l->bytes] = '\0';
    return true;
}

// A backslash at the end, that is not itself behind one, becomes a line feed: more of the message comes.
static bool goes_on(struct chat_line *l)
{
    size_t slashes = 0;
    while (slashes < l->bytes && l->text[l->bytes - 1 - slashes] == '\\')
        slashes++;
    if (slashes % 2 == 1)
        l->text[l->bytes - 1] = '\n';
    return slashes % 2 == 1;
}

enum chat_said chat_line_read(struct chat_line *l, char **out_text)
{
    HistEvent event;
    l->bytes = 0;
    l->goes_on = false;
    if (!append(l, "", 0))
        return CHAT_NO_MEMORY;
    do {
        int count = 0;
        tool_last_words(restore_terminal);
        ask_for_brackets(l, true);
        const char *line = el_gets(l->edit, &count);
        ask_for_brackets(l, false);
        tool_last_words(NULL);
        if (line == NULL || count <= 0 || tool_interrupted())
            return CHAT_LEFT;
        if (!append(l, line, (size_t)count - (line[count - 1] == '\n')))
            return CHAT_NO_MEMORY;
        if (l->bytes > 0 && l->text[l->bytes - 1] == '\r')
            l->text[--l->bytes] = '\0';
        l->goes_on = goes_on(l);
    } while (l->goes_on);
    if (l->bytes > 0)
        history(l->past, &event, H_ENTER, l->text);
    *out_text = strdup(l->text);
    return *out_text != NULL ? CHAT_SAID : CHAT_NO_MEMORY;
}
