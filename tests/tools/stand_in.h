/* A call of an AI tool whose program is a stand-in of tests/peers. */
#ifndef PHOTON_TESTS_TOOLS_STAND_IN_H
#define PHOTON_TESTS_TOOLS_STAND_IN_H

#include "tests/tools/fake.h"

/* fake_init; `script` of tests/peers becomes `name`, the first on the PATH; home holds the folder "work". */
void stand_in_init(struct fake *f, const char *policy, const char *name, const char *script);
/* Runs a call in work; `more` are further members of the input, each with a comma before it, or "". */
void stand_in_call(struct fake *f, const char *tool, const char *prompt, const char *more);
void stand_in_start(struct fake *f, const char *tool, const char *prompt, const char *more);

/* How many events of this type have this text in their line. */
int stand_in_events(const struct fake *f, const char *type, const char *text);
/* Turns of the loop until such an event has come. */
void stand_in_until(struct fake *f, const char *type, const char *text);
/* outputs.KEY as JSON text, or "". */
const char *stand_in_json(const struct fake *f, const char *key);

#endif
