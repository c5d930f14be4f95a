/** Hard questions to one function, each answered by a test. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Access } from '../../../src/memory/address-space.js';
import { Window } from '../../../src/memory/window.js';
import { ContextState, FunctionState, Reg } from '../../../src/spec/index.js';
import { record, status } from '../expect.js';
import { atomic, copy, FILTER, nop, start, stop, sync, writeImmediate } from '../ops.js';
import { type ContextPlace, LAYOUT, PAGE, Rig } from '../rig.js';

const COPY_BYTES = 10_000;
const COPIES = 200;
/** Which descriptor and which byte of it a hole in the data concerns. */
const WHICH = 100;

interface Scattered {
  rig: Rig;
  place: ContextPlace;
}

const source = (i: number): number => LAYOUT.data + (i % 60) * 12_288 + i;
const destination = (i: number): number => LAYOUT.data + 0x10_0000 + i * COPY_BYTES;

/** Context 1 with 200 copies and an atomic queued; every page of memory is a mapping of its own, in turns of two windows. */
function scattered(hole?: (p: ContextPlace) => number): Scattered {
  const rig = new Rig({}, { map: false });
  const twin = Window.of(rig.u8);
  for (let at = 0; at < LAYOUT.bytes; at += PAGE) {
    const [window, offset] = (at / PAGE) % 2 === 0 ? [rig.window, at] : [twin.window, twin.offset + at];
    rig.memory.own.map(LAYOUT.base + at, PAGE, Access.READ_WRITE, window, offset);
  }
  rig.activate();
  const place = rig.prepare(1, { state: ContextState.RUN });
  for (let i = 0; i < LAYOUT.dataBytes; i++) rig.u8[rig.at(LAYOUT.data) + i] = (i * 31) >>> 3;
  const queued = Array.from({ length: COPIES }, (_, i) => copy(source(i), destination(i), COPY_BYTES, { csb: rig.csb(place, i) }));
  rig.claim(place, COPIES + 1);
  rig.write(place, 0, ...queued, atomic(2, 8, LAYOUT.data, { a: 1n, returned: place.csbs + PAGE * 4 }));
  if (hole) rig.unmap(hole(place));
  return { rig, place };
}

/** What the copies do, one after the other, to a copy of memory; `partly` cuts the last one. */
function afterCopies(rig: Rig, memory: Buffer, p: ContextPlace, count: number, partly = 0): void {
  const move = (i: number, bytes: number) => memory.copy(memory, rig.at(destination(i)), rig.at(source(i)), rig.at(source(i)) + bytes);
  for (let i = 0; i < count; i++) {
    move(i, COPY_BYTES);
    memory.writeBigUInt64LE(0n, rig.at(p.csbs + 32 * i));
    memory[rig.at(p.ring + 64 * i)] &= 0xfe;
  }
  if (partly > 0) move(count, partly);
}

function setStatus(rig: Rig, memory: Buffer, p: ContextPlace, state: number, index: number): void {
  memory[rig.at(p.status)] = state;
  memory.writeBigUInt64LE(BigInt(index), rig.at(p.status + 8));
}

/** The function logs one record in slot `n`. */
function setRecord(rig: Rig, memory: Buffer, n: number, hex: string): void {
  memory.set(Buffer.from(hex, 'hex'), rig.at(LAYOUT.errorLog) + 64 * n);
}

describe('ring, tables and buffers scattered over single 4 KiB mappings', () => {
  it('without a hole: everything is done', () => {
    const { rig, place } = scattered();
    const expected = rig.snapshot();
    afterCopies(rig, expected, place, COPIES);
    expected.writeBigUInt64LE(expected.readBigUInt64LE(rig.at(LAYOUT.data)) + 1n, rig.at(LAYOUT.data));
    rig.u8.subarray(rig.at(LAYOUT.data), rig.at(LAYOUT.data) + 8).forEach((byte, i) => {
      expected[rig.at(place.csbs + PAGE * 4) + i] = byte;
    });
    expected[rig.at(place.ring + 64 * COPIES)] &= 0xfe;
    setStatus(rig, expected, place, ContextState.RUN, COPIES + 1);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.reg(Reg.ERR_STS)).toBe(0n);
    expect(Buffer.compare(rig.u8, expected)).toBe(0);
  });

  it.each<[string, (p: ContextPlace) => number, { step: number; state?: number }]>([
    ['level-2 table', () => LAYOUT.l2, { step: 2 }],
    ['level-1 table', () => LAYOUT.l1, { step: 3 }],
    ['CXT_CTL', (p) => p.control, { step: 4 }],
    ['CXT_STS', (p) => p.status, { step: 5 }],
    ['Write_Index', (p) => p.writeIndex, { step: 6, state: ContextState.ERR_FN }],
  ])('ref §8.3 a hole where the %s lies: its step / sub 1, nothing else is touched', (_name, hole, { step, state }) => {
    const { rig, place } = scattered(hole);
    const expected = rig.snapshot();
    if (state !== undefined) setStatus(rig, expected, place, state, 0);
    setRecord(rig, expected, 0, record({ step, sub: 1, context: 1 }));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.reg(Reg.ERR_WRT)).toBe(1n);
    expect(Buffer.compare(rig.u8, expected)).toBe(0);
  });

  it('ref §8.3 a hole in the third page of the ring: step 7 / sub 1 at the first descriptor there', () => {
    const { rig, place } = scattered((p) => p.ring + 2 * PAGE);
    const expected = rig.snapshot();
    afterCopies(rig, expected, place, 128);
    setStatus(rig, expected, place, ContextState.ERR_FN, 128);
    setRecord(rig, expected, 0, record({ step: 7, sub: 1, context: 1, index: 128 }));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(Buffer.compare(rig.u8, expected)).toBe(0);
  });

  it('S-77 a hole in a page of the ring that is not taken: nobody minds', () => {
    const { rig, place } = scattered((p) => p.ring + 10 * PAGE);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect([rig.reg(Reg.ERR_WRT), rig.readIndex(place), rig.state(place)]).toEqual([0n, COPIES + 1, ContextState.RUN]);
  });

  it('ref §8.3 a hole in the AKey table: step 11 / sub 1 of operand 0', () => {
    const { rig, place } = scattered((p) => p.akeys);
    const expected = rig.snapshot();
    expected.writeBigUInt64LE(0n, rig.at(place.csbs));
    expected.writeUInt32LE(0x8000_0000, rig.at(place.csbs + 8));
    expected[rig.at(place.ring)] &= 0xfe;
    setStatus(rig, expected, place, ContextState.ERR_FN, 1);
    setRecord(rig, expected, 0, record({ step: 11, sub: 1, context: 1, index: 0, operand: 0 }));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(Buffer.compare(rig.u8, expected)).toBe(0);
  });

  it('ref §8.3 a hole where completion blocks lie: step 8 / sub 1, the data stands', () => {
    const { rig, place } = scattered((p) => p.csbs + PAGE);
    const expected = rig.snapshot();
    afterCopies(rig, expected, place, 128, COPY_BYTES);
    expected[rig.at(place.ring + 64 * 128)] &= 0xfe;
    setStatus(rig, expected, place, ContextState.ERR_FN, 129);
    setRecord(rig, expected, 0, record({ step: 8, sub: 1, context: 1, index: 128 }));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(Buffer.compare(rig.u8, expected)).toBe(0);
  });

  it.each([
    ['source', 0, source],
    ['destination', 1, destination],
  ] as const)('ref §8.3 a hole in the %s: step 10 / sub 1, bytes up to the hole are moved', (_name, operand, address) => {
    // The second page that the operand of copy 100 touches; no earlier copy touches it.
    const at = address(WHICH);
    const page = at - (at % PAGE) + PAGE;
    const first = Array.from({ length: COPIES }, (_, i) => i).find(
      (i) => address(i) < page + PAGE && address(i) + COPY_BYTES > page,
    ) as number;
    const { rig, place } = scattered(() => page);
    const expected = rig.snapshot();
    afterCopies(rig, expected, place, first, Math.max(0, page - address(first)));
    expected.writeBigUInt64LE(0n, rig.at(place.csbs + 32 * first));
    expected.writeUInt32LE(0x8000_0000, rig.at(place.csbs + 32 * first + 8));
    expected[rig.at(place.ring + 64 * first)] &= 0xfe;
    setStatus(rig, expected, place, ContextState.ERR_FN, first + 1);
    setRecord(rig, expected, 0, record({ step: 10, sub: 1, context: 1, index: first, operand }));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(Buffer.compare(rig.u8, expected)).toBe(0);
  });

  it('ref §8.3 a hole where return data go: step 9 / sub 1, the target is updated', () => {
    const { rig, place } = scattered((p) => p.csbs + PAGE * 4);
    const before = rig.u64(LAYOUT.data);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.u64(LAYOUT.data)).toBe(before + 1n);
    expect(rig.hex(place.status, 16).replace(/^(..)../, '$100')).toBe(status(ContextState.ERR_FN, COPIES + 1));
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe(record({ step: 9, sub: 1, context: 1, index: COPIES, operand: 1 }));
  });

  it('ref §8.5 a hole where the error log lies: err and sts, and the context is stopped all the same', () => {
    const { rig, place } = scattered(() => LAYOUT.errorLog);
    rig.unmap(place.akeys);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect([rig.reg(Reg.ERR_STS), rig.reg(Reg.ERR_WRT), rig.state(place)]).toEqual([9n, 0n, ContextState.ERR_FN]);
    expect(rig.interrupts).toEqual([0]);
  });
});

describe('laps through a ring of 1,024 slots (ref §6.1)', () => {
  it('three of them, with slots that are claimed and written later: each descriptor once, in order', () => {
    const laps = 3;
    const step = fc.record({ claim: fc.integer({ min: 1, max: 200 }), late: fc.nat(20), turns: fc.nat(300), fill: fc.nat(3) });
    fc.assert(
      fc.property(fc.infiniteStream(step), (steps) => {
        const rig = new Rig();
        rig.activate();
        const p = rig.running(1);
        const total = laps * p.ringEntries;
        let claimed = 0;
        const open: number[] = [];
        // Descriptor i stores i, and counts itself; who ran twice or out of order would show.
        const order = LAYOUT.data;
        const counts = LAYOUT.data + 0x1000;
        const write = (i: number) => {
          const operation =
            i % 3 === 0 ? atomic(2, 4, counts + 4 * i, { a: 1n }) : i % 3 === 1 ? copy(counts - 8, counts + 4 * i, 4) : nop();
          rig.write(p, i, i % 7 === 6 ? writeImmediate(order, [i & 0xff, i >>> 8]) : operation);
        };
        rig.put(counts - 8, [1, 0, 0, 0]);
        for (const { claim, late, turns, fill } of steps) {
          if (rig.readIndex(p) === total) break;
          const room = p.ringEntries - (claimed - rig.readIndex(p));
          const count = Math.min(claim, room, total - claimed);
          rig.claim(p, count);
          // Every so often one is left for later; the slot still holds what an earlier lap left there.
          for (let i = claimed; i < claimed + count; i++) if (late > 0 && i % (late + 2) === 0) open.push(i);
          for (let i = claimed; i < claimed + count; i++) if (!open.includes(i)) write(i);
          claimed += count;
          rig.fn.ringDoorbell(1, 0);
          for (let i = 0; i < turns; i++) rig.fn.step(1);
          const first = open[0] ?? claimed;
          rig.drain();
          expect(rig.readIndex(p)).toBe(first);
          // Late ones come in any order, and each producer rings for itself.
          if (fill > 0 || room === 0) {
            for (const i of open.splice(0).reverse()) {
              write(i);
              rig.fn.ringDoorbell(1, i);
            }
          }
        }
        rig.drain();
        expect([rig.readIndex(p), rig.state(p), rig.reg(Reg.ERR_WRT)]).toEqual([total, ContextState.RUN, 0n]);
        const words = rig.u32.subarray(rig.at(counts) / 4, rig.at(counts) / 4 + total);
        words.forEach((count, i) => {
          expect(count, `descriptor ${i}`).toBe(i % 7 === 6 || i % 3 === 2 ? 0 : 1);
        });
        let last = total - 1;
        while (last % 7 !== 6) last--;
        expect([...rig.bytes(order, 2)]).toEqual([last & 0xff, last >>> 8]);
        for (let slot = 0; slot < p.ringEntries; slot++) expect(rig.isValid(p, slot)).toBe(false);
      }),
      { numRuns: 8 },
    );
  });
});

describe('doorbells (S-9, S-71)', () => {
  it('that go backwards, come twice, or name numbers that were never reached: Write_Index decides', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ value: fc.maxSafeNat(), queue: fc.nat(5), turns: fc.nat(4) }), { maxLength: 40 }), (rings) => {
        const rig = new Rig();
        rig.activate();
        const p = rig.running(1, { readIndex: 5000 });
        let written = 5000;
        for (const { value, queue, turns } of rings) {
          rig.claim(p, queue);
          for (let i = 0; i < queue; i++) rig.write(p, written + i, atomic(2, 8, LAYOUT.data, { a: 1n }));
          written += queue;
          rig.fn.ringDoorbell(1, value);
          for (let i = 0; i < turns; i++) rig.fn.step(1);
          expect(rig.readIndex(p)).toBeLessThanOrEqual(written);
        }
        for (let value = written; value > written - 10; value--) rig.fn.ringDoorbell(1, value);
        rig.drain();
        expect([rig.readIndex(p), rig.u64(LAYOUT.data), rig.reg(Reg.ERR_WRT)]).toEqual([written, BigInt(written - 5000), 0n]);
      }),
      { numRuns: 60 },
    );
  });
});

describe('an admin range of all 65,536 numbers (S-83)', () => {
  it('starts those that are there, holds nobody up meanwhile, and leaves nothing behind for the others', () => {
    const rig = new Rig({ maxContext: 0xffff });
    const admin = rig.activate();
    const busy = rig.running(1);
    const started = [2, 5, 7].map((number) => rig.prepare(number));
    const csb = rig.csb(admin);
    rig.queue(admin, start(0, 0xffff, { csb }), stop(2, 0xffff));
    let turns = 0;
    for (; rig.u64(csb) !== 0n; turns++) {
      // As soon as it shares the line with a range, a descriptor waits for one turn of it.
      rig.queue(busy, nop());
      for (let i = 0; i < 3; i++) rig.fn.step(1);
      expect(rig.readIndex(busy)).toBe(turns + 1);
    }
    expect(turns).toBeGreaterThan(100);
    rig.drain();
    expect(started.map((p) => rig.state(p))).toEqual([ContextState.STOP_SW, ContextState.STOP_SW, ContextState.STOP_SW]);
    expect(rig.reg(Reg.ERR_WRT)).toBe(0n);
    expect(rig.fn.contexts().length).toBeLessThan(10);
  });
});

describe('a copy of 4 GiB', () => {
  const FOUR_GIB = 2 ** 32;
  const FROM = 2 ** 40;
  const TO = 2 ** 41;
  /** Memory that stands behind 4 GiB of addresses, again and again. */
  const BEHIND = 0x10_0000;
  const PIECES = FOUR_GIB / BEHIND;

  /** Context 1, a 4 GiB copy and a small one behind it; 4 GiB of source and destination addresses over 1 MiB each. */
  function long(): { rig: Rig; admin: ContextPlace; p: ContextPlace; other: ContextPlace; csb: number; next: number } {
    const rig = new Rig();
    const admin = rig.activate();
    for (let i = 0; i < PIECES; i++) {
      rig.map(LAYOUT.data, BEHIND, { at: FROM + i * BEHIND, access: Access.READ });
      rig.map(LAYOUT.data + BEHIND, BEHIND, { at: TO + i * BEHIND, access: Access.WRITE });
    }
    for (let i = 0; i < BEHIND; i++) rig.u8[rig.at(LAYOUT.data) + i] = (i * 7) >>> 2;
    const p = rig.running(1);
    const other = rig.running(2);
    const csb = rig.csb(p, 0);
    const next = rig.csb(p, 1);
    rig.queue(p, copy(FROM, TO, FOUR_GIB, { csb }), nop({ csb: next }));
    const started = rig.fn.counters.bytes;
    rig.stepUntil(() => rig.fn.counters.bytes - started > 1e9);
    return { rig, admin, p, other, csb, next };
  }

  const copied = (rig: Rig): boolean => Buffer.compare(rig.bytes(LAYOUT.data, BEHIND), rig.bytes(LAYOUT.data + BEHIND, BEHIND)) === 0;

  it('S-87 is finished by a soft stop of the function, and the next descriptor runs after the restart', () => {
    const { rig, p, csb, next } = long();
    rig.setReg(Reg.CTL0, 1);
    expect(rig.reg(Reg.STS0)).toBe(BigInt(FunctionState.STOPG_SF));
    // Registers are served between slices, and no step moves more than a slice.
    for (let i = 0; i < 100; i++) {
      const before = rig.fn.counters.bytes;
      rig.fn.step(64);
      expect(rig.fn.counters.bytes - before).toBeLessThanOrEqual(256 * 1024);
      expect(rig.reg(Reg.STS0)).toBe(BigInt(FunctionState.STOPG_SF));
    }
    expect([rig.u64(csb), rig.readIndex(p), rig.state(p)]).toEqual([1n, 0, ContextState.STOPG_FN]);
    rig.stepUntil(() => rig.fn.state === FunctionState.STOP);
    expect(rig.fn.counters.bytes).toBe(FOUR_GIB);
    expect(copied(rig)).toBe(true);
    expect([rig.u64(csb), rig.u64(next), rig.readIndex(p), rig.state(p)]).toEqual([0n, 1n, 1, ContextState.STOP_FN]);
    expect([rig.isValid(p, 0), rig.isValid(p, 1), rig.reg(Reg.ERR_WRT)]).toEqual([false, true, 0n]);

    rig.setReg(Reg.CTL0, 3);
    rig.setState(p, ContextState.RUN);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect([rig.u64(csb), rig.u64(next), rig.readIndex(p), rig.fn.counters.bytes]).toEqual([0n, 0n, 2, FOUR_GIB]);
  });

  it('S-86 is given up by CXT_STOP with hs, which SYNC.STOP sees; CXT_START goes on behind it', () => {
    const { rig, admin, p, csb, next } = long();
    const [stopped, synced, started] = [0, 1, 2].map((n) => rig.csb(admin, n));
    rig.queue(admin, stop(1, 1, { hard: true, csb: stopped }), sync(FILTER.STOP, 1, 1, { csb: synced }));
    rig.stepUntil(() => rig.u64(synced) === 0n, 10);
    expect([rig.u64(stopped), rig.state(p), rig.readIndex(p), rig.isValid(p, 0)]).toEqual([0n, ContextState.STOP_SW, 1, false]);
    expect([rig.u64(csb), rig.u64(next), rig.reg(Reg.ERR_WRT)]).toEqual([1n, 1n, 0n]);
    rig.run(admin, start(1, 1, { csb: started }));
    expect([rig.u64(started), rig.u64(next), rig.readIndex(p)]).toEqual([0n, 0n, 2]);
    // Once means once: the copy that was given up is not completed later.
    expect(rig.u64(csb)).toBe(1n);
  });

  it('a soft CXT_STOP waits for its end while another context works on; SYNC.STOP waits with it', () => {
    const { rig, admin, p, other, csb } = long();
    const [stopped, synced] = [0, 1].map((n) => rig.csb(admin, n));
    rig.queue(admin, stop(1, 1, { csb: stopped }), sync(FILTER.STOP, 1, 1, { csb: synced }));
    for (let i = 0; i < 50; i++) {
      rig.queue(other, atomic(2, 8, LAYOUT.data + 2 * BEHIND, { a: 1n }));
      for (let turn = 0; turn < 6; turn++) rig.fn.step(1);
    }
    expect([rig.u64(stopped), rig.u64(synced), rig.state(p), rig.u64(csb)]).toEqual([0n, 1n, ContextState.STOPG_SW, 1n]);
    expect(rig.u64(LAYOUT.data + 2 * BEHIND)).toBe(50n);
    rig.setReg(Reg.CTL0, 2); // enough: hard
    rig.stepUntil(() => rig.fn.state === FunctionState.STOP, 20);
    expect([rig.state(p), rig.readIndex(p), rig.u64(csb)]).toEqual([ContextState.STOP_FN, 1, 1n]);
  });
});
