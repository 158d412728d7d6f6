/* A change of a text in a few lines: what begins and ends alike is left out.
 * For a glance, not for patch(1). One thread. */
#ifndef PHOTON_CLI_EVENT_DIFF_H
#define PHOTON_CLI_EVENT_DIFF_H

#define EVENT_DIFF_SHOWN 6 /* lines of the old and of the new text, each */

/* Calls `put` per line: mark ' ' is about the change, '-' and '+' are lines of it. before NULL: a new file.
 */
void event_diff(const char *path, const char *before, const char *after,
                void (*put)(void *ctx, char mark, const char *text), void *ctx);

#endif
