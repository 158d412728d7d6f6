#include "agent/tools/browser_keys.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

enum { MOD_ALT = 1, MOD_CONTROL = 2, MOD_META = 4, MOD_SHIFT = 8 };

static const struct {
        const char *name;
        int bit;
} modifiers[] = {{"Alt+", MOD_ALT},
                 {"Control+", MOD_CONTROL},
                 {"Ctrl+", MOD_CONTROL},
                 {"Meta+", MOD_META},
                 {"Shift+", MOD_SHIFT}};

static const struct named_key {
        const char *key, *code, *text;
        int number; /* of Windows, which pages still read */
} named[] = {
        {"Enter", "Enter", "\r", 13},
        {"Tab", "Tab", NULL, 9},
        {"Escape", "Escape", NULL, 27},
        {"Backspace", "Backspace", NULL, 8},
        {"Delete", "Delete", NULL, 46},
        {"Insert", "Insert", NULL, 45},
        {"ArrowLeft", "ArrowLeft", NULL, 37},
        {"ArrowUp", "ArrowUp", NULL, 38},
        {"ArrowRight", "ArrowRight", NULL, 39},
        {"ArrowDown", "ArrowDown", NULL, 40},
        {"Home", "Home", NULL, 36},
        {"End", "End", NULL, 35},
        {"PageUp", "PageUp", NULL, 33},
        {"PageDown", "PageDown", NULL, 34},
        {"Space", "Space", " ", 32},
        {"F1", "F1", NULL, 112},
        {"F2", "F2", NULL, 113},
        {"F3", "F3", NULL, 114},
        {"F4", "F4", NULL, 115},
        {"F5", "F5", NULL, 116},
        {"F6", "F6", NULL, 117},
        {"F7", "F7", NULL, 118},
        {"F8", "F8", NULL, 119},
        {"F9", "F9", NULL, 120},
        {"F10", "F10", NULL, 121},
        {"F11", "F11", NULL, 122},
        {"F12", "F12", NULL, 123},
};

static const char *after_modifiers(const char *key, int *bits)
{
        *bits = 0;
        for (size_t i = 0; i < sizeof modifiers / sizeof *modifiers; i++) {
                size_t n = strlen(modifiers[i].name);

                if (strncmp(key, modifiers[i].name, n) == 0 && key[n]) {
                        *bits |= modifiers[i].bit;
                        key += n;
                        i = (size_t)-1; /* again from the first */
                }
        }
        return key;
}

static const struct named_key *find(const char *key)
{
        for (size_t i = 0; i < sizeof named / sizeof *named; i++)
                if (strcmp(named[i].key, key) == 0)
                        return &named[i];
        return NULL;
}

bool browser_keys_known(const char *key)
{
        int bits;
        const char *k = after_modifiers(key, &bits);
        size_t n = *k ? str_utf8_len(k, strlen(k)) : 0;

        return find(k) || (n && !k[n] && (unsigned char)*k >= ' ' && *k != 127);
}

static cJSON *event(const char *key, bool down)
{
        int bits;
        const char *k = after_modifiers(key, &bits), *text;
        const struct named_key *n = find(k);
        cJSON *o = cJSON_CreateObject();
        char one = !n && !k[1] ? k[0] : 0;
        int number = n ? n->number : one >= 'a' && one <= 'z' ? one - 'a' + 'A' : one;
        bool ok;

        text = n ? n->text : k;
        if (bits & (MOD_ALT | MOD_CONTROL | MOD_META))
                text = NULL;
        ok = o &&
             cJSON_AddStringToObject(o, "type",
                                     !down  ? "keyUp"
                                     : text ? "keyDown"
                                            : "rawKeyDown") &&
             cJSON_AddNumberToObject(o, "modifiers", bits) &&
             cJSON_AddStringToObject(o, "key", n && strcmp(k, "Space") == 0 ? " " : k) &&
             cJSON_AddStringToObject(o, "code", n ? n->code : "") &&
             cJSON_AddNumberToObject(o, "windowsVirtualKeyCode", number) &&
             (!down || !text || cJSON_AddStringToObject(o, "text", text));
        /* What a menu would do: without it Control+a selects nothing in a headless browser. */
        if (ok && down && (bits & MOD_CONTROL) && number == 'A') {
                cJSON *c = cJSON_AddArrayToObject(o, "commands"), *all = cJSON_CreateString("selectAll");

                ok = c && all && cJSON_AddItemToArray(c, all);
                if (!ok)
                        cJSON_Delete(all);
        }
        if (ok)
                return o;
        cJSON_Delete(o);
        return NULL;
}

void browser_keys_press(struct tab *t, const char *key, int64_t timeout_ms, tab_done *done, void *arg)
{
        cJSON *down = event(key, true), *up = event(key, false);

        if (down && up) {
                tab_send_first(t, "Input.dispatchKeyEvent", down);
        } else {
                cJSON_Delete(down);
                cJSON_Delete(up);
                up = NULL;
        }
        tab_command(t, "Input.dispatchKeyEvent", up, timeout_ms, done, arg);
}
