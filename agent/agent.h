/* The running agent: builds the parts, wires them, ends them in order.
 *
 * One loop. At the end of each turn (uv_prepare and uv_check, so that both
 * timers and I/O are covered) outputs are sent, the journal is written and one
 * AgentMessage leaves. SIGTERM or SIGINT: no new calls, running ones may go on
 * for the drain timeout and are then stopped, results are written down, goodbye.
 * The second signal ends at once; the journal makes that safe. SIGHUP: the same at
 * a terminal (it is gone), without one the plug-ins are read again and
 * programs looked for. */
#ifndef PHOTON_AGENT_AGENT_H
#define PHOTON_AGENT_AGENT_H

struct agent_conf;
struct err;

/* Until a signal. 0, or why it could not start. */
int agent_run(const struct agent_conf *conf, struct err *e);
/* Enrols once; prints what happened. -E_DENIED ..., -E_UNAVAIL: hub not reachable. */
int agent_join(const struct agent_conf *conf, const char *token_text, struct err *e);

#endif
