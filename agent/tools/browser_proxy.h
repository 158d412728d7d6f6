/* The only way out of a page: a SOCKS proxy of its own on loopback, which asks
 * the agent's policy about every name, and about every address it leads to, and
 * itself makes the connection. Whatever a page does (subresources, redirects,
 * frames, websockets, workers, prefetch), all of its TCP comes through here; a
 * browser is told to send no UDP and to resolve no names.
 *
 * Connections of other users of the machine are refused. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_PROXY_H
#define PHOTON_AGENT_TOOLS_BROWSER_PROXY_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct browser_proxy;
struct err;
struct policy;

#define PROXY_CONNECTIONS_MAX 256 /* of one page; more wait in the kernel or are refused */
#define PROXY_DENIED_MAX      32  /* refusals remembered */

int browser_proxy_create(uv_loop_t *loop, const struct policy *policy, struct browser_proxy **out,
                         struct err *e);
int browser_proxy_port(const struct browser_proxy *p);
/* Narrower than the policy, from now on: an array of globs on "host" or "host:port". What is open to others
 * is cut. -E_NOMEM: as it was. */
int browser_proxy_narrow(struct browser_proxy *p, const cJSON *hosts);
/* Would a connection be made, as far as the name says? -E_DENIED with the reason. */
int browser_proxy_ask(const struct browser_proxy *p, const char *host, int port, struct err *e);

/* Why the last connection to this host failed: a stable code ("url_denied", "host_not_found",
 * "connect_failed"), NULL: none failed. */
const char *browser_proxy_failure(const struct browser_proxy *p, const char *host, int port, struct err *e);
/* Calls fn per host:port that was denied since the proxy was made. */
void browser_proxy_denied(const struct browser_proxy *p, void (*fn)(void *arg, const char *host), void *arg);
uint64_t browser_proxy_denials(const struct browser_proxy *p); /* all of them ever */

/* Cuts everything; freed by itself on later turns. Accepts NULL. */
void browser_proxy_close(struct browser_proxy *p);

#endif
