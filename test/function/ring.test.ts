/** Taking descriptors from the ring (ref §6.2 main loop), turns (S-45). */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState } from '../../src/spec/index.js';
import { status } from './expect.js';
import { copy, interrupt, nop, repcopy, writeImmediate } from './ops.js';
import { type ContextPlace, LAYOUT, Rig } from './rig.js';

const { RUN, ERR_FN } = ContextState;
const SOURCE = LAYOUT.data;
const TARGET = LAYOUT.data + 0x1_0000;

function ready(config = {}) {
  const rig = new Rig(config);
  const admin = rig.activate();
  const p = rig.running(1);
  return { rig, admin, p };
}

/** Writes byte `value` at `TARGET + at`, so that order and number of executions can be seen. */
const mark = (at: number, value: number) => writeImmediate(TARGET + at, [value]);

/** Adds 1 to a counter in memory at each execution: an atomic would do, but this one needs no group. */
function executed(rig: Rig, p: ContextPlace, csb: number): bigint {
  expect(csb).toBeGreaterThan(p.csbs - 1);
  return 1000n - rig.u64(csb);
}

describe('ref §6.2 waiting for descriptors', () => {
  it('O-18 a slot with vl = 0 below Write_Index is waited for, without error, for any time', () => {
    const { rig, p } = ready();
    rig.claim(p, 3);
    rig.write(p, 1, mark(1, 1));
    for (let i = 0; i < 1000; i++) {
      rig.fn.ringDoorbell(1, 3);
      rig.drain();
    }
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    expect(rig.records()).toEqual([]);
    expect(rig.bytes(TARGET + 1, 1)[0]).toBe(0);
    rig.write(p, 0, mark(0, 1));
    rig.write(p, 2, mark(2, 1));
    rig.fn.ringDoorbell(1, 3);
    rig.drain();
    expect(rig.hex(TARGET, 3)).toBe('010101');
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 3));
  });

  it('O-18 the rest of a slot with vl = 0 is not looked at, whatever it holds', () => {
    const { rig, p } = ready();
    rig.bytes(p.ring, 64 * 1024).fill(0xfe);
    rig.claim(p, 1024);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
  });

  it('ref §6.2 step 2 without a doorbell a descriptor that became valid is not looked at; with any doorbell it is', () => {
    const { rig, p } = ready();
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    rig.write(p, 0, nop());
    rig.drain();
    expect(rig.readIndex(p)).toBe(0);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.readIndex(p)).toBe(1);
  });

  it('O-20 S-9 doorbell values 0, repeated, decreasing and far too large are the same wake-up: Write_Index in memory decides', () => {
    for (const values of [[0], [5, 5, 5], [9, 3, 1, 0], [2 ** 50, 1], [-1]]) {
      const { rig, p } = ready();
      rig.write(p, 0, nop(), nop(), nop(), nop());
      rig.claim(p, 3);
      for (const value of values) {
        rig.fn.ringDoorbell(1, value);
        rig.drain();
      }
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 3));
      expect(rig.isValid(p, 3)).toBe(true);
    }
  });

  it('S-9 valid slots beyond Write_Index are not executed', () => {
    const { rig, p } = ready();
    rig.write(p, 0, nop(), mark(0, 1));
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1000);
    rig.drain();
    expect(rig.readIndex(p)).toBe(1);
    expect(rig.bytes(TARGET, 1)[0]).toBe(0);
  });

  it('S-71 the latch: a doorbell that rings while the context is in line or busy is not lost', () => {
    const { rig, p } = ready();
    rig.queue(p, copy(SOURCE, SOURCE + 0x10_0000, 0x10_0000));
    rig.fn.step(1);
    for (let i = 0; i < 3; i++) {
      rig.queue(p, mark(i, 1)); // each rings while the copy runs; they merge
      rig.fn.step(1);
    }
    rig.drain();
    expect(rig.hex(TARGET, 3)).toBe('010101');
  });

  it('S-71 a doorbell that rings during the very last look at the ring is not lost', () => {
    const { rig, p } = ready();
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 3 });
    // The interrupt handler queues more work at the moment when the function is about to go idle.
    let more = 2;
    rig.onInterrupt = () => {
      if (more-- > 0) rig.queue(p, interrupt(1));
    };
    rig.run(p, interrupt(1));
    expect(rig.interrupts).toEqual([3, 3, 3]);
    expect(rig.readIndex(p)).toBe(3);
  });
});

describe('ref §6.2 consuming', () => {
  it('O-19 vl is cleared when a descriptor is consumed, of failed ones too', () => {
    const { rig, p } = ready();
    rig.run(p, nop(), copy(SOURCE, TARGET, 8), interrupt(0));
    expect([0, 1, 2].map((i) => rig.isValid(p, i))).toEqual([false, false, false]);
    expect(rig.state(p)).toBe(ERR_FN);
  });

  it('O-19 a slot that is claimed but not rewritten after the ring has wrapped is not executed twice: three laps', () => {
    for (const block of [true, false]) {
      const { rig, p } = ready();
      const csb = rig.csb(p, 0, 1000);
      let index = 0;
      for (let lap = 0; lap < 3; lap++) {
        for (let i = 0; i < 1024; i++, index++) {
          rig.claim(p, 1);
          if (index % 100 === 0) {
            // Claimed, rung, and written only now: the slot still holds what the lap before left.
            rig.fn.ringDoorbell(1, index + 1);
            rig.drain();
            expect(rig.readIndex(p)).toBe(index);
          }
          rig.write(p, index, index % 100 === 0 ? nop({ csb }) : block ? nop({ csb: rig.csb(p, 1) }) : copy(SOURCE, TARGET, 8));
          if (index % 7 === 0) rig.fn.ringDoorbell(1, index + 1);
          if (index % 21 === 0) rig.drain();
        }
        rig.fn.ringDoorbell(1, index);
        rig.drain();
        expect(rig.hex(p.status, 16)).toBe(status(RUN, index));
      }
      expect(executed(rig, p, csb)).toBe(31n);
    }
  });

  it('F-7 clearValid = off: vl stays, and after wrap-around a claimed slot is executed again', () => {
    const { rig, p } = ready({ clearValid: 'off' });
    const csb = rig.csb(p, 0, 5);
    rig.run(p, nop({ csb }), ...Array.from({ length: 1023 }, () => nop()));
    expect(rig.isValid(p, 0)).toBe(true);
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1025);
    rig.drain();
    expect(rig.u64(csb)).toBe(3n);
  });

  it('S-76 a slot needs read and write permission before it is executed; with clearValid = off only read', () => {
    for (const clearValid of ['on', 'off'] as const) {
      const rig = new Rig({ clearValid }, { pages: true });
      rig.activate();
      const p = rig.running(1);
      rig.protect(p.ring, Access.READ);
      rig.run(p, mark(0, 7));
      expect([rig.bytes(TARGET, 1)[0], rig.hex(p.status, 16)]).toEqual(clearValid === 'on' ? [0, status(ERR_FN, 0)] : [7, status(RUN, 1)]);
    }
  });

  it('O-21 S-28 Read_Index of n + 1 means that the data of descriptor n is there, at every moment', () => {
    for (const block of [false, true]) {
      const { rig, p } = ready();
      const n = 40;
      const csb = rig.csb(p, 0, n);
      rig.queue(p, ...Array.from({ length: n }, (_, i) => copy(SOURCE, TARGET + i, 1, block ? { csb } : {})));
      rig.put(SOURCE, [1]);
      for (let i = 0; i <= n; i++) {
        for (let k = 0; k < rig.readIndex(p); k++) expect(rig.bytes(TARGET + k, 1)[0]).toBe(1);
        if (block) expect(Number(rig.u64(csb))).toBeLessThanOrEqual(n - rig.readIndex(p));
        rig.fn.step(1);
      }
      expect(rig.readIndex(p)).toBe(n);
    }
  });

  it('ref §6.2 one descriptor per turn when others are in line, else many; step returns the turns it ran', () => {
    const { rig, p } = ready();
    rig.queue(p, ...Array.from({ length: 10 }, () => nop()));
    expect(rig.fn.step(3)).toBe(3);
    expect(rig.readIndex(p)).toBe(3);
    expect(rig.fn.step(100)).toBe(7);
    expect(rig.fn.step(100)).toBe(0);
  });

  it('S-45 contexts take turns, one descriptor each, context 0 without priority', () => {
    const rig = new Rig();
    const places = [rig.activate(), rig.running(1), rig.running(2), rig.running(3)];
    const order: number[] = [];
    rig.onInterrupt = (vector) => order.push(vector);
    for (const p of [places[2], places[0], places[3], places[1]]) {
      rig.akey(p, 1, { vl: 1, iv: 1, intr_num: p.number + 1 });
      rig.queue(p, interrupt(1), interrupt(1), interrupt(1));
    }
    rig.drain();
    expect(order).toEqual([3, 1, 4, 2, 3, 1, 4, 2, 3, 1, 4, 2]);
  });

  it('S-45 S-88 a turn is a descriptor or a slice of at most 256 KiB: others get turns in the middle of a long copy', () => {
    const { rig, p } = ready();
    const q = rig.running(2);
    rig.akey(q, 1, { vl: 1, iv: 1, intr_num: 9 });
    const moved: number[] = [];
    rig.bytes(SOURCE, 0x10_0000).fill(1);
    rig.onInterrupt = () => moved.push(rig.bytes(SOURCE + 0x10_0000, 0x10_0000).lastIndexOf(1) + 1);
    rig.queue(p, copy(SOURCE, SOURCE + 0x10_0000, 0x10_0000), nop());
    rig.queue(q, ...Array.from({ length: 6 }, () => interrupt(1)));
    rig.drain();
    expect(moved).toEqual([1, 2, 3, 4, 4, 4].map((slices) => slices * 0x4_0000));
  });

  it('S-88 registers are served between slices: one call of step moves at most 256 KiB and a slice more', () => {
    const { rig, p } = ready();
    rig.queue(p, copy(SOURCE, SOURCE + 0x10_0000, 0x10_0000), repcopy(SOURCE, SOURCE + 0x10_0000, 0x10_0000));
    let calls = 0;
    for (let before = 0; rig.fn.step(1_000_000) > 0; calls++) {
      expect(rig.fn.counters.bytes - before).toBeLessThanOrEqual(0x4_0000);
      before = rig.fn.counters.bytes;
    }
    expect(calls).toBe(8);
  });

  it.each([64, 4096, 0x1_0000, 0x3_0000])('S-88 registers are served in the middle of many copies of %d bytes too', (size) => {
    const { rig, p } = ready();
    rig.queue(p, ...Array.from({ length: 1024 }, () => copy(SOURCE, SOURCE + 0x10_0000, size)));
    for (let before = 0; rig.fn.step(1_000_000) > 0; ) {
      expect(rig.fn.counters.bytes - before).toBeLessThan(0x4_0000 + size);
      before = rig.fn.counters.bytes;
    }
    expect(rig.readIndex(p)).toBe(1024);
  });

  it('ref §6.2 Write_Index over 2^32 and a ring that wraps at a number that is no power of two', () => {
    const rig = new Rig();
    rig.activate();
    const start = 2 ** 32 - 2;
    const p = rig.running(1, { ringEntries: 1500, readIndex: start });
    const csb = rig.csb(p, 0, 8);
    rig.run(p, ...Array.from({ length: 8 }, () => nop({ csb })));
    expect(rig.u64(csb)).toBe(0n);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, start + 8));
  });
});
