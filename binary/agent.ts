/** `ndt-agent` as one file. */
import '../agent/main.ts';
