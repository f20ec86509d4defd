import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FULL, IN_DOUBT, LOCKED, planWrites, underTest } from '../../test/failing-disk.ts';
import { drainAll, expectBalanced, FIRST, openOutbox, records } from '../../test/outbox.ts';
import { tempDir } from '../../test/tempdir.ts';
import type { Outbox } from '../outbox.ts';
import { copyOf, VERSIONS_AHEAD } from './account.ts';
import { OutboxDb } from './database.ts';

const seqsOf = (outbox: Outbox, limit: number) => outbox.read('all', limit).map(({ seq }) => seq);

function running(dir = tempDir()) {
  const { options, clock, told, disk } = underTest(dir);
  const outbox = openOutbox(dir, options);
  return {
    outbox,
    told,
    dir,
    disk,
    options,
    tryAgain: () => {
      clock.monotonic += 60_000;
      outbox.maintain();
    },
    whole: () => {
      expectBalanced(outbox);
      expect(outbox.whereabouts(), told.text()).toEqual({ where: 'disk', cause: undefined });
      expect(outbox.stats().repairs, told.text()).toBe(0);
    },
  };
}

describe('a commit that failed and was made', () => {
  it('of new records: those that were delivered from memory meanwhile are delivered, and no damage', () => {
    const { outbox, told, tryAgain, whole } = running();
    outbox.append(records(5));
    planWrites(IN_DOUBT);
    outbox.append(records(5));
    expect(outbox.stats()).toMatchObject({ where: 'memory', memory: { records: 5 } });
    outbox.settle({ acked: seqsOf(outbox, 3), rejected: [] });
    tryAgain();
    whole();
    expect(outbox.ledger(), told.text()).toMatchObject({ produced: 10, delivered: 3, pending: 7, dropped: {} });
  });

  it('of a settlement: it counts once', () => {
    const { outbox, told, tryAgain, whole } = running();
    outbox.append(records(10));
    const seqs = seqsOf(outbox, 5);
    planWrites(IN_DOUBT);
    outbox.settle({ acked: seqs.slice(1), rejected: [{ seq: FIRST, reason: 'no' }] });
    expect(outbox.ledger()).toMatchObject({ delivered: 4, rejected: { no: 1 }, pending: 5 });
    tryAgain();
    whole();
    expect(outbox.ledger(), told.text()).toMatchObject({ delivered: 4, rejected: { no: 1 }, pending: 5, dropped: {} });
  });

  it('of what was settled while the disk was full: it counts once', () => {
    const { outbox, told, tryAgain, whole } = running();
    outbox.append(records(10));
    const seqs = seqsOf(outbox, 5);
    // Full; opened again; and the deletion of what was confirmed.
    const plan = planWrites(FULL, 'well', IN_DOUBT);
    outbox.append(records(1));
    outbox.settle({ acked: seqs, rejected: [] });
    tryAgain();
    tryAgain();
    expect(plan).toEqual([]);
    whole();
    expect(outbox.ledger(), told.text()).toMatchObject({ delivered: 5, pending: 6, dropped: {} });
  });

  it('of the file being opened again: nothing is added twice, however often', () => {
    const { outbox, told, tryAgain, whole } = running();
    outbox.append(records(10));
    const seqs = seqsOf(outbox, 5);
    const plan = planWrites(IN_DOUBT, IN_DOUBT, IN_DOUBT, FULL, IN_DOUBT);
    outbox.settle({ acked: seqs, rejected: [] });
    outbox.append(records(2));
    for (let i = 0; i < 5; i += 1) tryAgain();
    expect(plan).toEqual([]);
    whole();
    expect(outbox.ledger(), told.text()).toMatchObject({ produced: 12, delivered: 5, pending: 7, dropped: {} });
  });
});

describe('a file that was not there at the start', () => {
  const joining = () => {
    const dir = tempDir();
    const before = openOutbox(dir);
    before.append(records(20));
    before.close();
    const { options, clock, told, disk } = underTest(dir);
    disk.mounted = false;
    const outbox = openOutbox(dir, options);
    outbox.append(records(5));
    disk.mounted = true;
    const tryAgain = () => {
      clock.monotonic += 60_000;
      outbox.maintain();
    };
    return { dir, outbox, told, tryAgain };
  };

  it('this life is added to its account once, where the commit of that failed and was made', () => {
    const { outbox, told, tryAgain } = joining();
    planWrites(IN_DOUBT);
    tryAgain();
    expect(outbox.whereabouts().cause).toBe('io');
    outbox.append(records(1));
    tryAgain();
    expect(outbox.whereabouts().cause, told.text()).toBeUndefined();
    expect({ ...outbox.ledger(), waits: outbox.count() }, told.text()).toMatchObject({ produced: 26, pending: 26, waits: 26, dropped: {} });
    expect(drainAll(outbox).length).toBe(26);
    expect(outbox.stats().repairs).toBe(0);
  });

  it('a repair of it is told, where the first commit after it fails', () => {
    const { dir, outbox, told, tryAgain } = joining();
    rmSync(join(dir, 'outbox.db'));
    planWrites('well', FULL);
    tryAgain();
    expect(outbox.whereabouts().cause).toBe('full');
    tryAgain();
    expect(outbox.whereabouts().cause, told.text()).toBeUndefined();
    expect(outbox.stats().repairs).toBe(1);
    expect(outbox.notices(100).filter(({ body }) => body.includes('"type":"repair"')).length).toBe(1);
    expectBalanced(outbox);
  });
});

it('what another program drops while the file is locked is no damage, and neither is a late confirmation of it', () => {
  const { dir, outbox, told, tryAgain, whole } = running();
  outbox.append(records(10));
  const inFlight = seqsOf(outbox, 6);
  planWrites(LOCKED);
  outbox.append(records(1));
  expect(outbox.whereabouts().cause).toBe('locked');
  const confirmed = inFlight.slice(0, 1);
  outbox.settle({ acked: confirmed, rejected: [] });
  // As `buffer drop` does it, with a disk that needs longer than a quarter of a second.
  const other = new OutboxDb(join(dir, 'outbox.db'), 2 ** 30);
  other.db
    .transaction(() => {
      other.load();
      if (other.persisted === undefined) throw new Error('no account');
      const account = copyOf(other.persisted);
      account.dropped.test = other.remove(FIRST + 1, FIRST + 4);
      account.version += VERSIONS_AHEAD;
      other.save(account, 0, other.ownTime());
    })
    .immediate();
  other.close();
  tryAgain();
  whole();
  expect(outbox.ledger(), told.text()).toMatchObject({ produced: 11, delivered: 1, dropped: { test: 4 }, pending: 6 });
  outbox.settle({ acked: inFlight.slice(1), rejected: [] });
  whole();
  expect(outbox.ledger(), told.text()).toMatchObject({ delivered: 2, dropped: { test: 4 }, pending: 5 });
});
