import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Access, AddressSpace, type Mapping } from '../../src/memory/address-space.js';
import { allocateRegion } from '../../src/memory/region.js';
import { Window } from '../../src/memory/window.js';

const MASK = (1n << 64n) - 1n;
const U64 = fc.oneof(
  fc.bigInt({ min: 0n, max: MASK }),
  fc.constantFrom(0n, 1n, 2n, 0xffff_ffffn, 1n << 32n, (1n << 32n) + 1n, 1n << 53n, 1n << 63n, MASK),
);

function mapped(window: Window): Mapping {
  return new AddressSpace().map(0x1000, window.byteLength, Access.READ_WRITE, window);
}

const value = (mapping: Mapping, address: number): bigint => BigInt.asUintN(64, mapping.i64[(address - mapping.start) / 8]);

describe('decrementSignal', () => {
  it('S-13 takes 1 from any 64-bit value, 0 wraps to 2^64 - 1, and the neighbours stay', () => {
    const mapping = mapped(new Window(new ArrayBuffer(24)));
    fc.assert(
      fc.property(U64, fc.integer({ min: 1, max: 5 }), (start, times) => {
        mapping.i64.set([-3n, BigInt.asIntN(64, start), 5n]);
        for (let i = 0; i < times; i++) mapping.decrementSignal(0x1008);
        expect(value(mapping, 0x1008)).toBe((start - BigInt(times)) & MASK);
        expect([mapping.i64[0], mapping.i64[2]]).toEqual([-3n, 5n]);
      }),
    );
  });

  it('S-14 storeSignal overwrites the signal and nothing else', () => {
    const mapping = mapped(new Window(new ArrayBuffer(24)));
    mapping.i64.set([-3n, -1n, 5n]);
    mapping.storeSignal(0x1008, 0);
    expect([...mapping.i64]).toEqual([-3n, 0n, 5n]);
  });
});

describe('publish64', () => {
  it('S-72 stores counters below 2^53 in both words', () => {
    const mapping = mapped(new Window(new ArrayBuffer(24)));
    const counter = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 0xffff_ffff, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1));
    fc.assert(
      fc.property(U64, counter, (before, after) => {
        mapping.i64.set([-3n, BigInt.asIntN(64, before), 5n]);
        mapping.publish64(0x1008, after);
        expect(value(mapping, 0x1008)).toBe(BigInt(after));
        expect([mapping.i64[0], mapping.i64[2]]).toEqual([-3n, 5n]);
      }),
    );
  });
});

// ---- Several threads. Each has its own window over the same process memory, as engine threads have.

const dist = (file: string) => new URL(`../../dist/${file}`, import.meta.url).href;

/** Runs `body` in `threads` workers at once; it sees `mapping` over the region, `thread` and `go()`. */
async function race(address: number, bytes: number, threads: number, body: string): Promise<unknown[]> {
  const gate = new SharedArrayBuffer(8);
  const source = `
    const { workerData: { address, bytes, thread, threads, gate }, parentPort } = require('node:worker_threads');
    (async () => {
      const { AddressSpace } = await import('${dist('memory/address-space.js')}');
      const { Window } = await import('${dist('memory/window.js')}');
      const { window } = Window.over(address, bytes);
      const mapping = new AddressSpace().map(0x1000, bytes, 3, window);
      const words = new Int32Array(gate);
      const go = () => { Atomics.add(words, 0, 1); while (Atomics.load(words, 0) < threads); };
      ${body}
    })();
  `;
  return Promise.all(
    Array.from(
      { length: threads },
      (_, thread) =>
        new Promise((resolve, reject) => {
          const worker = new Worker(source, { eval: true, execArgv: [], workerData: { address, bytes, thread, threads, gate } });
          worker.once('message', resolve).once('error', reject);
        }),
    ),
  );
}

describe('completion signals shared by several threads', () => {
  it('S-73 every decrement counts, across borrows from the high dword', async () => {
    const region = allocateRegion(4096);
    const signals = new BigInt64Array(region.bytes.buffer, region.bytes.byteOffset);
    const start = [(3n << 32n) + 1000n, 0n, 50_000n];
    signals.set(start);
    const rounds = 60_000;
    await race(
      region.address,
      4096,
      3,
      `go();
       for (let i = 0; i < ${rounds}; i++) { mapping.decrementSignal(0x1000); mapping.decrementSignal(0x1008); mapping.decrementSignal(0x1010); }
       parentPort.postMessage(0);`,
    );
    expect([...signals.subarray(0, 3)]).toEqual(start.map((value) => BigInt.asIntN(64, value - BigInt(3 * rounds))));
  });

  it('S-73 mixes with 64-bit atomics of others: nothing is lost on either side', async () => {
    const region = allocateRegion(4096);
    const signals = new BigInt64Array(region.bytes.buffer, region.bytes.byteOffset);
    const rounds = 40_000;
    // One thread adds and subtracts around 2^32, so that the low dword is often 0 when another looks.
    await race(
      region.address,
      4096,
      3,
      `go();
       const word = 0;
       for (let i = 0; i < ${rounds}; i++) {
         if (thread === 0) { Atomics.add(mapping.i64, word, 3n); Atomics.sub(mapping.i64, word, 1n); }
         else mapping.decrementSignal(0x1000);
       }
       parentPort.postMessage(0);`,
    );
    expect(signals[0]).toBe(0n);
  });
});

describe('Read_Index seen by another thread', () => {
  it('S-72 is too small for a moment, never too large, while it crosses 2^32 again and again', async () => {
    const region = allocateRegion(4096);
    const results = (await race(
      region.address,
      4096,
      2,
      `const { loadSharedU64 } = await import('${dist('spec/u64.js')}');
       const announced = 0x1040, index = 0x1000, over = 0x1080;
       const low = (announced - 0x1000) / 8;
       go();
       if (thread === 0) {
         for (let value = 1000, i = 0; i < 60_000; i++, value += 0x7fff_fff1) {
           Atomics.store(mapping.i64, low, BigInt(value));
           mapping.publish64(index, value);
         }
         Atomics.store(mapping.i32, mapping.word(over), 1);
         parentPort.postMessage({ wrong: 0, last: 0 });
       } else {
         let wrong = 0, looks = 0, last = 0;
         do {
           const seen = looks++ & 1 ? loadSharedU64(mapping.u32, mapping.word(index)) : Number(Atomics.load(mapping.i64, 0));
           if (seen > Number(Atomics.load(mapping.i64, low))) wrong++;
           last = seen;
         } while (Atomics.load(mapping.i32, mapping.word(over)) === 0);
         parentPort.postMessage({ wrong, looks });
       }`,
    )) as { wrong: number }[];
    expect(results.map(({ wrong }) => wrong)).toEqual([0, 0]);
  });
});
