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

/**
 * What else an agent is started with, for the C library's `malloc`: its threads share one area of memory, and what is freed goes
 * back to the kernel sooner: 0.3 to 1 MB less, and a fifth more processor time in a drain at full speed. Without it the holes stay that
 * V8's compilers leave behind, and that nobody fills.
 * Blocks of 32 KiB and more are the kernel's own [bytes], of the free end of the heap 64 KiB stay, and it grows by 16 KiB more than asked.
 * Also in systemd/, k8s/ and packaging/docker/.
 */
export const AGENT_ENVIRONMENT = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '32768',
  MALLOC_TRIM_THRESHOLD_: '65536',
  MALLOC_TOP_PAD_: '16384',
};
