import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Channel, Life } from '../../src/bus/embedded/channel.js';

const open = (maxContext = 63, vectors = 4) => {
  const channel = new Channel({ maxContext, vectors });
  channel.setLife(Life.RUNNING);
  channel.take(() => {});
  return channel;
};

/** Runs one of the stress programs, which need the built channel and several threads. */
const stress = async (name: string) => {
  const script = fileURLToPath(new URL('./stress.mjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, name], { timeout: 15_000 });
  return JSON.parse(stdout);
};

describe('the channel between user threads and engine', () => {
  it('hands over each doorbell once, with the last value written, whatever the number of contexts', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 65535 }), fc.array(fc.tuple(fc.nat(), fc.maxSafeNat())), (maxContext, rings) => {
        const channel = open(maxContext);
        const expected = new Map<number, number>();
        for (const [number, value] of rings) {
          const context = number % (maxContext + 1);
          channel.ring(context, value);
          expected.set(context, value);
        }
        const taken: [number, number][] = [];
        expect(channel.called).toBe(rings.length > 0);
        channel.take((context, value) => taken.push([context, value]));
        expect(taken).toEqual([...expected].sort(([a], [b]) => a - b));
        channel.take(() => expect.unreachable());
        expect(channel.called).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  it('refuses shapes that no function has, and a buffer of another shape', () => {
    for (const shape of [
      { maxContext: -1, vectors: 1 },
      { maxContext: 65536, vectors: 1 },
      { maxContext: 0, vectors: 0 },
      { maxContext: 0, vectors: 2049 },
      { maxContext: 0.5, vectors: 1 },
    ]) {
      expect(() => new Channel(shape)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_ARGUMENT' }));
    }
    const { buffer } = new Channel({ maxContext: 7, vectors: 4 });
    expect(() => new Channel({ maxContext: 7, vectors: 5 }, buffer)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('build') }),
    );
  });

  it('counts deliveries modulo 2^32, across all wraps of the word that holds them', () => {
    const channel = open();
    const word = channel.interrupts.word(2);
    // The top bit of the 30-bit counter changes every 2^29 deliveries; the word beside it counts those changes.
    for (let crossings = 0; crossings < 8; crossings++) {
      const last = (crossings + 1) * 2 ** 29 - 1;
      channel.words[word] = (last % 2 ** 30) * 4;
      channel.words[word + 1] = crossings;
      expect(channel.interrupts.count(2)).toBe(last);
      channel.interrupts.raise(2);
      expect(channel.interrupts.count(2)).toBe((last + 1) % 2 ** 32);
      // Between the two words: the deliverer has not yet written down that it crossed.
      channel.words[word + 1] = crossings;
      expect(channel.interrupts.count(2)).toBe((last + 1) % 2 ** 32);
    }
  });

  it('masking remembers one delivery, and unmasking makes it', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('raise', 'mask', 'unmask', 'reset')), (actions) => {
        const channel = open();
        const model = { count: 0, masked: false, pending: false };
        for (const action of actions) {
          if (action === 'raise') {
            channel.interrupts.raise(1);
            if (model.masked) model.pending = true;
            else model.count++;
          } else if (action === 'mask') {
            channel.interrupts.mask(1);
            model.masked = true;
          } else if (action === 'unmask') {
            channel.interrupts.unmask(1);
            if (model.pending) model.count++;
            model.masked = false;
            model.pending = false;
          } else {
            channel.interrupts.reset();
            model.masked = false;
            model.pending = false;
          }
          expect({ count: channel.interrupts.count(1), pending: channel.interrupts.pending(1) }).toEqual({
            count: model.count,
            pending: model.pending,
          });
          expect(channel.interrupts.count(0)).toBe(0);
        }
      }),
    );
  });

  it('life goes forward only, and the first reason stays', () => {
    const channel = open();
    expect(channel.setLife(Life.RUNNING)).toBe(false);
    channel.fail('first');
    channel.fail('second');
    expect([channel.life, channel.reason]).toEqual([Life.LOST, 'first']);
    expect(channel.setLife(Life.CLOSED)).toBe(true);
    channel.fail('third');
    expect([channel.life, channel.reason]).toEqual([Life.CLOSED, 'first']);
  });

  describe('several threads at it', () => {
    it('no doorbell is lost, and none wakes a sleeping engine in vain', async () => {
      const { rung, heard, late } = await stress('doorbells');
      expect(heard).toEqual(rung);
      expect(late).toBe(0);
    });

    it('masking and unmasking at random neither loses nor invents an interrupt, and none is delivered while masked', async () => {
      const { raised, delivered, merged, lost, whileMasked } = await stress('interrupts');
      expect(raised).toBeGreaterThan(1000);
      expect({ lost, whileMasked }).toEqual({ lost: 0, whileMasked: 0 });
      expect(delivered).toBe(raised - merged);
    });

    it('nobody who sleeps on a vector misses its last interrupt', async () => {
      expect(await stress('sleepers')).toEqual({ missed: 0 });
    });
  });
});
