import { describe, expect, it } from 'vitest';
import { type Mover, open } from '../../src/mover/index.js';
import { rejection } from './rig.js';

const SIZE = 1 << 17;
const LANES = 12;
const MS = 1200;

/** A repeatable stream of numbers below n. */
function numbers(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** One caller with a buffer of its own and a model of what must be in it. */
class Caller {
  readonly buffer: Buffer;
  readonly model = Buffer.alloc(SIZE);
  private readonly mover: Mover;
  private readonly readOnly: Buffer;
  private readonly random: (n: number) => number;

  constructor(mover: Mover, readOnly: Buffer, number: number) {
    this.mover = mover;
    this.readOnly = readOnly;
    this.random = numbers(number + 1);
    this.buffer = number % 3 === 0 ? Buffer.alloc(SIZE) : mover.alloc(SIZE);
    if (number % 3 === 0) mover.register(this.buffer);
  }

  async step(): Promise<void> {
    const { random, buffer, model, mover } = this;
    const length = 1 + random(random(4) === 0 ? SIZE / 2 : 3000);
    const from = random(SIZE - length);
    const to = random(SIZE - length);
    const target = buffer.subarray(to, to + length);
    const value = random(256);
    switch (random(6)) {
      case 0:
      case 1:
        await mover.copy(buffer.subarray(from, from + length), target);
        model.copy(model, to, from, from + length);
        break;
      case 2:
        await mover.fill(target, value);
        model.fill(value, to, to + length);
        break;
      case 3: {
        const count = 1 + random(1200);
        const items = Array.from({ length: count }, (_, i) => ({
          op: 'fill' as const,
          destination: buffer.subarray(i * 100, i * 100 + 60),
          value: (value + i) & 255,
        }));
        await mover.batch(items);
        for (const [i, item] of items.entries()) model.fill(item.value, i * 100, i * 100 + 60);
        break;
      }
      case 4: {
        const controller = new AbortController();
        const work = mover.fill(target, value, { signal: controller.signal }).catch((error) => expect(error.code).toBe('ERR_SDXI_ABORTED'));
        setTimeout(() => controller.abort(), random(3));
        await work;
        // Done or aborted: from now on the memory is ours.
        buffer.copy(model);
        await new Promise((resolve) => setTimeout(resolve, 1));
        break;
      }
      default: {
        const items = [
          { op: 'fill' as const, destination: this.readOnly.subarray(0, 10), value },
          { op: 'fill' as const, destination: target, value },
        ];
        expect((await rejection(mover.batch(items))).code).toBe('ERR_SDXI_DATA_ACCESS');
      }
    }
    if (random(8) === 0) expect(buffer.compare(model)).toBe(0);
  }
}

describe.each([
  ['the engine thread', 'embedded:', 1],
  ['two engine threads', 'embedded:', 2],
  ['inline', 'embedded:?inline=1', 1],
])('mixed traffic over %s', (_name, uri, functions) => {
  it('copies, fills, batches, errors and aborts of many callers never disturb each other', async () => {
    const mover = await open(uri, { functions, ringEntries: 1024, adminTimeoutMs: 5000 });
    const readOnly = Buffer.alloc(64);
    mover.register(readOnly, { access: 'read' });
    const callers = Array.from({ length: LANES }, (_, i) => new Caller(mover, readOnly, i));
    const end = performance.now() + MS;
    await Promise.all(
      callers.map(async (caller) => {
        while (performance.now() < end) await caller.step();
        expect(caller.buffer.compare(caller.model)).toBe(0);
      }),
    );
    // NOPs in place of what was aborted may still be on their way.
    for (const { context } of mover.functions) await context.idle();
    expect(mover.stats()).toMatchObject({ inFlight: 0, queued: 0 });
    expect(readOnly.every((byte) => byte === 0)).toBe(true);
    await mover.close();
  });
});
