/** Faults by what they are about: each is logged once, with a count while it lasts, and once when it is over. */
import { Fault, type Logger } from '../../common/logger.ts';

export class Faults {
  private readonly log: Logger;
  private readonly known = new Map<string, Fault>();

  constructor(log: Logger) {
    this.log = log;
  }

  raise(what: string, message: string, fields?: object): void {
    let fault = this.known.get(what);
    if (fault === undefined) {
      fault = new Fault(this.log, `pods: ${what}`);
      this.known.set(what, fault);
    }
    fault.raise(message, fields);
  }

  clear(what: string): void {
    this.known.get(what)?.clear();
  }
}
