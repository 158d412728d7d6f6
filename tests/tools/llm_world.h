/* What the tests of llm.chat share: a fake job, a stub, and an endpoint "e" that lies there. */
#ifndef PHOTON_TESTS_TOOLS_LLM_WORLD_H
#define PHOTON_TESTS_TOOLS_LLM_WORLD_H

#include "tests/tools/fake.h"
#include "tests/tools/stub.h"

#define CHAT  "llm.chat"
#define KEY   "sk-test-0123456789"
#define HELLO "{\"prompt\":\"Say hello\"}"
/* One chunk of OpenAI's: delta and finish_reason as JSON. */
#define CHUNK(d, end)                                                                                        \
        "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"m1-0613\",\"choices\":[{"     \
        "\"index\":0,\"delta\":" d ",\"finish_reason\":" end "}]}\n\n"

struct world {
        struct fake f;
        struct stub s;
};

extern const char *const hello[]; /* a whole answer of OpenAI's: "Hello é!" */

/* `more`: lines of YAML added to the endpoint. It has the models m1 (with a price) and m2. */
void begin(struct world *w, const char *kind, const char *more, const struct stub_reply *script, size_t n);
void begin_policy(struct world *w, const char *policy, const char *kind, const char *more,
                  const struct stub_reply *script, size_t n);
void finish(struct world *w);

bool told(const struct world *w, const char *event); /* is it in the events? */
bool stdout_is(const struct world *w, const char *text);
bool asked(const struct world *w, size_t i, const char *text); /* is it in request i? */
double usage(const struct world *w, const char *key);

#endif
