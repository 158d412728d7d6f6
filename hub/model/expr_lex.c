#include "hub/model/expr_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define NUMBER_TEXT_MAX 350 /* longest sensible number: 1.8e308 written out, and some */

static bool ident_start(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool ident_char(char c)
{
        return ident_start(c) || digit(c) || c == '-';
}

static int fail(struct lexer *lx, size_t pos, const char *what)
{
        return err_at(lx->e, E_INVAL, 1, (int)pos + 1, "%s", what);
}

const char *token_describe(enum token_kind k)
{
        static const char *const names[] = {
                [T_END] = "the end",    [T_NUMBER] = "a number", [T_STRING] = "a string",
                [T_IDENT] = "a name",   [T_LPAREN] = "\"(\"",    [T_RPAREN] = "\")\"",
                [T_LBRACKET] = "\"[\"", [T_RBRACKET] = "\"]\"",  [T_DOT] = "\".\"",
                [T_STAR] = "\"*\"",     [T_COMMA] = "\",\"",     [T_NOT] = "\"!\"",
                [T_EQ] = "\"==\"",      [T_NE] = "\"!=\"",       [T_LT] = "\"<\"",
                [T_LE] = "\"<=\"",      [T_GT] = "\">\"",        [T_GE] = "\">=\"",
                [T_AND] = "\"&&\"",     [T_OR] = "\"||\"",
        };

        return names[k];
}

/* A token after which a value cannot start, so that '.' is property access. */
static bool ends_value(enum token_kind k)
{
        return k == T_NUMBER || k == T_STRING || k == T_IDENT || k == T_RPAREN || k == T_RBRACKET ||
               k == T_STAR;
}

/* Sign, digits, fraction, exponent: strtod with its extras (hex floats, "nan",
 * locale-free since the text is ASCII digits) kept out. */
static bool decimal_shape(const char *s, size_t len)
{
        size_t i = 0, digits = 0;

        if (i < len && (s[i] == '+' || s[i] == '-'))
                i++;
        for (; i < len && digit(s[i]); i++)
                digits++;
        if (i < len && s[i] == '.')
                for (i++; i < len && digit(s[i]); i++)
                        digits++;
        if (digits == 0)
                return false;
        if (i < len && (s[i] == 'e' || s[i] == 'E')) {
                i++;
                if (i < len && (s[i] == '+' || s[i] == '-'))
                        i++;
                if (i == len)
                        return false;
                while (i < len && digit(s[i]))
                        i++;
        }
        return i == len;
}

static double radix_number(const char *s, size_t len, int radix)
{
        double v = 0;

        for (size_t i = 2; i < len; i++) {
                int c = tolower((unsigned char)s[i]);
                int d = digit((char)c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;

                if (d >= radix)
                        return NAN;
                v = v * radix + d;
        }
        return len > 2 ? v : NAN;
}

double expr_text_number(const char *s, size_t len)
{
        char tmp[NUMBER_TEXT_MAX + 1];

        while (len && isspace((unsigned char)*s)) {
                s++;
                len--;
        }
        while (len && isspace((unsigned char)s[len - 1]))
                len--;
        if (len == 0)
                return 0;
        if (len > NUMBER_TEXT_MAX)
                return NAN;
        memcpy(tmp, s, len);
        tmp[len] = '\0';
        if (decimal_shape(tmp, len))
                return strtod(tmp, NULL);
        if (tmp[0] == '0' && tmp[1] == 'x')
                return radix_number(tmp, len, 16);
        if (tmp[0] == '0' && tmp[1] == 'o')
                return radix_number(tmp, len, 8);
        if (strcmp(tmp, "Infinity") == 0)
                return INFINITY;
        if (strcmp(tmp, "-Infinity") == 0)
                return -INFINITY;
        return NAN;
}

static int lex_number(struct lexer *lx)
{
        size_t i = lx->pos;

        /* Everything that could belong to a number, so that "1x" is one mistake, not two tokens. */
        if (lx->src[i] == '+' || lx->src[i] == '-')
                i++;
        while (i < lx->len) {
                char c = lx->src[i];
                bool exponent_sign = (c == '+' || c == '-') && tolower((unsigned char)lx->src[i - 1]) == 'e';

                if (!ident_start(c) && !digit(c) && c != '.' && !exponent_sign)
                        break;
                i++;
        }
        lx->tok.kind = T_NUMBER;
        lx->tok.text = lx->src + lx->pos;
        lx->tok.len = i - lx->pos;
        lx->tok.num = expr_text_number(lx->tok.text, lx->tok.len);
        if (isnan(lx->tok.num))
                return err_at(lx->e, E_INVAL, 1, (int)lx->pos + 1, "\"%.*s\" is not a number",
                              lx->tok.len > 40 ? 40 : (int)lx->tok.len, lx->tok.text);
        lx->pos = i;
        return 0;
}

static int lex_string(struct lexer *lx)
{
        size_t start = lx->pos + 1, i = start;

        for (;; i++) {
                if (i >= lx->len)
                        return fail(lx, lx->pos, "this string has no closing quote (')");
                if (lx->src[i] != '\'')
                        continue;
                if (i + 1 < lx->len && lx->src[i + 1] == '\'')
                        i++;
                else
                        break;
        }
        lx->tok.kind = T_STRING;
        lx->tok.text = lx->src + start;
        lx->tok.len = i - start;
        lx->pos = i + 1;
        return 0;
}

static void lex_ident(struct lexer *lx)
{
        size_t i = lx->pos;

        while (i < lx->len && ident_char(lx->src[i]))
                i++;
        lx->tok.kind = T_IDENT;
        lx->tok.text = lx->src + lx->pos;
        lx->tok.len = i - lx->pos;
        lx->pos = i;
}

/* Operators of one or two characters. */
static int lex_operator(struct lexer *lx, char c, char after)
{
        static const struct {
                char first, second;
                uint8_t kind;
        } ops[] = {
                {'=', '=', T_EQ},     {'!', '=', T_NE},   {'<', '=', T_LE},   {'>', '=', T_GE},
                {'&', '&', T_AND},    {'|', '|', T_OR},   {'!', 0, T_NOT},    {'<', 0, T_LT},
                {'>', 0, T_GT},       {'(', 0, T_LPAREN}, {')', 0, T_RPAREN}, {'[', 0, T_LBRACKET},
                {']', 0, T_RBRACKET}, {',', 0, T_COMMA},  {'.', 0, T_DOT},
        };

        for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
                if (ops[i].first != c || (ops[i].second && ops[i].second != after))
                        continue;
                lx->tok.kind = (enum token_kind)ops[i].kind;
                lx->pos += ops[i].second ? 2 : 1;
                return 0;
        }
        switch (c) {
        case '"':
                return fail(lx, lx->pos, "strings stand in single quotes: 'text'");
        case '=':
                return fail(lx, lx->pos, "a single \"=\" means nothing here: compare with \"==\"");
        case '&':
                return fail(lx, lx->pos, "a single \"&\" means nothing here: write \"&&\"");
        case '|':
                return fail(lx, lx->pos, "a single \"|\" means nothing here: write \"||\"");
        case '+':
        case '-':
        case '*':
        case '/':
        case '%':
                return fail(lx, lx->pos, "expressions have no arithmetic: compute it in a step");
        case '$':
                return fail(lx, lx->pos, "\"${{\" cannot stand inside an expression: write the name alone");
        case '?':
        case ':':
                return fail(lx, lx->pos, "there is no \"? :\": write  condition && value || other");
        default:
                if (c >= 0x21 && c < 0x7f)
                        return err_at(lx->e, E_INVAL, 1, (int)lx->pos + 1, "\"%c\" means nothing here", c);
                return err_at(lx->e, E_INVAL, 1, (int)lx->pos + 1,
                              "a byte 0x%02x outside of a string means nothing here", (unsigned char)c);
        }
}

int lex_next(struct lexer *lx)
{
        enum token_kind before = lx->tok.kind;
        char c, after;

        while (lx->pos < lx->len && isspace((unsigned char)lx->src[lx->pos]))
                lx->pos++;
        lx->tok = (struct token){.kind = T_END, .pos = lx->pos};
        if (lx->pos >= lx->len)
                return 0;
        c = lx->src[lx->pos];
        after = lx->pos + 1 < lx->len ? lx->src[lx->pos + 1] : '\0';
        if (c == '\'')
                return lex_string(lx);
        /* A property may start with a digit: steps.1.outputs */
        if (ident_start(c) || (before == T_DOT && digit(c))) {
                lex_ident(lx);
                return 0;
        }
        if (digit(c) || (c == '.' && digit(after) && !ends_value(before)) ||
            ((c == '-' || c == '+') && !ends_value(before) && (digit(after) || after == '.')))
                return lex_number(lx);
        if (c == '*' && (before == T_DOT || before == T_LBRACKET)) {
                lx->tok.kind = T_STAR;
                lx->pos++;
                return 0;
        }
        return lex_operator(lx, c, after);
}
