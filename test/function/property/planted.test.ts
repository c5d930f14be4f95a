import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Mapping } from '../../../src/memory/address-space.js';
import type { Window } from '../../../src/memory/window.js';
import { FUNCTION_PASID, OWN, setups } from './estate.js';
import { Lockstep } from './lockstep.js';
import { programs } from './program.js';
import { Violation } from './reference-context.js';
import type { Sabotage } from './witness.js';

/** Most cases that a fault may hide in. */
const CASES = 1000;

/** Memory whose block operations go wrong. */
function leaky(methods: Partial<Pick<Uint8Array, 'copyWithin' | 'set' | 'fill'>>): Sabotage {
  return {
    window: (window: Window) => {
      Object.assign(window, { u8: Object.assign(new Uint8Array(window.u8.buffer), methods) });
    },
  };
}

const plain = Uint8Array.prototype;

const FAULTS: [string, Sabotage][] = [
  [
    'a copy within one window that writes one byte too much',
    leaky({
      copyWithin(this: Uint8Array, to, from, end) {
        return plain.copyWithin.call(this, to, from, (end as number) + 1) as Uint8Array<ArrayBuffer>;
      },
    }),
  ],
  [
    'a copy that starts one byte too early',
    leaky({
      copyWithin(this: Uint8Array, to, from, end) {
        return plain.copyWithin.call(this, to - 1, from - 1, end) as Uint8Array<ArrayBuffer>;
      },
    }),
  ],
  [
    'a copy of 4 KiB and more that writes one byte too much when its length is odd',
    leaky({
      copyWithin(this: Uint8Array, to, from, end) {
        const length = (end as number) - from;
        return plain.copyWithin.call(this, to, from, from + length + (length > 4096 ? length & 1 : 0)) as Uint8Array<ArrayBuffer>;
      },
    }),
  ],
  [
    'a write across windows or of immediate data that is one byte too long',
    leaky({
      set(this: Uint8Array, bytes, offset = 0) {
        plain.set.call(this, bytes, offset);
        this[offset + bytes.length] ^= 1;
      },
    }),
  ],
  [
    'a fill that is one byte too long',
    leaky({
      fill(this: Uint8Array, value, start, end) {
        return plain.fill.call(this, value, start, (end as number) + 1) as Uint8Array<ArrayBuffer>;
      },
    }),
  ],
  [
    'a mapping that grants one byte too much',
    {
      spaces: (spaces) => {
        for (const pasid of [OWN, FUNCTION_PASID, 20, 21, 22, 23, 100, 101, 102, 103]) {
          const space = spaces.of(pasid);
          if (!space) continue;
          for (const mapping of space) if (!space.at(mapping.end)) mapping.end++;
          const { unmap } = space;
          space.unmap = (address, length) => {
            for (const mapping of space) if (mapping.start === address) mapping.end = address + length;
            return unmap.call(space, address, length);
          };
        }
      },
    },
  ],
];

/** Runs random programs until one fails. @returns which case that was, and why */
function hunt(sabotage: Sabotage): { cases: number; cause: unknown } {
  const result = fc.check(
    fc.property(setups({ contexts: 3, large: 0 }), programs({ contexts: 3, large: false, events: 50 }), (setup, events) => {
      Lockstep.run(setup, events, sabotage);
    }),
    { numRuns: CASES, endOnFailure: true },
  );
  return { cases: result.failed ? result.numRuns : Number.POSITIVE_INFINITY, cause: result.errorInstance };
}

describe('a planted fault is found within 1,000 random programs', () => {
  it.each(FAULTS)('%s', (_name, sabotage) => {
    const { cases, cause } = hunt(sabotage);
    expect(cause).toBeInstanceOf(Violation);
    expect(cases).toBeLessThanOrEqual(CASES);
  });

  it('a signal that falls by two', () => {
    const { decrementSignal } = Mapping.prototype;
    Mapping.prototype.decrementSignal = function (address) {
      decrementSignal.call(this, address);
      if (address % 1024 === 0) decrementSignal.call(this, address);
    };
    try {
      expect(hunt({}).cause).toBeInstanceOf(Violation);
    } finally {
      Mapping.prototype.decrementSignal = decrementSignal;
    }
  });
});
