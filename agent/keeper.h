/* Ends what an agent leaves behind that was killed: the programs of its calls, those too that left their
 * session, and those that no parent, no group and no death signal leads to any more.
 *
 * A process of its own, of this same program, that holds one end of a pipe and waits until the other end is
 * gone with the agent. Then it kills the calls' control groups where there are some, and every process that
 * bears the mark of one of this agent's calls (PHOTON_OUTPUT below its scratch folder) and was there at that
 * moment, or came of one that was: an agent that was started again meanwhile has calls of its own, which are
 * left alone. One that stops orderly leaves nothing to be ended.
 *
 * Not found: without a control group, a process that has taken off its mark. The agent's next start looks for
 * those again by what its journal holds. */
#ifndef PHOTON_AGENT_KEEPER_H
#define PHOTON_AGENT_KEEPER_H

#include <stddef.h>
#include <stdint.h>

struct err;

/* Once, on the loop's thread, before the first call. The pipe stays open as long as the agent lives.
 * cgroup: the folder of all leaves, or "". -E_IO: no such process could be started. */
int keeper_start(const char *scratch_root, const char *cgroup, struct err *e);

/* SIGKILL to every process with the mark of a call below scratch_root that began at `end` or before (ticks
 * since the boot, as in /proc/PID/stat), and to those with the mark that came of one of them. How many. */
size_t keeper_end(const char *scratch_root, uint64_t end);

/* `photon-agent keeper SCRATCH CGROUP`, the pipe as standard input. The exit status. */
int keeper_main(int argc, char **argv);

#endif
