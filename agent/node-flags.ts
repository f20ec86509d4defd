/**
 * How Node is started for an agent, where we start it, and in the released binary: V8 takes these only when it starts. They keep the
 * space for new objects small and the threads few; SIGUSR1 would open a debugger. The last two make `gc` callable (memory.ts), and let it
 * throw away compiled code that has not run since the last time.
 */
export const AGENT_FLAGS: readonly string[] = [
  '--max-semi-space-size=1',
  '--v8-pool-size=0',
  '--disable-sigusr1',
  '--expose-gc',
  '--bytecode-old-age=1',
];

/** What else an agent is started with: its threads share one area of memory, a megabyte less. Also in systemd/ and k8s/. */
export const AGENT_ENVIRONMENT = { MALLOC_ARENA_MAX: '1' };
