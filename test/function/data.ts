/** Memory for tests of data operations: patterns, a model to compare with, and pages in the wrong order. */
import { expect } from 'vitest';
import { CSB } from './expect.js';
import { type ContextPlace, type Encode, LAYOUT, PAGE, Rig, type RigOptions } from './rig.js';

export const DATA = LAYOUT.data;

/** A function with context 1 running. */
export function ready(options: RigOptions = {}, config = {}) {
  const rig = new Rig(config, options);
  rig.activate();
  return { rig, p: rig.running(1) };
}

/** Different bytes everywhere, with a period that is no power of two. */
export function pattern(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7 + (i >> 8) * 13 + seed) & 0xff;
  return bytes;
}

/** Runs one operation and compares all data memory with a model of it. */
export function expectMemory(
  rig: Rig,
  p: ContextPlace,
  encode: (csb: number) => Encode,
  model: (memory: Uint8Array) => void,
  length: number,
): void {
  const expected = rig.bytes(DATA, length).slice();
  model(expected);
  const csb = rig.csb(p);
  rig.run(p, encode(csb));
  expect(rig.hex(csb, 32)).toBe(CSB.done);
  expect(Buffer.compare(rig.bytes(DATA, length), expected)).toBe(0);
}

/** 64 KiB of data memory, page by page in reversed order, at addresses from here on. */
export const SCATTERED = 0x7_0000_0000;
export function scatter(rig: Rig): void {
  for (let page = 0; page < 16; page++) rig.map(DATA + (15 - page) * PAGE, PAGE, { at: SCATTERED + page * PAGE });
}
/** Reads [address, +length) of the scattered range. */
export function scattered(rig: Rig, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const offset = at + i - SCATTERED;
    bytes[i] = rig.u8[rig.at(DATA + (15 - Math.floor(offset / PAGE)) * PAGE + (offset % PAGE))];
  }
  return bytes;
}
