/**
 * The script that a binary starts with. The programs themselves are in pieces beside it, and only those that are needed come into memory:
 * V8 keeps every text that it has read, and twice as much again for having read it.
 */
import { getRawAsset } from 'node:sea';
import { compileFunction } from 'node:vm';

interface Piece {
  exports: unknown;
}

const loaded = new Map<string, Piece>();

function load(name: string): unknown {
  const known = loaded.get(name);
  if (known !== undefined) return known.exports;
  const piece: Piece = { exports: {} };
  // Before it runs: pieces may need each other.
  loaded.set(name, piece);
  // esbuild wrote nothing but ASCII.
  const text = Buffer.from(getRawAsset(name)).toString('latin1');
  const run = compileFunction(text, ['module', 'exports', 'require'], { filename: name });
  run(piece, piece.exports, requireFor);
  return piece.exports;
}

/** Pieces know each other as `./NAME.js`; everything else is Node's own. */
function requireFor(name: string): unknown {
  return name.startsWith('./') ? load(name.slice(2)) : require(name);
}

load('main.js');
