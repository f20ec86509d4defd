/** `ndt-aggregator` as one file, which is `ndt-ml` where it is called by that name. */
import { basename } from 'node:path';

if (basename(process.argv0).startsWith('ndt-ml')) void import('../ml/main.ts');
else void import('../aggregator/main.ts');
