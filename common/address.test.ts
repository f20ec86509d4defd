import { expect, it } from 'vitest';
import { addressRemedy, httpUrl, withoutPassword } from './address.ts';

it.each(['http://r1', 'https://u:p%25@[::1]:9100/x?y', 'http://u:p@ss@r1/'])('%s is an address', (text) => {
  expect(httpUrl(text)?.href).toContain('://');
});

it.each([undefined, '', 'r1:9100', 'ftp://r1', 'http://', 'http://u:100%@r1', 'http://10%x@r1', 'http://u:p/q@r1'])(
  '%s is none',
  (text) => {
    expect(httpUrl(text)).toBeUndefined();
  },
);

it.each([
  ['http://u:secret@r1:9100/a@b', 'http://u:***@r1:9100/a@b'],
  ['http://u:sec@ret@r1/', 'http://u:***@r1/'],
  ['http://u:secret%@r1/', 'http://u:***@r1/'],
  ['http://:secret@r1/', 'http://:***@r1/'],
  [' http:/u:secret@r1/', ' http:/u:***@r1/'],
  ['mqtts://u:secret@r1:8883', 'mqtts://u:***@r1:8883'],
  ['http://u:sec/ret@r1/', 'http://u:***@r1/'],
  ['http://u:sec#r?e/t@r1/', 'http://u:***@r1/'],
  ['http://u:sec ret@r 1/', 'http://u:***@r 1/'],
  ['u:secret@r1:9100', 'u:***@r1:9100'],
  ['http://token@[::1]:9100/a@b', 'http://token@[::1]:9100/a@b'],
  ['http://r1:9100/probe?target=https://x:1@y', 'http://r1:9100/probe?target=https://x:1@y'],
  ['r1:9100/metrics', 'r1:9100/metrics'],
])('%j is shown as %j', (text, shown) => {
  expect(withoutPassword(text)).toBe(shown);
});

it('says what to do as far as it knows', () => {
  const of = (text: string) => addressRemedy(text, 'write http://host');
  expect(of('r 1')).toBe('write http://host');
  expect(of('http://u:100%@r1')).toMatch(/^in its login, % is written %25/);
  expect(of('http://u:100%@r 1')).toMatch(/^write http:\/\/host; in its login, % is written %25/);
});
