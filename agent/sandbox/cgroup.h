/* A control group (v2) for each program that a tool starts: one kill reaches all that came of it, wherever it
 * went, and memory and processes can be limited where the machine hands those controllers on.
 *
 * The agent's own group must be its to divide: it is for root, and in a systemd unit with Delegate=. Leaves
 * are numbered, made once and used again; a child is born into its leaf, since moving one costs milliseconds.
 * Where there is none, trees are found by session, mark and parentage alone (agent/tools/children.c). Loop
 * thread. */
#ifndef PHOTON_AGENT_SANDBOX_CGROUP_H
#define PHOTON_AGENT_SANDBOX_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CGROUP_LEAVES_MAX 1024

/* Why there is none, or "" */
const char *cgroup_open(void);
void cgroup_close(void);       /* the leaves that are empty go */
const char *cgroup_base(void); /* the folder of all leaves, or ""; lent until cgroup_close */
bool cgroup_has_memory(void);
bool cgroup_has_pids(void);

/* A free leaf with these limits (0: none) and its folder's descriptor, lent. -1: none to be had. */
int cgroup_take(int64_t memory, int64_t pids, int *out_fd);
bool cgroup_left(int leaf); /* is anybody in it? The dead do not count */
/* SIGKILL to all that is in it. */
void cgroup_kill(int leaf);
/* Its program is gone: another may have it once nothing is left in it. */
void cgroup_give(int leaf);

#endif
