/** Option `qos`: CXT_CTL.qos weighs the turns of contexts. S-45. */
import { describe, expect, it } from 'vitest';
import { FunctionContext } from '../../src/function/context.js';
import { TurnQueue, WeightedQueue } from '../../src/function/turn-queue.js';
import { Trace } from './journal.js';
import { nop } from './ops.js';
import { Rig } from './rig.js';

/** Contexts 1 … n with these classes, with `count` descriptors each; context numbers in the order of turns. */
function turns(qos: 'on' | 'off', classes: number[], count: number): number[] {
  const trace = new Trace();
  const rig = new Rig({ qos }, { tracer: trace });
  rig.activate();
  const places = classes.map((level, i) => rig.running(i + 1, { control: { qos: level } }));
  trace.take();
  for (const p of places) rig.queue(p, ...Array.from({ length: count }, () => nop()));
  rig.drain();
  return trace
    .take()
    .filter((event) => event.startsWith('done '))
    .map((event) => Number(event.split(' ')[1]));
}

const share = (order: number[], context: number) => order.filter((number) => number === context).length;

describe('S-45 arbitration', () => {
  it('S-45 qos=off: one descriptor per turn, in turn, whatever CXT_CTL.qos says', () => {
    expect(turns('off', [0, 1, 2, 3], 30).slice(0, 60)).toEqual(Array.from({ length: 60 }, (_, i) => (i % 4) + 1));
  });

  it('S-45 qos=on: 1, 2, 4 and 8 turns in a round of 15, the most urgent first', () => {
    const order = turns('on', [0, 1, 2, 3], 32);
    // The first round began with the starts, before there was work: one of class 0 had its turn. All four have work for 32 / 8 rounds.
    const round = [...Array(8).fill(4), ...Array(4).fill(3), 2, 2, 1];
    expect(order.slice(0, 59)).toEqual([...round.slice(0, 14), ...round, ...round, ...round]);
    expect(order).toHaveLength(128);
  });

  it('S-45 contexts of one class take turns', () => {
    expect(turns('on', [2, 2, 2], 10)).toEqual(Array.from({ length: 30 }, (_, i) => (i % 3) + 1));
  });

  it('S-45 nobody starves: beside the most urgent class alone the least urgent one has every 9th turn', () => {
    const order = turns('on', [3, 3, 3, 0], 90);
    expect(share(order.slice(8, 98), 4)).toBe(10);
  });

  it('S-45 a class without work leaves its turns to the others', () => {
    expect(turns('on', [0, 0], 5)).toEqual([1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
  });

  it('S-45 an urgent context waits for one turn of 12 others at most, not for all of them', () => {
    for (const qos of ['off', 'on'] as const) {
      const rig = new Rig({ qos });
      rig.activate();
      const urgent = rig.running(1, { control: { qos: 3 } });
      const bulk = Array.from({ length: 12 }, (_, i) => rig.running(i + 2));
      for (const p of bulk) rig.queue(p, ...Array.from({ length: 50 }, () => nop()));
      rig.fn.step(100);
      const csb = rig.csb(urgent);
      rig.queue(urgent, nop({ csb }));
      const steps = rig.stepUntil(() => rig.u64(csb) === 0n);
      expect(steps).toBe(qos === 'on' ? 1 : 13);
    }
  });
});

describe('WeightedQueue', () => {
  const context = (number: number, qos: number) => {
    const made = new FunctionContext(number);
    made.qos = qos;
    return made;
  };

  it('holds each context once, and is empty when all are out', () => {
    const queue = new WeightedQueue();
    const a = context(1, 0);
    const b = context(2, 3);
    for (const c of [a, a, b, b]) queue.push(c);
    expect([queue.shift(), queue.empty, queue.shift(), queue.empty, queue.shift()]).toEqual([b, false, a, true, undefined]);
  });

  it('clear lets go of everybody', () => {
    for (const queue of [new WeightedQueue(), new TurnQueue()]) {
      const c = context(1, 2);
      queue.push(c);
      queue.clear();
      expect([queue.empty, c.queued]).toEqual([true, false]);
      queue.push(c);
      expect(queue.shift()).toBe(c);
    }
  });

  it('with one class it is a TurnQueue', () => {
    const weighted = new WeightedQueue();
    const plain = new TurnQueue();
    const served: [unknown, unknown][] = [];
    const pairs = Array.from({ length: 5 }, (_, i) => [context(i, 1), context(i, 1)] as const);
    for (let i = 0; i < 200; i++) {
      const [a, b] = pairs[(i * 7) % 5];
      weighted.push(a);
      plain.push(b);
      if (i % 3 !== 0) served.push([weighted.shift()?.number, plain.shift()?.number]);
    }
    for (const [a, b] of served) expect(a).toBe(b);
  });
});
